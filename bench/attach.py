"""One endpoint at a time, peers in alternation; and how cost grows while hundreds come and go."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from bench import peers
from bench.row import Row, Table, alternate, more, ms, paired, tenth, timed
from nsbridge.engine import endpoints
from nsbridge.kernel import netns

if TYPE_CHECKING:
    from bench.floor import Floor
    from bench.peers import Peer
    from bench.row import Options

WHAT_DELETE = "one RTM_DELLINK of a veth pair"

PAUSE_S = 0.05
"""After a namespace has gone the kernel still takes it apart, under locks that the next peer would wait for."""

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
    rounds = options.pick(30, 4)
    attached: dict[str, list[float]] = {peer.name: [] for peer in made}
    detached: dict[str, list[float]] = {peer.name: [] for peer in made}
    kernel: list[float] = []

    def once(peer: Peer) -> float:
        netns.create(peers.path(0))
        attached[peer.name].append(timed(lambda: peer.attach(0)))
        detached[peer.name].append(timed(lambda: peer.detach(0)))
        netns.remove(peers.path(0))
        time.sleep(PAUSE_S)
        return 0.0

    cases = {peer.name: lambda peer=peer: once(peer) for peer in made}  # type: ignore[misc]
    floor = next((peer.floor for peer in made if isinstance(peer, peers.RawPy)), None)
    if floor is not None:
        cases["kernel alone"] = lambda: _kernel_delete(floor, kernel)
    alternate(cases, rounds)
    _tables(row, made, {k: v[2:] for k, v in attached.items()}, {k: v[2:] for k, v in detached.items()}, kernel[2:])
    if floor is not None and "nsbridge" in cases:
        # Both wait some 20 ms for RCU, give or take 5: among these two milliseconds are seen in many rounds alone.
        both = {name: cases[name] for name in ("nsbridge", "kernel alone")}
        alternate(both, many := options.pick(150, 4), warm=0)
        over = more(detached["nsbridge"][-many:], kernel[-many:])
        row.target(f"synchronous detach over the kernel's, in {many} rounds of just these", over, "<=", 2, "ms")
    return row


def _kernel_delete(floor: Floor, found: list[float]) -> float:
    """Delete a veth pair with one message: nobody's synchronous detach can be faster."""
    netns.create(peers.path(0))
    fd = os.open(peers.path(0), os.O_RDONLY | os.O_CLOEXEC)
    floor.pair(fd, "rvk")
    os.close(fd)
    found.append(timed(lambda: floor.delete("rvk")))
    netns.remove(peers.path(0))
    time.sleep(PAUSE_S)
    return 0.0


def _tables(
    row: Row,
    made: list[Peer],
    attached: dict[str, list[float]],
    detached: dict[str, list[float]],
    kernel: list[float],
) -> None:
    table = Table(["peer", "attach ms", "quiet", "x ours", "detach ms", "quiet", "x ours", "how"])
    rounds = max(map(len, attached.values()), default=0)
    table.note = (
        f"Medians of {rounds} alternated rounds, ratios of each round by itself; *quiet* is the fastest tenth. "
        "Detach is synchronous."
    )
    ours, gone = attached.get("nsbridge"), detached.get("nsbridge")
    for peer in made:
        up, down = attached[peer.name], detached[peer.name]
        table.add(
            peer.name,
            ms(up),
            tenth(up),
            paired(ours, up) or "",
            ms(down),
            tenth(down),
            paired(gone, down) or "",
            peer.about,
        )
    if kernel:
        table.add("kernel alone", "", "", "", ms(kernel), tenth(kernel), paired(gone, kernel) or "", WHAT_DELETE)
    row.tables.append(table)
    new, chain = attached.get("netavark 1.14"), attached.get("CNI chain")
    row.target("attach against the raw floor", paired(attached.get("raw floor"), ours), "<=", 1.5)
    row.target("attach: netavark 1.14 takes", paired(ours, new), ">=", 15)
    row.target("attach: the CNI chain takes", paired(ours, chain), ">=", 40)
    for name, words in (("nsbridge command", "whole command"), ("nsbridge, launched", "whole command by a launcher")):
        row.target(f"{words}: netavark 1.14 takes", paired(attached.get(name), new), ">=", 1.7)
        row.target(f"{words}: the CNI chain takes", paired(attached.get(name), chain), ">=", 4)


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
