"""SIGKILL at every effect of every command: the next command finishes it or undoes it, and nothing is lost or left.

For each case the effects are counted first. Then, for each of them: the command is killed there, the next command
recovers, and what there is must be what there was before the command or what there is after it, and, taken back by
its own command, the first picture again, byte for byte. The same command again must work from whatever was
recovered; since most points lead to the same few pictures, that is tried from each new one, and from every fourth.
"""

from __future__ import annotations

import os
import time
import traceback
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
from crash import child, picture, recover, root
from lab import FreshHost, eventually, processes, sh

from nsbridge import files
from nsbridge.engine import endpoints, networks, services, topology
from nsbridge.engine.endpoints import Wish
from nsbridge.kernel import libc, sandbox
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment, Service, Topology

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsbridge.engine.host import Host

    Command = Callable[[Host], object]

pytestmark = pytest.mark.netns

WORKERS = 3
MARK = "NSBRIDGE_TEST_WORKER"
"""In the environment of all that a worker's commands start, so that workers can tell theirs apart."""

MS_PRIVATE = 1 << 18
"""<linux/mount.h>"""

EXAMPLES = Path(__file__).parents[2] / "examples"
WEB = Network("web", (Subnet(ip_network("10.9.0.0/24")), Subnet(ip_network("fd09::/64"))), ipv6=True, bridge="web")
FIXED = Attachment("web", ip_address("10.9.0.7"), ip_address("fd09::7"), aliases=("www",))
PORTS = (PublishedPort(80, 8080), PublishedPort(53, 5353, "udp", ip_address("127.0.0.1")))
MORE = (
    PublishedPort(81, 8081),
    PublishedPort(82, 8082, "tcp", ip_address("::1")),
    PublishedPort(9000, 9000, count=10),
    PublishedPort(83, 8083, share=True),
)


def connect(host: Host) -> object:
    return endpoints.connect(host, Wish("guest", "/run/netns/guest", FIXED, ports=PORTS))


def disconnect(host: Host) -> object:
    return endpoints.disconnect(host, "web", "guest")


@dataclass(frozen=True)
class Case:
    """A command, what must be there before it, and what takes it back.

    whole: it is one operation, so it is there in full or not at all; else it is several, each of them whole. least:
    how many effects it has at least. shell: prepares the host. inside: namespaces whose inside is looked at, too.
    """

    command: Command
    back: Command
    before: tuple[Command, ...] = ()
    whole: bool = True
    least: int = 10
    shell: str = ""
    after: tuple[Command, ...] = ()
    inside: tuple[str, ...] = ("guest",)


def every_point(case: Case, name: str) -> None:
    """Share the points among workers, each with a host of its own: most of the time goes by in waiting."""
    began = time.monotonic()
    workers = [fork(lambda number=number: every_third_point(case, number)) for number in range(WORKERS)]  # type: ignore[misc]
    reports = [report(worker) for worker in workers]
    for status, text in reports:
        assert status == 0, text
    points = {text for _, text in reports}
    assert len(points) == 1, "a command has the same effects in the same order each time"
    (count,) = points
    assert int(count) >= case.least, count
    print(f"{name}: killed at each of {count} points, {time.monotonic() - began:.0f} s")


def fork(work: Callable[[], object]) -> tuple[int, int]:
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        _work(work, writing)
    os.close(writing)
    return pid, reading


def _work(work: Callable[[], object], writing: int) -> NoReturn:
    try:
        os.environ[MARK] = str(os.getpid())
        libc.unshare(libc.CLONE_NEWNS)
        libc.mount("none", "/", MS_PRIVATE | libc.MS_REC)
        libc.unshare()
        sandbox.furnish()
        sh("ip netns add guest; ip -n guest link set lo up")
        os.write(writing, str(work()).encode())
    except BaseException:
        os.write(writing, traceback.format_exc().encode())
        os._exit(1)
    os._exit(0)


def report(worker: tuple[int, int]) -> tuple[int, str]:
    with os.fdopen(worker[1]) as pipe:
        text = pipe.read()
    return os.waitpid(worker[0], 0)[1], text


def at_rest(case: Case) -> str:
    """The picture once it stands still: the kernel adds an IPv6 address's own routes a little later, by a queue."""
    found = picture(*case.inside)
    while True:
        time.sleep(0.1)
        last, found = found, picture(*case.inside)
        if last == found:
            return found


def settling(case: Case, *expected: str) -> str:
    """The picture when it is one of these, or what it is after a second."""
    found = [picture(*case.inside)]

    def there() -> bool:
        found.append(picture(*case.inside))
        return found[-1] in expected

    if found[-1] not in expected:
        eventually(there, timeout_s=1)
    return found[-1]


def every_third_point(case: Case, first: int) -> int:
    sh(case.shell)
    for command in (*case.before, case.command, case.back):  # leaves empty folders, resolv.conf and cursors behind
        assert not (done := child(command)).error, done.error
    start = at_rest(case)
    before = living()
    counted = child(case.command)
    assert not counted.error, counted.error
    end = at_rest(case)
    child(case.back)
    assert settling(case, start) == start
    tried: set[str] = set()
    for at in range(first, len(counted.seen), WORKERS):
        where = f"killed before {at}, {counted.seen[at]}"
        assert child(case.command, at).killed, where
        said = recover().said
        assert not list((root() / "journal").iterdir()), where
        found = settling(case, start, end) if case.whole else picture(*case.inside)
        if case.whole:
            assert found in (start, end), f"{where}; {said}\n" + difference(start, found)
        if found != end and (found not in tried or at % 4 == 1):
            tried.add(found)
            again = child(case.command)
            assert not again.error, f"{where}; {said}; {again.error}"
            found = settling(case, end)
            assert found == end, f"{where}; {said}\n" + difference(end, found)
        if found != start:
            back = child(case.back)
            assert not back.error, f"{where}; {said}; {back.error}"
            found = settling(case, start)
            assert found == start, f"{where}; {said}\n" + difference(start, found)
        assert eventually(lambda: living() == before), f"{where}: {living()}"
    for command in case.after:
        child(command)
    return len(counted.seen)


def living() -> list[str]:
    """The command lines of all processes that this worker's commands started, without the numbers of descriptors."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    found = []
    for pid, line in processes().items():
        try:
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(line.rstrip(" 0123456789"))
        except OSError:  # it ended meanwhile
            continue
    return sorted(found)


def difference(expected: str, found: str) -> str:
    one, two = set(expected.splitlines()), set(found.splitlines())
    return "\n".join([f"- {row}" for row in sorted(one - two)] + [f"+ {row}" for row in sorted(two - one)])


def create(host: Host) -> object:
    return networks.create(host, WEB)


def remove(host: Host) -> object:
    return networks.remove(host, "web")


def publish(host: Host) -> object:
    return endpoints.publish(host, "guest", MORE)


def unpublish(host: Host) -> object:
    return endpoints.unpublish(host, "guest", MORE)


def connect_default(host: Host) -> object:
    return endpoints.connect(host, Wish("guest", "/run/netns/guest", Attachment("default", ip_address("10.201.0.9"))))


def disconnect_default(host: Host) -> object:
    return endpoints.disconnect(host, "default", "guest")


def example(name: str, command: str = "sleep 1000") -> Topology:
    """An example, its commands replaced by one that doesn't cost half a second to start."""
    found = files.read(EXAMPLES / name)
    subnets = {network.name: network.subnets[0].network for network in found.networks if network.subnets}

    def fixed(service: Service, number: int) -> Service:
        """With addresses of its own choice: automatic ones differ from try to try, since a used one rests."""
        on = tuple(one.replace(ipv4=one.ipv4 or subnets[one.network][number]) for one in service.attachments)
        return service.replace(attachments=on, command=tuple(command.split()))

    return found.replace(services=tuple(fixed(one, 10 + number) for number, one in enumerate(found.services)))


DOCKER, TWO = example("docker-bridge.yaml"), example("two-networks.yaml")
# One service on both networks, one on the outer, no command: what matters, at a third of the cost.
TWO = TWO.replace(
    services=tuple(one.replace(command=(), after=()) for one in TWO.services if one.name != "db"),
)
NS1, NS2 = DOCKER.services
ONE = DOCKER.replace(services=(NS1, NS2.replace(command=())))
"""One that runs a command and a namespace alone: starting a command is most of the time."""
EDITED = DOCKER.replace(
    services=(
        NS1.replace(ports=(PublishedPort(80, 9088),)),
        NS2.replace(command=("sleep", "2000")),
        NS2.replace(name="ns3", attachments=(Attachment("ns_br", ip_address("175.18.0.9")),), ports=()),
    )
)


def up(wanted: Topology) -> Command:
    return lambda host: topology.up(host, wanted, remove_orphans=True)


def down(wanted: Topology) -> Command:
    return lambda host: topology.down(host, wanted.project, 1.0)


def run(host: Host) -> None:
    networks_of = (Attachment("web"),)
    service = Service("job", ("true",), attachments=networks_of, ports=PORTS, foreground=True)
    assert services.run(host, service) == 0


JOB = Service("job", mode="none")


def start_job(host: Host) -> object:
    return services.start(host, JOB)


def connect_job(host: Host) -> object:
    return endpoints.connect(host, Wish("job", JOB.netns, FIXED, ports=PORTS))


def disconnect_job(host: Host) -> object:
    return endpoints.disconnect(host, "web", "job")


def remove_job(host: Host) -> object:
    return services.remove(host, "job")


LAN = Network("lan", (Subnet(ip_network("10.8.0.0/24")), Subnet(ip_network("fd08::/64"))), ipv6=True, bridge="lan")
PAIR = Service("pair", attachments=(FIXED, Attachment("lan", ip_address("10.8.0.7"), ip_address("fd08::7"))))


def start_pair(host: Host) -> object:
    networks.create(host, LAN)
    return services.start(host, PAIR)


def disconnect_pair(host: Host) -> object:
    return endpoints.disconnect(host, "web", "pair")


def connect_pair(host: Host) -> object:
    return endpoints.connect(host, Wish("pair", PAIR.netns, FIXED))


def remove_pair(host: Host) -> object:
    services.remove(host, "pair")
    return networks.remove(host, "lan")


DROPS = "iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP"

CASES = {
    "network create": Case(create, remove, least=30),
    "network rm": Case(remove, create, (create,), least=12),
    "connect": Case(connect, disconnect, (create,), least=30),
    "disconnect": Case(disconnect, connect, (create, connect), least=10),
    "publish": Case(publish, unpublish, (create, connect), least=8),
    "unpublish": Case(unpublish, publish, (create, connect, publish), least=8),
    "connect to the default network": Case(connect_default, disconnect_default, least=60),
    "disconnect from the default network": Case(disconnect_default, connect_default, (connect_default,), least=24),
    "connect a service": Case(connect_job, disconnect_job, (create, start_job), least=30, after=(remove_job,)),
    "disconnect what holds the default route": Case(
        disconnect_pair, connect_pair, (create, start_pair), least=16, after=(remove_pair,), inside=("guest", "pair")
    ),
    "connect what shall hold the default route": Case(
        connect_pair,
        disconnect_pair,
        (create, start_pair, disconnect_pair),
        least=36,
        after=(remove_pair,),
        inside=("guest", "pair"),
    ),
    "up": Case(up(ONE), down(ONE), whole=False, least=100, shell=DROPS),
    "up of two networks": Case(up(TWO), down(TWO), whole=False, least=100),
    "up after an edit": Case(up(EDITED), up(DOCKER), (up(DOCKER),), whole=False, least=60, after=(down(DOCKER),)),
    "down": Case(down(ONE), up(ONE), (up(ONE),), least=30, whole=False, after=(down(ONE),)),
    "run": Case(run, lambda host: None, (create,), whole=False, least=60),
}


@pytest.mark.proves("row 23", "row 82")
@pytest.mark.parametrize("name", CASES)
def test_killed_at_every_point(host: FreshHost, name: str) -> None:
    every_point(CASES[name], name)
