"""What the engine asks of a kernel. `linux.py` answers for real, `fake.py` by simulation."""

from __future__ import annotations

from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Protocol

    from nsbridge.explain.world import Source
    from nsbridge.firewall.ruleset import Element
    from nsbridge.firewall.seen import Firewall
    from nsbridge.model.endpoint import Endpoint
    from nsbridge.plan.step import Step
    from nsbridge.state.kernel_state import KernelState
    from nsbridge.state.things import Address_, ForeignAccept, Interface_, Network_, Thing


class HostFacts(Value):
    """What decisions about a host's networks need to know of it.

    mtu: of the link that holds the default route, bytes, 1500 without one.
    routes: (destination, link, gateway or "") of every route and on-link subnet, default routes left out.
    sysctls: (key, value) of those we might raise: forwarding, and accept_ra of every uplink.
    droppers: other people's forward chains that drop; each wants our accept. routers: names of other software's
    rules which need forwarding. bridges: those that aren't ours. uplinks: links with a default route. bridge_filter:
    nf_tables can filter what passes between the ports of a bridge. bridge_calls: br_netfilter is there, so a bridge can
    show its frames to IP rules.
    """

    mtu: int = 1500
    routes: tuple[tuple[Network_, str], ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    droppers: tuple[ForeignAccept, ...] = ()
    routers: tuple[str, ...] = ()
    bridges: tuple[str, ...] = ()
    bridge_filter: bool = True
    bridge_calls: bool = True
    uplinks: tuple[str, ...] = ()

    def sysctl(self, key: str) -> str:
        """Return the value of a setting, "" when this kernel has none of that name."""
        return dict(self.sysctls).get(key, "")


class LinkFacts(Value):
    """A link of the host that isn't ours. mtu: bytes. options: of a bridge. master, master_kind: what it is in."""

    kind: str
    mtu: int
    mac: str
    addresses: tuple[Interface_, ...] = ()
    options: tuple[tuple[str, int], ...] = ()
    master: str = ""
    master_kind: str = ""


if TYPE_CHECKING:

    class Kernel(Protocol):
        """Effects and observations on one host namespace. Methods never change the caller's namespace."""

        def do(self, step: Step, forget: Iterable[Step] | None = None) -> None:
            """Carry out a step.

            forget: the steps, done by then, whose connections are forgotten with it (default: this one). For a host
            with many connections' room, looking for them takes 5 ms, so those of a whole removal are looked for once.

            Removing what is already gone is success. KernelError tells what was refused (`thing`, `errno`, the
            kernel's own text) and which of the step's things had been done before (`done`).
            """

        def find(self, things: Iterable[Thing]) -> tuple[Thing, ...]:
            """Return those of the things that exist and are ours, asking for each one alone (no dumps).

            A link counts as ours by its group, a map element by its data, the rest by being equal; a table that is
            there but damaged is returned as another value of the same identity.
            """

        def observe(self, namespaces: Iterable[str], settings: Iterable[tuple[str, str]] = ()) -> KernelState:
            """Read everything of ours on the host and everything in these namespaces (paths).

            settings: (namespace, key) of further settings to report, whatever their value.
            """

        def facts(self) -> HostFacts:
            """Read what decisions need. Costs a dump of routes and of base chains: not for hot paths."""

        def link_facts(self, name: str) -> LinkFacts | None:
            """Read a link of the host, None without one."""

        def require(self, feature: str) -> None:
            """Raise Unsupported unless this kernel has it; tried in a namespace of its own. Names: kernel/probe.py."""

        def link_index(self, name: str) -> int:
            """Return the ifindex of a link on the host, 0 without one."""

        def await_link(self, name: str) -> None:
            """Wait until a link on the host carries packets; return in any case, soon."""

        def settle(self) -> None:
            """Wait until every packet that was among the rules when this was called is through them."""

        def netns_id(self, path: str) -> int:
            """Return the inode of a namespace, 0 when the path opens none."""

        def host_id(self) -> str:
            """Name this host namespace: ``host`` for the machine's own, else ``ns-`` and its cookie."""

        def busy_port(self, proto: str, address: Any, first: int, last: int) -> int:
            """Return the first port of a range that a process of the host holds, 0 without one.

            address: None for any address of both families.
            """

        def supports(self, proto: str) -> bool:
            """Tell whether this kernel has that transport protocol."""

        def has_address(self, address: Any) -> bool:
            """Tell whether an address is one of the host's own."""

        def addresses_of(self, link: str) -> tuple[Address_, ...]:
            """Return the addresses of a link of the host, none without such a link. Link-local ones are left out."""

        def free_port(self, proto: str) -> int:
            """Return a host port that no process holds now, chosen by the kernel (ip_local_port_range)."""

        def setting(self, key: str) -> str:
            """Return the value of a setting of the host (its path under /proc/sys), "" without one."""

        def choose_firewall(self, wish: str) -> str:
            """Return the firewall to remember for a wish: "" for nf_tables, or which variant of iptables it means.

            Unsupported when it isn't installed, KernelError when this kernel doesn't take it.
            """

        def admin_rules(self, table: tuple[str, str]) -> int:
            """Return how many rules the administrator has put into the chain of a table that is theirs."""

        def claimed(self, link: str, addresses: Iterable[Address_]) -> dict[Address_, str]:
            """Ask on a link of the host who has these addresses; return the MAC of each that is taken. Takes 0.3 s."""

        def announce(self, endpoint: Endpoint) -> None:
            """Tell the neighbours which MAC an endpoint's addresses have. It is attached already."""

        def element_data(self, table: tuple[str, str], name: str, key: tuple[Any, ...]) -> tuple[Any, ...] | None:
            """Return the data of a map element, None without one."""

        def every_rule(self) -> Firewall:
            """Read every rule of the host, whoever made it. Costs a dump of all tables, but of no set."""

        def elements(self, table: tuple[str, str], name: str) -> tuple[Element, ...]:
            """Return all elements of a set, none without it. Costs a dump of that set: for those that hold little."""

        def world(self, places: Callable[[], Iterable[str]], holder: Callable[[Address_], str | None]) -> Source:
            """Return what a prediction reads namespaces by.

            places: paths of namespaces in which the other end of a pair may be. holder: the namespace that an address
            belongs to by our records, None when they don't say.
            """
