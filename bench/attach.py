"""One endpoint at a time, peers in alternation; and how cost grows while hundreds come and go."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from bench import peers
from bench.row import Row, Table, against, alternate, ms, tenth, timed
from nsbridge.engine import endpoints
from nsbridge.kernel import netns

if TYPE_CHECKING:
    from bench.peers import Peer
    from bench.row import Options

RESIDENT = 900
"""Number of an endpoint of each peer that stays, so that bridge and chains exist all the time."""


def single(options: Options) -> Row:
    """Attach and detach one namespace, one peer after the other, every other round backwards."""
    row = Row("attach", "One endpoint with a published port")
    here, row.missing = peers.installed()
    made = [peer() for peer in here if options.wants(peer.name)]
    for place, peer in enumerate(made):
        peer.setup()
        netns.create(peers.path(RESIDENT + place))
        peer.attach(RESIDENT + place)
    rounds = options.pick(20, 4)
    attached: dict[str, list[float]] = {peer.name: [] for peer in made}
    detached: dict[str, list[float]] = {peer.name: [] for peer in made}

    def once(peer: Peer) -> float:
        netns.create(peers.path(0))
        attached[peer.name].append(timed(lambda: peer.attach(0)))
        detached[peer.name].append(timed(lambda: peer.detach(0)))
        netns.remove(peers.path(0))
        return 0.0

    alternate({peer.name: lambda peer=peer: once(peer) for peer in made}, rounds)  # type: ignore[misc]
    kernel = _kernel_delete(made, rounds)
    _tables(row, made, {k: v[2:] for k, v in attached.items()}, {k: v[2:] for k, v in detached.items()}, kernel, rounds)
    return row


def _kernel_delete(made: list[Peer], rounds: int) -> list[float]:
    """Delete veth pairs with one message each: nobody's synchronous detach can be faster."""
    floor = next((peer.floor for peer in made if isinstance(peer, peers.RawPy)), None)
    found = []
    for _ in range(rounds if floor else 0):
        netns.create(peers.path(0))
        fd = os.open(peers.path(0), os.O_RDONLY | os.O_CLOEXEC)
        assert floor is not None
        floor.pair(fd, "rvk")
        os.close(fd)
        found.append(timed(lambda: floor.delete("rvk")))
        netns.remove(peers.path(0))
    return found


def _tables(
    row: Row,
    made: list[Peer],
    attached: dict[str, list[float]],
    detached: dict[str, list[float]],
    kernel: list[float],
    rounds: int,
) -> None:
    table = Table(["peer", "attach ms", "quiet", "x ours", "detach ms", "quiet", "x ours", "how"])
    table.note = f"Medians of {rounds} alternated rounds; *quiet* is the fastest tenth. Detach is synchronous."
    ours, gone = attached.get("nsbridge"), detached.get("nsbridge")
    for peer in made:
        up, down = attached[peer.name], detached[peer.name]
        table.add(
            peer.name,
            ms(up),
            tenth(up),
            against(ms(ours), ms(up)) if ours else "",
            ms(down),
            tenth(down),
            against(ms(gone), ms(down)) if gone else "",
            peer.about,
        )
    if kernel:
        delete = against(ms(gone), ms(kernel)) if gone else ""
        table.add("kernel alone", "", "", "", ms(kernel), tenth(kernel), delete, "one RTM_DELLINK of a veth pair")
    row.tables.append(table)
    middle = {name: ms(values) for name, values in attached.items()}
    if ours is not None and gone is not None:
        floor = attached.get("raw floor")
        row.target("attach against the raw floor", ms(ours) / ms(floor) if floor else None, "<=", 1.5)
        row.target("attach: netavark 1.14 takes", against(ms(ours), middle.get("netavark 1.14")), ">=", 15)
        row.target("attach: the CNI chain takes", against(ms(ours), middle.get("CNI chain")), ">=", 40)
        row.target("synchronous detach over the kernel's", ms(gone) - ms(kernel) if kernel else None, "<=", 2, "ms")
    for name, words in (("nsbridge command", "whole command"), ("nsbridge, launched", "whole command by a launcher")):
        command = middle.get(name)
        row.target(f"{words}: netavark 1.14 takes", against(command, middle.get("netavark 1.14")), ">=", 1.7)
        row.target(f"{words}: the CNI chain takes", against(command, middle.get("CNI chain")), ">=", 4)


CROWD: tuple[type[Peer], ...] = (
    peers.Nsbridge,
    peers.RawPy,
    peers.Batch,
    peers.Shell,
    peers.NewNetavark,
    peers.Netavark,
    peers.Cni,
)


def crowd(options: Options) -> Row:
    """Attach many with one peer (the options name it), each with a port; take them away again."""
    (kind,) = [peer for peer in CROWD if peer.name == options.peers[0]]
    row = Row("many", kind.name)
    count = options.pick(500, 60)
    peer = kind()
    peer.setup()
    for number in range(count):
        netns.create(peers.path(number))
    came = _until(options.seconds, count, peer.attach)
    gone = _until(options.seconds, len(came), peer.detach) if kind is not peers.Nsbridge else _leave(peer, len(came))
    for place, value in enumerate(came):
        row.point("attach", kind.name, place + 1, value * 1e3)
    for place, value in enumerate(gone):
        row.point("detach", kind.name, place + 1, value * 1e3)
    for name, values in (("came", came), ("gone", gone)):
        row.point("totals", name, len(values), sum(values))
    return row


def _until(seconds: float, count: int, action: object) -> list[float]:
    """Time an action for 0, 1, 2 … until the time is over."""
    assert callable(action)
    found: list[float] = []
    start = time.perf_counter()
    for number in range(count):
        found.append(timed(lambda number=number: action(number)))  # type: ignore[misc]
        if time.perf_counter() - start > seconds:
            break
    return found


def _leave(peer: Peer, count: int) -> list[float]:
    """Take all of ours away in one operation, as `down` and `network rm --force` do; the time is shared out."""
    assert isinstance(peer, peers.Nsbridge)
    names = [f"e{number}" for number in range(count)]
    seconds = timed(lambda: endpoints.disconnect_all(peer.host, "bench", names))
    return [seconds / count] * count


def many(rows: list[Row], options: Options) -> Row:
    """Put the crowds of all peers, each measured in a host of its own, side by side."""
    row = Row("many", f"{options.pick(500, 60)} endpoints with a port each")
    table = Table(["peer", "attached", "s", "first 20 ms", "last 20 ms", "growth", "taken away", "s", "ms each"])
    table.note = f"Each in a fresh host of its own. A peer is stopped after {options.seconds:.0f} s."
    each: dict[str, tuple[float, float, float]] = {}
    for one in rows:
        totals = one.series.pop("totals")
        (came, came_s), (gone, gone_s) = totals["came"][0], totals["gone"][0]
        values = [y / 1e3 for _, y in one.series["attach"][one.title]]
        first, last = ms(values[1:21]), ms(values[-20:])
        each[one.title] = (came_s / came, gone_s / gone, last / first)
        table.add(one.title, int(came), came_s, first, last, last / first, int(gone), gone_s, gone_s / gone * 1e3)
        for chart, lines in one.series.items():
            row.series.setdefault(chart, {}).update(lines)
    row.tables.append(table)
    ours = each.get("nsbridge")
    if ours:
        for name, up in (("netavark 1.14", 40), ("CNI chain", 100)):
            theirs = each.get(name)
            row.target(f"many attached: {name} takes", theirs[0] / ours[0] if theirs else None, ">=", up)
        row.target("the last twenty against the first twenty", ours[2], "<=", 2.5)
        theirs = each.get("netavark 1.14")
        row.target("many taken away: netavark 1.14 takes", theirs[1] / ours[1] if theirs else None, ">=", 50)
    return row
