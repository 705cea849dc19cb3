"""`simulate` behind the `Kernel` interface: dry runs and unit tests meet the behaviour that explanations use."""

from __future__ import annotations

from nsbridge.errors import Unsupported
from nsbridge.firewall.ruleset import Element
from nsbridge.kernel.interface import HostFacts, LinkFacts
from nsbridge.state.kernel_state import KernelState
from nsbridge.state.simulate import simulate
from nsbridge.state.things import Address, Netns, Sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from nsbridge.firewall.seen import Firewall
    from nsbridge.model.endpoint import Endpoint
    from nsbridge.plan.step import Step
    from nsbridge.state.things import Address_, Thing


class FakeKernel:
    """A kernel that is a value.

    listening: (proto, port) pairs that host processes hold. namespaces: paths of those somebody else made.
    strangers: MACs of addresses that somebody else has; announced: endpoints whose neighbours were told.
    """

    def __init__(
        self,
        state: KernelState | None = None,
        *,
        facts: HostFacts | None = None,
        listening: Iterable[tuple[str, int]] = (),
        namespaces: Iterable[str] = (),
    ) -> None:
        self.state = (state or KernelState()) | [Netns(path) for path in namespaces]
        self.known = facts if facts is not None else HostFacts(sysctls=(("net/ipv4/ip_forward", "0"),))
        self.listening = frozenset(listening)
        self._indexes: dict[str, int] = {}
        self.strangers: dict[Address_, str] = {}
        self.announced: list[Endpoint] = []
        self.links: dict[str, LinkFacts] = {}

    def do(self, step: Step, forget: Iterable[Step] | None = None) -> None:
        """Simulate the step; raises what `simulate` raises."""
        self.state = simulate(self.state, step)
        for thing in step.things:
            if isinstance(thing, Sysctl) and step.verb != "change":
                self._set(thing.key, thing.value if step.verb == "add" else thing.was)

    def _set(self, key: str, value: str) -> None:
        if self.known.sysctl(key):
            pairs = tuple((k, value if k == key else v) for k, v in self.known.sysctls)
            self.known = self.known.replace(sysctls=pairs)

    def find(self, things: Iterable[Thing]) -> tuple[Thing, ...]:
        """Return those of the things that are in the state, equal."""
        return tuple(thing for thing in things if thing in self.state)

    def observe(self, namespaces: Iterable[str], settings: Iterable[tuple[str, str]] = ()) -> KernelState:
        """Return the state; all of it is ours."""
        return self.state

    def facts(self) -> HostFacts:
        """Return the facts it was made with, settings as they are by now."""
        return self.known

    def link_facts(self, name: str) -> LinkFacts | None:
        """Return what it was told of a link."""
        return self.links.get(name)

    def require(self, feature: str) -> None:
        """Have everything but netem, as many kernels do."""
        if feature == "netem":
            raise Unsupported("this kernel has no netem")

    def link_index(self, name: str) -> int:
        """Return a number for a link that exists, else 0; stable for one name."""
        if self.state.find(("link", "", name)) is None and name not in self.links:
            return 0
        return self._indexes.setdefault(name, len(self._indexes) + 2)

    def await_link(self, name: str) -> None:
        """Nothing to wait for."""

    def settle(self) -> None:
        """No packets are under way."""

    def netns_id(self, path: str) -> int:
        """Return a number for a namespace that exists, else 0."""
        return 0 if self.state.find(("netns", path)) is None else 1 + sum(map(ord, path))

    def host_id(self) -> str:
        """Name it ``fake``."""
        return "fake"

    def busy_port(self, proto: str, address: Any, first: int, last: int) -> int:
        """Return the first port of a range on which it was told that a process listens, 0 without one."""
        return min((port for which, port in self.listening if which == proto and first <= port <= last), default=0)

    def supports(self, proto: str) -> bool:
        """Tell that it has every protocol."""
        return True

    def has_address(self, address: Any) -> bool:
        """Tell that every address is the host's."""
        return True

    def addresses_of(self, link: str) -> tuple[Address_, ...]:
        """Return the addresses of a link."""
        return tuple(one.address.ip for one in self.state.of(Address) if (one.netns, one.link) == ("", link))

    def elements(self, table: tuple[str, str], name: str) -> tuple[Element, ...]:
        """Return the elements of a set."""
        return tuple(one for one in self.state.of(Element) if (one.table, one.set) == (table, name))

    def free_port(self, proto: str) -> int:
        """Return the first port from 49152 on that nothing uses (RFC 6335 §6)."""
        taken = {key for thing in self.state for key in [getattr(thing, "key", ())]}
        return next(port for port in range(49152, 65536) if (proto, port) not in taken | self.listening)

    def setting(self, key: str) -> str:
        """Return what the facts say."""
        return self.known.sysctl(key)

    def choose_firewall(self, wish: str) -> str:
        """Hold everything alike: there is nothing to remember."""
        return ""

    def admin_rules(self, table: tuple[str, str]) -> int:
        """Return 0: nobody else is here."""
        return 0

    def claimed(self, link: str, addresses: Iterable[Address_]) -> dict[Address_, str]:
        """Return what it was told that strangers have."""
        return {address: self.strangers[address] for address in addresses if address in self.strangers}

    def every_rule(self) -> Firewall:
        """Return what the state amounts to: nobody else has rules here."""
        from nsbridge.firewall.planned import firewall_of

        return firewall_of(self.state)

    def world(self, places: object, holder: object) -> Any:
        """There is nothing to read: plans are explained by explain/planned.py."""
        raise Unsupported("a simulated kernel has no namespaces to read")

    def announce(self, endpoint: Endpoint) -> None:
        """Remember that it was asked to."""
        self.announced.append(endpoint)

    def element_data(self, table: tuple[str, str], name: str, key: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Return the data of a map element, None without one."""
        found = self.state.find(("element", *table, name, *map(str, key)))
        return None if found is None else getattr(found, "data", None)
