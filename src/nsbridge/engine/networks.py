"""Making and removing networks, and what all of them share on the host."""

from __future__ import annotations

from nsbridge import codec
from nsbridge.desired.addressing import with_subnets
from nsbridge.desired.endpoint import endpoint_things
from nsbridge.desired.guard import guard_elements
from nsbridge.desired.network import host_things, network_things
from nsbridge.desired.ports import ports_things
from nsbridge.engine import firewalls, policies, shared
from nsbridge.engine.entries import Began, Dropped, Idle, Put
from nsbridge.errors import InUse, InvalidIntent, NotFound, Taken, Unsupported
from nsbridge.firewall.ruleset import Table
from nsbridge.model.names import ADMIN, DEFAULT_NETWORK
from nsbridge.model.network import Network, Subnet
from nsbridge.plan.diff import adding, diff, removing
from nsbridge.state.kernel_state import KernelState
from nsbridge.state.things import Sysctl
from nsbridge.store.store import HostRecord

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from nsbridge.engine.endpoints import Wish
    from nsbridge.engine.entries import Entry
    from nsbridge.engine.host import Host
    from nsbridge.engine.journal import Operation
    from nsbridge.kernel.interface import HostFacts, LinkFacts
    from nsbridge.model.endpoint import Endpoint
    from nsbridge.plan.step import Plan, Step
    from nsbridge.state.things import Network_, Thing


def network_path(name: str) -> str:
    """Return where a network is kept, from the store's root."""
    return f"networks/{name}.json"


def chosen(host: Host, network: Network, facts: HostFacts, also: Iterable[Network] = ()) -> Network:
    """Return the network with subnets and MTU chosen; Taken or Exhausted name what is in the way.

    also: networks that will be there by then.
    """
    if network.vlan:
        host.kernel.require("vlan_filtering")
    if network.unmanaged:
        return _on_their_bridge(host, network)
    ours = {one.ifname: one.name for one in host.store.networks()}
    taken: list[tuple[Network_, str]] = []
    for one in (*host.store.networks(), *also):
        taken += [(subnet.network, f"that of network {one.name!r}") for subnet in one.subnets]
    ours[network.ifname] = network.name  # if it is there, its name is what stands in the way
    taken += [(net, f"a route of the host by {link}") for net, link in facts.routes if link not in ours]
    complete = with_subnets(network, taken, seed=host.store.seed())
    if network.watched and not facts.bridge_calls:
        raise Unsupported(
            f"network {network.name!r} can't have a policy: br_netfilter isn't loaded",
            fix="`modprobe br_netfilter`, then `sysctl -w net.bridge.bridge-nf-call-iptables=0` and -ip6tables=0, "
            "so that other bridges stay as they are",
        )
    return complete.replace(mtu=network.mtu or facts.mtu, guarded=facts.bridge_filter and not network.unmanaged)


def _on_their_bridge(host: Host, network: Network) -> Network:
    """Return the network with what the bridge of somebody else's says: MTU, gateways, and subnets if none are named."""
    found = host.kernel.link_facts(network.bridge)
    if network.driver != "bridge":
        host.kernel.require(network.driver)
    if found is None or (found.kind != "bridge" and network.driver == "bridge"):
        what = "no interface" if found is None else f"a {found.kind or 'device'} and no bridge"
        raise NotFound(
            f"network {network.name!r} is to use {network.bridge!r}, but there is {what} of that name",
            fix="see `ip link`, or let nsbridge make a bridge: leave mode=unmanaged out",
        )
    _check_segments(network, found)
    theirs = [one for one in found.addresses if not one.is_link_local]
    subnets = network.subnets
    if not subnets:
        first = {one.version: Subnet(one.network, gateway=one.ip) for one in reversed(theirs)}
        subnets = tuple(first[version] for version in sorted(first))
    elif theirs:
        at = {subnet: next((x.ip for x in theirs if x.ip in subnet.network), None) for subnet in subnets}
        subnets = tuple(one if one.gateway else one.replace(gateway=at[one]) for one in subnets)
    if not subnets or not all(one.gateway or network.internal for one in subnets):
        raise InvalidIntent(
            f"bridge {network.bridge!r} has no address that could be the gateway of network {network.name!r}",
            fix="name --subnet and --gateway",
        )
    return network.replace(subnets=subnets, mtu=network.mtu or found.mtu)


def _check_segments(network: Network, found: LinkFacts) -> None:
    """Check that somebody else's bridge keeps VLANs apart if we need that, and is in the VRF that was named."""
    if network.vlan and ("vlan_filtering", 1) not in found.options:
        raise InvalidIntent(
            f"bridge {network.bridge!r} doesn't keep VLANs apart, so network {network.name!r} can't be in VLAN "
            f"{network.vlan}",
            fix=f"`ip link set {network.bridge} type bridge vlan_filtering 1`, after a look at who is on it",
        )
    if network.vrf and (found.master, found.master_kind) != (network.vrf, "vrf"):
        raise InvalidIntent(
            f"bridge {network.bridge!r} is not in VRF {network.vrf!r}",
            fix=f"`ip link set {network.bridge} master {network.vrf}`, or leave vrf out",
        )


def check_vlan_of(host: Host, network: Network, wish: Wish) -> None:
    """Raise InvalidIntent when an endpoint can't have a VLAN of its own on this network."""
    if not network.unmanaged or network.driver != "bridge":
        raise InvalidIntent(
            f"{wish.name!r} can't be in VLAN {wish.to.vlan}: the gateway of network {network.name!r} isn't",
            fix="give the whole network a VLAN (`-o vlan=…`), or use a bridge of your own with mode=unmanaged",
        )
    found = host.kernel.link_facts(network.bridge)
    if found is not None:
        _check_segments(network.replace(vlan=wish.to.vlan), found)


def filled(wanted: Network, have: Network) -> Network:
    """Return `wanted` with what it left open as it was chosen for `have`."""
    subnets = list(wanted.subnets)
    if wanted.unmanaged and have.unmanaged:  # what was left open was read from the bridge
        gateways = {subnet.network: subnet.gateway for subnet in have.subnets}
        subnets = [one if one.gateway else one.replace(gateway=gateways.get(one.network)) for one in subnets]
        return wanted.replace(subnets=tuple(subnets) or have.subnets, mtu=wanted.mtu or have.mtu)
    for subnet in have.subnets:
        version = subnet.network.version
        asked_otherwise = version == 4 and wanted.subnets and not wanted.subnet(4) and not wanted.ipv6
        if wanted.subnet(version) is None and (version == 4 or wanted.ipv6) and not asked_otherwise:
            subnets.append(subnet)
    subnets.sort(key=lambda subnet: subnet.network.version)
    return wanted.replace(subnets=tuple(subnets), mtu=wanted.mtu or have.mtu, guarded=have.guarded)


def shared_steps(host: Host, networks: tuple[Network, ...], facts: HostFacts) -> tuple[HostRecord, Plan]:
    """Return what these networks share on the host, and the plan that gets there from what is there."""
    record = host.store.host()
    wanted = host_things(networks, facts, record.things)
    # A setting we raised and somebody set back is simply raised again; the value from before us stays remembered.
    # A table may have stayed for the sake of the administrator's rules in it.
    tables = [thing for thing in wanted if isinstance(thing, Table)]
    present = KernelState(host.kernel.find((*record.things, *tables)))
    return HostRecord(wanted), diff(present, KernelState(wanted))


def settle(host: Host, op: Operation, networks: tuple[Network, ...], facts: HostFacts) -> bool:
    """Bring what these networks share into being; tell whether our table had to be written."""
    firewalls.remember(host, op, networks)
    record, plan = shared_steps(host, networks, facts)
    if record != host.store.host() or plan:
        op.replace("host.json", codec.dumps(record) + "\n")
    for step in plan.steps:
        op.step(step)
    tell_raised(host, plan.steps)
    return any(isinstance(thing, Table) for step in plan.steps if step.verb != "remove" for thing in step.things)


def _dotted(sysctl: Sysctl) -> str:
    """Write a setting as sysctl(8) does."""
    return f"{sysctl.key.replace('/', '.')}={sysctl.value}"


def tell_raised(host: Host, steps: tuple[Step, ...]) -> None:
    """Say which settings of the host were changed and why: nobody should have to find out."""
    for step in steps:
        for thing in step.things:
            if isinstance(thing, Sysctl) and thing.was not in ("", thing.value) and step.verb == "add":
                host.say(f"set {_dotted(thing)} (was {thing.was}): {thing.why}")


def _build(host: Host, op: Operation, network: Network, facts: HostFacts) -> None:
    if not network.unmanaged and host.kernel.link_index(network.ifname):
        raise Taken(
            f"there is an interface {network.ifname!r} on this host already, so network {network.name!r} can't make it",
            fix="choose another bridge name, use it as it is with mode=unmanaged, or see `nsbridge gc`",
        )
    flushed = settle(host, op, (*host.store.networks(), network), facts)
    if flushed:
        restore_elements(host, op)
    for step in adding(network_things(network, facts.mtu)):
        op.step(step)
    op.create(network_path(network.name), codec.dumps(network) + "\n")


def restore_elements(host: Host, op: Operation) -> None:
    """Fill our table again for every network and endpoint there is, after somebody flushed it."""
    things: list[Thing] = []
    for network in host.store.networks():
        things += network_things(network, network.mtu)
        for endpoint in host.store.endpoints(network.name):
            things += guard_elements(network, endpoint)
            things += ports_things(network, endpoint)
    things += shared.things(host.store)
    things += policies.elements(host)
    lost = KernelState(things) - host.kernel.find(things)
    for step in diff(KernelState(), lost).steps:
        op.step(step)


def create(host: Host, network: Network) -> Network:
    """Make a network; return it with everything chosen. Taken when its name, bridge or subnet is in use."""
    with host.lock():
        return create_locked(host, network)


def create_locked(host: Host, network: Network) -> Network:
    """`create` for a caller who holds the lock."""
    if host.store.network_or_none(network.name) is not None:
        raise Taken(
            f"there is a network {network.name!r} already",
            fix=f"choose another name, or `nsbridge network rm {network.name}` first",
        )
    for address in (*network.sources, *([network.host_binding] if network.host_binding else [])):
        if not host.kernel.has_address(address):
            raise InvalidIntent(
                f"network {network.name!r} can't use {address}: it is no address of this host", fix="see `ip address`"
            )
    with host.operation(f"network create {network.name}") as op:
        facts = host.kernel.facts()
        complete = chosen(host, network, facts)
        _build(host, op, complete, facts)
    return complete


def ensure(host: Host, name: str) -> Network:
    """Return the network, in the kernel as in the store: made if it is the default one, rebuilt if a reboot took it."""
    network = host.store.network_or_none(name)
    if network is not None and host.kernel.link_index(network.ifname):
        return network
    with host.lock():
        network = host.store.network_or_none(name)
        if network is None and name == DEFAULT_NETWORK:
            return create_locked(host, Network(name, ephemeral=True))
        network = network or host.store.network(name)
        if not host.kernel.link_index(network.ifname):
            rebuild(host, network)
        return network


def rebuild(host: Host, network: Network) -> None:
    """Put a remembered network back into the kernel, with the bridge ports that its endpoints need."""
    with host.operation(f"network rebuild {network.name}") as op:
        settle(host, op, host.store.networks(), host.kernel.facts())
        things = network_things(network, network.mtu)
        for step in diff(KernelState(host.kernel.find(things)), KernelState(things)).steps:
            op.step(step)


def mend(host: Host, network: Network) -> tuple[Step, ...]:
    """Return the steps that put right what somebody took from a network or its endpoints' ports."""
    things: list[Thing] = [*network_things(network, network.mtu)]
    for endpoint in host.store.endpoints(network.name):
        things += guard_elements(network, endpoint)
        things += ports_things(network, endpoint)
    things += shared.things(host.store, network.name)
    return diff(KernelState(host.kernel.find(things)), KernelState(things)).steps


def things_of(host: Host, network: Network, endpoint: Endpoint) -> tuple[Thing, ...]:
    """Return everything of one endpoint, its ports and what policies say about it included."""
    index = host.kernel.link_index(network.ifname)
    return (
        *policies.fragment(host, endpoint),
        *endpoint_things(network, endpoint, mtu=network.mtu, bridge_index=index),
        *ports_things(network, endpoint),
    )


def leaving(host: Host, networks: tuple[Network, ...]) -> tuple[tuple[Thing, ...], list[Entry]]:
    """Return what goes from the kernel with these networks, and from the store.

    The last network takes with it what all of them shared.
    """
    gone = {network.name for network in networks}
    left = tuple(one for one in host.store.networks() if one.name not in gone)
    facts = host.kernel.facts()
    record, shared = shared_steps(host, left, facts)
    things: list[Thing] = [thing for step in shared.steps if step.verb == "remove" for thing in step.things]
    raised = [thing for thing in things if isinstance(thing, Sysctl)]
    if facts.routers and raised:
        # They may have found forwarding on and relied on it; lowering it would cut off what isn't ours.
        things = [thing for thing in things if thing not in raised]
        for thing in [each for each in raised if each.was != each.value]:
            host.say(f"left {_dotted(thing)}: {', '.join(facts.routers)} may need it by now")
    for table in [thing for thing in things if isinstance(thing, Table)]:
        if host.kernel.admin_rules((table.family, table.name)):
            where = f"table {table.family} {table.name}" if not host.store.firewall() else "our chains"
            host.say(f"kept {where}, emptied: chain {ADMIN} has rules of yours")
    for network in networks:
        things += network_things(network, network.mtu)
    entries: list[Entry] = [Dropped(network.name) for network in networks]
    entries.append(Put("host.json", codec.dumps(record) + "\n" if record.things else None))
    if host.store.firewall() and not any(isinstance(thing, Table) for thing in record.things):
        entries.append(Put(firewalls.FILE, None))
    return tuple(things), entries


def remove(host: Host, name: str) -> None:
    """Remove a network; InUse names the endpoints still on it."""
    with host.lock():
        network = host.store.network(name)
        there = host.store.endpoints(name)
        if there:
            shown = ", ".join(endpoint.name for endpoint in there[:5]) + (" …" if len(there) > 5 else "")
            raise InUse(
                f"network {name!r} has {len(there)} endpoint{'s' if len(there) > 1 else ''} ({shown})",
                fix=f"`nsbridge disconnect {name} {there[0].name}` first",
            )
        remove_locked(host, network)


def remove_locked(host: Host, network: Network) -> None:
    """`remove` for a caller who holds the lock and knows that nobody is on it."""
    with host.operation(f"network rm {network.name}", "on") as op:
        things, entries = leaving(host, (network,))
        op.finish([*map(Began, removing(things)), *entries])


def _is_idle(host: Host, name: str) -> bool:
    network = host.store.network_or_none(name)
    return network is not None and network.ephemeral and not host.store.in_use(name)


def remove_idle(host: Host, name: str) -> None:
    """Remove an ephemeral network that has lost its last endpoint. The caller holds the exclusive lock."""
    if _is_idle(host, name):
        remove_locked(host, host.store.network(name))


class Use:
    """While networks are used: ephemeral ones among them go afterwards if nothing is left on them, crash or not.

    A context manager. It takes the lock when it leaves, so it goes around what takes it.
    """

    def __init__(self, host: Host, names: Iterable[str]) -> None:
        self._host = host
        self._names = [name for name in dict.fromkeys(names) if self._goes(name)]
        self._op: Operation | None = None

    def _goes(self, name: str) -> bool:
        network = self._host.store.network_or_none(name)
        return network.ephemeral if network is not None else name == DEFAULT_NETWORK

    def __enter__(self) -> None:
        if self._names:
            self._op = self._host.operation(f"use of network {', '.join(self._names)}", "on").__enter__()
            self._op.owe(*map(Idle, self._names))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._op is None:
            return
        try:
            for name in self._names:
                if _is_idle(self._host, name):  # asked again under the lock, which most needn't wait for
                    with self._host.lock():
                        remove_idle(self._host, name)
            self._op.paid()
        finally:
            self._op.__exit__(kind, error, tb)


class Ensured:
    """The shared lock, and under it these networks, by name: made before if need be, as `ensure` does."""

    def __init__(self, host: Host, names: Iterable[str]) -> None:
        self._host = host
        self._names = tuple(dict.fromkeys(names))
        self._lock = host.lock(shared=True)

    def __enter__(self) -> dict[str, Network]:
        made: list[Network] = []
        while True:
            self._lock.__enter__()
            found = [self._host.store.network_or_none(name) for name in self._names]
            up = {one.name: one for one in found if one and (made or self._host.kernel.link_index(one.ifname))}
            if len(up) == len(found):
                return up
            self._lock.__exit__(None, None, None)  # the default one may go with its last endpoint, again and again
            made = [ensure(self._host, name) for name in self._names]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._lock.__exit__(kind, error, tb)


def prune(host: Host) -> tuple[str, ...]:
    """Remove the networks without endpoints that belong to no project; return their names."""
    gone = []
    for network in host.store.networks():
        if network.project or host.store.in_use(network.name):
            continue
        try:
            remove(host, network.name)
        except (InUse, NotFound):  # somebody was quicker
            continue
        gone.append(network.name)
    return tuple(gone)
