"""What fails half-way is walked back and says why: the host is as before."""

from __future__ import annotations

import os
import socket
import sys
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from crash import child, picture, recover, root
from lab import FreshHost, eventually, processes, sh

from nsbridge.engine import endpoints, gc, networks, services
from nsbridge.engine.endpoints import Wish
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.names import BRIDGE_GROUP, MARK_BIT
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment, Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsbridge.engine.host import Host

    Command = Callable[[Host], object]

pytestmark = pytest.mark.netns

WEB = Network("web", (Subnet(ip_network("10.9.0.0/24")), Subnet(ip_network("fd09::/64"))), ipv6=True, bridge="web")
TO_WEB = Attachment("web")
GUEST = "/run/netns/guest"
NEW = Wish("new", GUEST, TO_WEB, ports=(PublishedPort(80, 8080), PublishedPort(81, 8081)))
SERVICE = Service("job", ("sleep", "1000"), attachments=(TO_WEB,), ports=(PublishedPort(80, 8080),))


@pytest.fixture
def web(host: FreshHost) -> FreshHost:
    """A host with a network, an endpoint on it, and a guest that isn't."""
    host.netns("guest")
    host.netns("other")
    child(lambda host: networks.create(host, WEB))
    there = Wish(
        "there", "/run/netns/other", Attachment("web", ip_address("10.9.0.9")), ports=(PublishedPort(80, 8081),)
    )
    child(lambda host: endpoints.connect(host, there))
    child(lambda host: services.start(host, SERVICE))  # its network's hosts file stays with the network
    child(lambda host: services.remove(host, "job", force=True))
    return host


def refused(command: Command, *words: str) -> None:
    before = picture("guest", "other")
    lived = sorted(processes())
    error = child(command).error
    after = picture("guest", "other")
    assert after == before, "\n".join(sorted(set(after.splitlines()) ^ set(before.splitlines())))
    assert all(word in error for word in words), error
    assert eventually(lambda: sorted(processes()) == lived)
    assert not list((root() / "journal").iterdir())


def test_a_name_address_or_port_taken_by_another_endpoint(web: FreshHost) -> None:
    refused(lambda host: endpoints.connect(host, NEW.replace(name="there", ports=())), "Taken", "'there'")
    asked = NEW.replace(to=Attachment("web", ip_address("10.9.0.9")))
    refused(lambda host: endpoints.connect(host, asked), "Taken", "10.9.0.9", "'there'")
    # The first port is free and made; the second goes to another, so both go again.
    refused(lambda host: endpoints.connect(host, NEW), "PortTaken", "8081/tcp", "'there' of network 'web'")
    more = (PublishedPort(1, 7001), PublishedPort(2, 8081), PublishedPort(3, 7003))
    child(lambda host: endpoints.connect(host, NEW.replace(ports=())))
    refused(lambda host: endpoints.publish(host, "new", more), "PortTaken", "8081/tcp")
    taken = SERVICE.replace(ports=(PublishedPort(80, 8081),))
    refused(lambda host: services.start(host, taken), "PortTaken", "8081/tcp")
    refused(lambda host: services.run(host, taken), "PortTaken", "8081/tcp")


def test_a_port_taken_by_a_process(web: FreshHost) -> None:
    with socket.create_server(("127.0.0.1", 8080)):
        refused(lambda host: endpoints.connect(host, NEW), "PortTaken", "8080/tcp", "process")
        refused(lambda host: services.start(host, SERVICE), "PortTaken", "8080/tcp", "process")


def test_a_command_that_cannot_run(web: FreshHost) -> None:
    for service in (SERVICE.replace(command=("no-such-command",)), SERVICE.replace(working_dir="/no/such/place")):
        refused(lambda host, service=service: services.start(host, service), "no", "such")
        refused(lambda host, service=service: services.run(host, service), "no", "such")
    refused(lambda host: services.start(host, SERVICE.replace(user="nobody-knows")), "NotFound", "nobody-knows")


@pytest.mark.proves("row 83")
def test_a_namespace_that_goes_meanwhile(web: FreshHost) -> None:
    refused(lambda host: endpoints.connect(host, NEW.replace(netns="/run/netns/gone")), "NotFound", "/run/netns/gone")

    def vanishing(host: Host) -> object:
        real = host.kernel.netns_id
        asked = []

        def netns_id(path: str) -> int:
            """Answer, and when it was asked the second time, which is by `attach`, take the namespace away."""
            asked.append(found := real(path))
            if len(asked) == 2:
                sh("ip netns del guest")
            return found

        host.kernel.netns_id = netns_id  # type: ignore[method-assign]
        return endpoints.connect(host, NEW)

    before = picture("other")
    error = child(vanishing).error
    assert "guest" in error
    assert picture("other") == before.replace(f"netns {GUEST}\n", "").replace(f"name {GUEST}\n", "")


@pytest.mark.proves("S28")
def test_a_bridge_or_namespace_name_taken_by_somebody_else(host: FreshHost) -> None:
    host.netns("guest")
    host.netns("other")
    host.netns("job")
    child(lambda host: networks.create(host, WEB))
    refused(lambda host: services.start(host, SERVICE), "Taken", "/run/netns/job", "isn't ours")
    refused(lambda host: services.run(host, SERVICE), "Taken", "/run/netns/job", "isn't ours")
    child(lambda host: networks.remove(host, "web"))
    sh("ip link add web type veth peer name bew")
    refused(lambda host: networks.create(host, WEB), "Taken", "'web'")

    # Found out only by the kernel, when all that comes before the bridge is made already.
    def late(host: Host) -> object:
        host.kernel.link_index = lambda name: 0  # type: ignore[method-assign]
        return networks.create(host, WEB)

    refused(late, "KernelError", "'web'")


def test_somebody_elses_interface_inside(web: FreshHost) -> None:
    sh("ip -n guest link add eth7 type veth peer name thru; ip -n guest link set eth7 up")
    sh("ip -n guest link set thru up; ip -n guest addr add 10.77.0.1/24 dev eth7")
    sh("ip -n guest route add default via 10.77.0.2")
    refused(lambda host: endpoints.connect(host, NEW.replace(ifname="eth7")), "eth7")
    refused(lambda host: endpoints.connect(host, NEW.replace(ports=(), gateway=(4, 6))), "route")


def test_without_rights(web: FreshHost) -> None:
    """EPERM in the middle: the record and the lease are claimed, then the kernel says no."""
    before = picture("guest", "other")
    program = f"""
from nsbridge.wiring import open_host
from nsbridge.engine import endpoints
from nsbridge.model.service import Attachment
endpoints.connect(open_host(print), endpoints.Wish("new", {GUEST!r}, Attachment("web")))
"""
    done = powerless(program)
    assert done.status == 1
    assert "NoPermission" in done.err
    assert picture("guest", "other") == before


def powerless(program: str):  # type: ignore[no-untyped-def]
    """Run Python in a process that may write files, but not configure networks."""
    names = "-net_admin,-sys_admin"
    argv = ["setpriv", f"--bounding-set={names}", f"--inh-caps={names}", sys.executable, "-c", program]
    return sh(argv, check=False)


@pytest.mark.proves("row 82")
def test_what_cannot_be_undone_now_is_undone_later(web: FreshHost) -> None:
    """A recovery that fails stops nobody, keeps the journal, and what stands on it isn't given away."""
    before = picture("guest", "other")
    counted = child(lambda host: endpoints.connect(host, NEW))
    child(lambda host: endpoints.disconnect(host, "web", "new"))
    at = max(n for n, point in enumerate(counted.seen) if point.startswith("_send"))
    assert child(lambda host: endpoints.connect(host, NEW), at).killed
    done = powerless("from nsbridge.wiring import open_host; print(len(open_host(print).store.endpoints()))")
    assert done.status == 0, done.err
    assert "can't undo what a killed command left (connect new to web)" in done.out
    assert done.out.endswith("2\n"), "its record stays, so nobody takes its name or address"
    assert len(list((root() / "journal").iterdir())) == 1
    assert "undid what a killed command left: connect new to web" in recover().said
    assert picture("guest", "other") == before


def test_a_fresh_interpreter_recovers_a_service(web: FreshHost) -> None:
    """What is in the journal and the records can be read by a process that has imported nothing else."""
    before = picture("guest", "other")
    lived = sorted(processes())
    counted = child(lambda host: services.start(host, SERVICE))
    child(lambda host: services.remove(host, "job", force=True))
    before = picture("guest", "other")
    at = max(n for n, point in enumerate(counted.seen) if "b'go'" in point)
    assert child(lambda host: services.start(host, SERVICE), at + 1).killed
    assert sorted(processes()) != lived
    done = sh([sys.executable, "-c", "from nsbridge.wiring import open_host; open_host(print)"])
    assert "undid what a killed command left: start job" in done.out
    assert picture("guest", "other") == before
    assert eventually(lambda: sorted(processes()) == lived)


def test_recovery_waits_for_nobody_and_touches_nothing_in_flight(web: FreshHost) -> None:
    assert child(lambda host: endpoints.connect(host, NEW.replace(ports=())), 25).killed

    def slow(host: Host) -> None:
        """An operation of another process is under way; meanwhile one more command comes."""
        with host.store.lock(shared=True), host.operation("something else") as op:
            op.create("networks/half.json", "half")
            assert not sh([sys.executable, "-c", "from nsbridge.wiring import open_host; open_host(print)"]).out
            assert len(list((root() / "journal").iterdir())) == 2
            raise AssertionError

    pid = os.fork()
    if not pid:
        try:
            from nsbridge.wiring import open_host

            host = open_host.__globals__["Host"]
            kernel = open_host.__globals__["LinuxKernel"]()
            slow(host(kernel, open_host.__globals__["Store"](str(root()))))
        except AssertionError:
            os._exit(0)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not (root() / "networks" / "half.json").exists()
    assert "undid" in recover().said


def test_killed_while_it_runs(web: FreshHost) -> None:
    """`run` killed: command and its children die; what others added to the service meanwhile goes too."""
    before = picture("guest", "other")
    lived = sorted(processes())
    service = SERVICE.replace(command=("sh", "-c", "sleep 1000 & sleep 1001"), foreground=True)
    pid = os.fork()
    if not pid:
        from nsbridge.wiring import open_host

        os._exit(services.run(open_host(), service))
    assert eventually(lambda: any("sleep 1001" in line for line in processes().values()))
    more = (PublishedPort(90, 9090),)
    assert not child(lambda host: endpoints.publish(host, "job", more)).error
    child(lambda host: None)
    assert (root() / "services" / "job.json").exists(), "it runs, so nobody's recovery touches it"
    held = [
        os.readlink(path)
        for one in processes()
        for path in Path(f"/proc/{one}/fd").glob("*")
        if one not in lived and one != pid
    ]
    assert not [path for path in held if path.startswith(str(root()))], "locks must not outlive us in the command"
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    assert "finished what a killed command left: run job" in recover().said
    assert picture("guest", "other") == before
    assert eventually(lambda: sorted(processes()) == lived)


@pytest.mark.proves("row 86")
def test_a_table_flushed_meanwhile(web: FreshHost) -> None:
    """Somebody empties the firewall while a command is half-way dead: recovery still undoes the rest."""
    counted = child(lambda host: endpoints.connect(host, NEW.replace(ports=())))
    child(lambda host: endpoints.disconnect(host, "web", "new"))
    again = NEW.replace(ports=(PublishedPort(80, 8080),))
    for at in range(10, len(counted.seen) - 5, 7):
        before = picture("guest", "other")
        assert child(lambda host: endpoints.connect(host, NEW.replace(ports=())), at).killed
        sh("nft flush ruleset")
        assert "undid" in recover().said
        assert not child(lambda host: networks.ensure(host, "web")).error
        assert not child(lambda host: endpoints.connect(host, again)).error
        child(lambda host: endpoints.disconnect(host, "web", "new"))
        assert picture("guest", "other") == before


@pytest.mark.proves("row 87")
def test_gc_takes_what_nothing_accounts_for_and_nothing_else(web: FreshHost) -> None:
    """Killed at each point, too."""
    sh("ip link add theirs type veth peer name srieht; nft add table inet theirs")
    before = picture("guest", "other")

    def leave_things() -> None:
        sh(
            f"ip link add nsb0123456789ab group {BRIDGE_GROUP} type veth peer name stray;"
            "nft add element inet nsbridge publish4 '{ tcp . 1234 : 10.9.0.3 . 80 }';"
            f"echo x > {root()}/leases/web/10.9.0.200; echo x > {root()}/networks/.x.json.1999999.1.new"
        )

    leave_things()
    told = child(lambda host: host.say("; ".join(gc.collect(host, dry_run=True)))).said
    assert all(word in told for word in ("nsb0123456789ab", "1234", "10.9.0.200")), told
    points = child(gc.collect).seen
    assert len(points) >= 5
    for at in range(len(points)):
        leave_things()
        assert child(gc.collect, at).killed
        assert not child(gc.collect).error
        assert picture("guest", "other") == before


def test_gc_takes_our_rule_from_a_chain_where_it_has_no_use(host: FreshHost) -> None:
    """As it is left by an iptables that outlived the command that started it."""
    sh("iptables-nft -P FORWARD DROP")
    child(lambda host: None)
    before = picture()
    sh(f"iptables-nft -I FORWARD -m mark --mark {MARK_BIT}/{MARK_BIT} -m comment --comment nsbridge -j ACCEPT")
    assert picture() != before
    assert not child(gc.collect).error
    assert picture() == before


def test_recovery_killed_at_every_point_too(web: FreshHost) -> None:
    before = picture("guest", "other")
    new = NEW.replace(ports=(PublishedPort(80, 8080),))
    for command, back in (
        (lambda host: endpoints.connect(host, new), lambda host: endpoints.disconnect(host, "web", "new")),
        (lambda host: services.start(host, SERVICE), lambda host: services.remove(host, "job", force=True)),
    ):
        counted = child(command)
        child(back)
        assert child(command, len(counted.seen) - 3).killed
        points = len(child(lambda host: None).seen)
        assert points > 10
        for at in range(points - 1):
            assert child(command, len(counted.seen) - 3).killed
            assert child(lambda host: None, at).killed
            recover()
            assert picture("guest", "other") == before, at
