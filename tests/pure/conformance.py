"""What every Kernel must do: one suite, run over FakeKernel (test_fake_kernel.py) and Linux (tests/netns).

A subclass says how a kernel is made: ``fresh`` is an empty host in which somebody else made the namespace SPACE, has
an uplink up0 that takes router advertisements, and an iptables-nft FORWARD chain that drops.
"""

from __future__ import annotations

import errno
from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from worlds import states

from nsbridge.desired.ruleset import skeleton
from nsbridge.engine.entries import Began, walk_back
from nsbridge.errors import KernelError
from nsbridge.firewall.ruleset import Element, Span
from nsbridge.model.names import BRIDGE_GROUP, PORT_GROUP, TABLE
from nsbridge.plan.diff import adding, diff, removing
from nsbridge.plan.step import Step
from nsbridge.state.kernel_state import KernelState
from nsbridge.state.things import HOST, Address, ForeignAccept, Link, Netns, Route, Sysctl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from nsbridge.kernel.interface import Kernel
    from nsbridge.state.things import Thing

SPACE = "/run/netns/theirs"
OURS = "/run/netns/ours"
GONE = "/run/netns/gone"

BRIDGE = Link(HOST, "br-one", "bridge", group=BRIDGE_GROUP, mac="02:00:00:00:00:01", mtu=1400, alias="nsbridge: one")


def pair(name: str = "port1", path: str = SPACE, **more: Any) -> tuple[Link, Link]:
    outer = Link(
        HOST, name, "veth", group=PORT_GROUP + 7, master="br-one", mtu=1400, peer_netns=path, peer_name="eth0",
        hairpin=True, autoconf=False, alias="nsbridge: a port", **more,
    )  # fmt: skip
    return outer, Link(path, "eth0", "veth", mac="02:00:00:00:00:02", mtu=1400)


OUTER, INNER = pair()
GATEWAY4 = Address(HOST, "br-one", ip_interface("10.9.0.1/24"))
GATEWAY6 = Address(HOST, "br-one", ip_interface("fd09::1/64"))
ADDRESS4 = Address(SPACE, "eth0", ip_interface("10.9.0.2/24"))
ADDRESS6 = Address(SPACE, "eth0", ip_interface("fd09::2/64"))
ROUTE4 = Route(SPACE, ip_network("0.0.0.0/0"), "eth0", ip_address("10.9.0.1"))
ROUTE6 = Route(SPACE, ip_network("::/0"), "eth0", ip_address("fd09::1"))
ON_LINK = Route(SPACE, ip_network("192.0.2.0/24"), "eth0", metric=50)
SKELETON = skeleton()
MEMBER = Element(TABLE, "bridges", ("br-one",))
SUBNET = Element(TABLE, "home4", ("br-one", ip_network("10.9.0.0/24")))
PORT = Element(TABLE, "publish4", ("tcp", 8080), (ip_address("10.9.0.2"), 80))
OTHER_PORT = Element(TABLE, "publish4", ("tcp", 8081), (ip_address("10.9.0.2"), 81))
BOUND = Element(TABLE, "bound6", (ip_address("::1"), "udp", 53), (ip_address("fd09::2"), 53))
LOCALNET = Sysctl(HOST, "net/ipv4/conf/br-one/route_localnet", "1")
FORWARD = Sysctl(HOST, "net/ipv4/ip_forward", "1", was="0")
NO_RA = Sysctl(SPACE, "net/ipv6/conf/eth0/accept_ra", "0")

KINDS: tuple[tuple[str, tuple[Thing, ...], tuple[Thing, ...]], ...] = (
    ("a namespace", (), (Netns(OURS),)),
    ("a bridge", (), (BRIDGE,)),
    ("a pair", (BRIDGE,), (OUTER, INNER)),
    ("an IPv4 address of the host", (BRIDGE,), (GATEWAY4,)),
    ("an IPv6 address of the host", (BRIDGE,), (GATEWAY6,)),
    ("addresses inside", (BRIDGE, OUTER, INNER), (ADDRESS4, ADDRESS6)),
    ("routes inside", (BRIDGE, OUTER, INNER, ADDRESS4, ADDRESS6), (ROUTE4, ROUTE6, ON_LINK)),
    ("a link with a setting, which dies with it", (), (BRIDGE, LOCALNET)),
    ("a setting of the host", (), (FORWARD,)),
    ("our table", (), (SKELETON,)),
    ("a member of a set", (SKELETON,), (MEMBER,)),
    ("a subnet in an interval set", (SKELETON,), (SUBNET,)),
    ("published ports", (SKELETON,), (PORT, BOUND)),
    ("an accept in a foreign chain", (), (ForeignAccept("iptables-nft"),)),
)


REFUSED: dict[str, tuple[Any, ...]] = {
    "a bridge that is there": ((BRIDGE,), (BRIDGE,), BRIDGE, errno.EEXIST, ()),
    "a bridge that is there, after a namespace": (
        (BRIDGE,),
        (Netns(OURS), BRIDGE),
        BRIDGE,
        errno.EEXIST,
        (Netns(OURS),),
    ),
    "a pair whose inner name is taken": ((BRIDGE, OUTER, INNER), pair("port2"), None, errno.EEXIST, ()),
    "a port without its bridge": ((), (OUTER,), OUTER, errno.ENODEV, ()),
    "a pair into no namespace": ((BRIDGE,), (pair(path=GONE)[0],), pair(path=GONE)[0], errno.ENOENT, ()),
    "a namespace that is there": ((Netns(OURS),), (Netns(OURS),), Netns(OURS), errno.EEXIST, ()),
    "an address without its link": ((), (GATEWAY4,), GATEWAY4, errno.ENODEV, ()),
    "an address that is there, after another": (
        (BRIDGE, GATEWAY4),
        (GATEWAY6, GATEWAY4),
        GATEWAY4,
        errno.EEXIST,
        (GATEWAY6,),
    ),
    "an address inside without its link": ((), (ADDRESS4,), ADDRESS4, errno.ENODEV, ()),
    "an address in no namespace": ((), (ADDRESS4.replace(netns=GONE),), ADDRESS4.replace(netns=GONE), errno.ENOENT, ()),
    "a route in no namespace": (
        (),
        (Route(GONE, ROUTE4.dst, "eth0"),),
        Route(GONE, ROUTE4.dst, "eth0"),
        errno.ENOENT,
        (),
    ),
    "a route that is there": ((BRIDGE, OUTER, INNER, ADDRESS4, ROUTE4), (ROUTE4,), ROUTE4, errno.EEXIST, ()),
    "a route without its link": ((), (ON_LINK,), ON_LINK, errno.ENODEV, ()),
    "a setting without its link": ((), (LOCALNET,), LOCALNET, errno.ENOENT, ()),
    "a setting inside without its link": ((BRIDGE,), (NO_RA,), NO_RA, errno.ENOENT, ()),
    "a table that is there": ((SKELETON,), (SKELETON,), SKELETON, errno.EEXIST, ()),
    "an element without its table": ((), (PORT,), PORT, errno.ENOENT, ()),
    "a port that is taken, beside another": ((SKELETON, PORT), (OTHER_PORT, PORT), PORT, errno.EEXIST, ()),
    "a port that is taken, after a bridge": ((SKELETON, PORT), (BRIDGE, PORT), PORT, errno.EEXIST, (BRIDGE,)),
    "a port that goes elsewhere": (
        (SKELETON, PORT),
        (PORT.replace(data=(ip_address("10.9.0.9"), 9)),),
        None,
        errno.EEXIST,
        (),
    ),
    "a subnet that is there": ((SKELETON, SUBNET), (SUBNET,), SUBNET, errno.EEXIST, ()),
}
"""Setup, what is added then, what is refused of it (None: whatever comes first), errno, what had been done."""


def seen(kernel: Kernel, things: Iterable[Thing]) -> KernelState:
    """Observe where these things are; what they leave to the kernel to choose (MAC, MTU) is left out."""
    asked = KernelState(things)
    spaces = [thing.path if isinstance(thing, Netns) else getattr(thing, "netns", HOST) for thing in asked]
    settings_ = [(thing.netns, thing.key) for thing in asked.of(Sysctl)]
    found: list[Thing] = []
    for thing in kernel.observe([*dict.fromkeys((*spaces, SPACE))], settings_):
        wanted = asked.find(thing.identity)
        if isinstance(thing, Link) and isinstance(wanted, Link):
            names = [name for name, _ in wanted.options]
            thing = thing.replace(
                mac=wanted.mac and thing.mac,
                mtu=wanted.mtu and thing.mtu,
                options=tuple(option for option in thing.options if option[0] in names),
            )
        found.append(thing)
    return KernelState(found)


EMPTY = KernelState([Netns(SPACE)])


def do(kernel: Kernel, steps: Iterable[Step]) -> None:
    for step in steps:
        kernel.do(step)


def walked_back(kernel: Kernel, things: Iterable[Thing]) -> None:
    """Undo a step that failed half-way, as the engine does: what of it is there goes."""
    do(kernel, removing(kernel.find(things)))


class KernelConformance:
    fresh: ClassVar[Callable[[], AbstractContextManager[Kernel]]]
    examples: ClassVar[int] = 100

    @pytest.fixture
    def kernel(self) -> Any:
        with type(self).fresh() as kernel:
            yield kernel

    @pytest.mark.parametrize(("setup", "things"), [kind[1:] for kind in KINDS], ids=[kind[0] for kind in KINDS])
    def test_each_kind_is_made_found_seen_and_undone(
        self, kernel: Kernel, setup: tuple[Thing, ...], things: tuple[Thing, ...]
    ) -> None:
        do(kernel, adding(setup))
        before = seen(kernel, setup)
        assert before == EMPTY | setup
        assert kernel.find(things) == ()
        step = Step("add", things)
        kernel.do(step)
        assert kernel.find(things) == things
        assert seen(kernel, (*setup, *things)) == EMPTY | setup | things
        kernel.do(step.undo())
        assert kernel.find(things) == ()
        assert seen(kernel, setup) == before
        kernel.do(step.undo())
        assert seen(kernel, setup) == before

    @pytest.mark.parametrize(("setup", "things", "refused", "number", "done"), REFUSED.values(), ids=REFUSED)
    def test_what_cant_be_is_refused_alike_and_walked_back(
        self,
        kernel: Kernel,
        setup: tuple[Thing, ...],
        things: tuple[Thing, ...],
        refused: Thing | None,
        number: int,
        done: tuple[Thing, ...],
    ) -> None:
        do(kernel, adding(setup))
        before = seen(kernel, setup)
        with pytest.raises(KernelError) as caught:
            kernel.do(Step("add", things))
        assert caught.value.errno == number
        if refused is not None:
            assert caught.value.thing == refused
            assert set(caught.value.done) == set(done)
        walked_back(kernel, [thing for thing in things if thing not in setup])
        do(kernel, removing([thing for thing in things if isinstance(thing, Netns) and thing not in setup]))
        assert seen(kernel, setup) == before
        do(kernel, removing(setup))
        assert seen(kernel, ()) == EMPTY

    @pytest.mark.parametrize(
        ("first", "left"),
        [
            ((OUTER,), (BRIDGE, GATEWAY4, GATEWAY6, LOCALNET, SKELETON, MEMBER, PORT)),
            ((BRIDGE, OUTER), (SKELETON, MEMBER, PORT)),
            ((SKELETON,), (BRIDGE, GATEWAY4, GATEWAY6, LOCALNET, OUTER, INNER, ADDRESS4, ADDRESS6, ROUTE4, ROUTE6)),
        ],
        ids=["an outer end", "a bridge and its port", "the table"],
    )
    def test_what_stands_on_a_thing_goes_with_it(
        self, kernel: Kernel, first: tuple[Thing, ...], left: tuple[Thing, ...]
    ) -> None:
        things = (
            BRIDGE, GATEWAY4, GATEWAY6, LOCALNET, OUTER, INNER, ADDRESS4, ADDRESS6, ROUTE4, ROUTE6, SKELETON, MEMBER,
            PORT,
        )  # fmt: skip
        do(kernel, adding(things))
        assert seen(kernel, things) == EMPTY | things
        kernel.do(Step("remove", first))
        assert seen(kernel, left) == EMPTY | left
        do(kernel, removing(things))
        assert seen(kernel, ()) == EMPTY

    def test_a_namespace_takes_everything_in_it(self, kernel: Kernel) -> None:
        outer, inner = pair(path=OURS)
        things = (Netns(OURS), BRIDGE, outer, inner, ADDRESS4.replace(netns=OURS), ROUTE4.replace(netns=OURS))
        do(kernel, adding(things))
        assert seen(kernel, things) == EMPTY | things
        do(kernel, removing((Netns(OURS), outer)))
        assert seen(kernel, (BRIDGE, Netns(OURS))) == EMPTY | (BRIDGE,)
        assert kernel.netns_id(OURS) == 0

    def test_changes_are_made_and_undone(self, kernel: Kernel) -> None:
        before = (BRIDGE, OUTER, INNER, ADDRESS4, ROUTE4, SKELETON, PORT)
        after = (
            BRIDGE.replace(mtu=1300),
            OUTER.replace(hairpin=False, isolated=True, mtu=1300),
            INNER.replace(mac="02:00:00:00:00:99", mtu=1300),
            ADDRESS4,
            ROUTE4.replace(via=ip_address("10.9.0.254")),
            SKELETON,
            PORT.replace(data=(ip_address("10.9.0.2"), 8000)),
        )
        do(kernel, adding(before))
        plan = diff(seen(kernel, before), EMPTY | after)
        assert {step.verb for step in plan.steps} == {"change"}
        do(kernel, plan.steps)
        assert seen(kernel, after) == EMPTY | after
        do(kernel, [step.undo() for step in reversed(plan.steps)])
        assert seen(kernel, before) == EMPTY | before

    def test_elements_are_swapped_in_one_step(self, kernel: Kernel) -> None:
        """A deny that moves behind a new exception which it overlaps, as a policy's does."""
        host, everywhere = ip_network("10.9.0.2/32"), ip_network("0.0.0.0/0")
        old = Element(TABLE, "out4_1", (host, everywhere, "any", Span(0, 65535)), ("goto deny",))
        new = (
            Element(TABLE, "out4_1", (host, ip_network("10.9.0.3/32"), "tcp", 80), ("goto allow",)),
            old.replace(set="out4_2"),
        )
        do(kernel, adding((SKELETON, old)))
        step = Step("swap", new, (old,))
        kernel.do(step)
        assert seen(kernel, (SKELETON,)) == EMPTY | (SKELETON, *new)
        for _ in range(2):  # as recovery does after a crash, which may come again
            walk_back(kernel, None, [Began(step)])  # type: ignore[arg-type]
            assert seen(kernel, (SKELETON,)) == EMPTY | (SKELETON, old)
        kernel.do(Step("remove", (old,)))
        kernel.do(step)  # what is gone already doesn't matter
        assert seen(kernel, (SKELETON,)) == EMPTY | (SKELETON, *new)
        with pytest.raises(KernelError) as caught:
            kernel.do(Step("swap", (PORT, new[0]), (new[1],)))
        assert (caught.value.errno, caught.value.thing) == (errno.EEXIST, new[0])
        assert not caught.value.done
        assert seen(kernel, (SKELETON,)) == EMPTY | (SKELETON, *new)

    def test_small_questions(self, kernel: Kernel) -> None:
        do(kernel, adding((BRIDGE, SKELETON, PORT)))
        assert kernel.element_data(TABLE, "publish4", PORT.key) == PORT.data
        assert kernel.element_data(TABLE, "publish4", ("udp", 8080)) is None
        assert kernel.link_index("br-one") == kernel.link_index("br-one") > 0
        assert kernel.link_index("br-two") == 0
        assert kernel.netns_id(SPACE) == kernel.netns_id(SPACE) > 0
        assert kernel.netns_id(GONE) == 0
        assert kernel.host_id() == kernel.host_id()
        assert kernel.setting("net/ipv4/ip_forward") == "0"
        assert kernel.setting("net/ipv4/nothing_of_the_kind") == ""
        kernel.do(Step("add", (FORWARD,)))
        assert kernel.setting("net/ipv4/ip_forward") == "1"
        kernel.do(Step("remove", (FORWARD, PORT, BRIDGE)))
        assert kernel.setting("net/ipv4/ip_forward") == "0"
        assert kernel.element_data(TABLE, "publish4", PORT.key) is None
        assert kernel.link_index("br-one") == 0

    def test_facts(self, kernel: Kernel) -> None:
        facts = kernel.facts()
        assert facts.mtu == 1500
        assert facts.sysctl("net/ipv4/ip_forward") == "0"
        assert facts.sysctl("net/ipv6/conf/up0/accept_ra") == "1"
        assert facts.droppers == (ForeignAccept("iptables-nft"),)

    def test_ports_that_processes_hold(self, kernel: Kernel) -> None:
        """22/tcp is held on every address, 53/udp on 127.0.0.1 alone."""
        assert kernel.busy_port("tcp", None, 22, 22)
        assert kernel.busy_port("tcp", ip_address("127.0.0.1"), 22, 22)
        assert not kernel.busy_port("udp", None, 22, 22)
        assert not kernel.busy_port("tcp", None, 23, 23)
        port = kernel.free_port("tcp")
        assert 1024 <= port < 65536
        assert not kernel.busy_port("tcp", None, port, port)

    def test_drawn_hosts_are_built_seen_changed_and_removed(self) -> None:
        @settings(max_examples=self.examples, deadline=None, suppress_health_check=list(HealthCheck))
        @given(states(), states())
        def build(first: KernelState, second: KernelState) -> None:
            do(kernel, adding(first))
            there = seen(kernel, first)
            assert there == EMPTY | first
            assert set(kernel.find(first)) == set(first)
            for step in diff(first, second).steps:
                kernel.do(step)
            there = seen(kernel, second)
            assert there == EMPTY | second
            do(kernel, removing(second))
            do(kernel, removing(second))
            assert seen(kernel, ()) == EMPTY

        with type(self).fresh() as kernel:
            build()
