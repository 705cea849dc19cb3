"""Put back what of ours the kernel has lost: rules, bridges, ports, and what is inside the namespaces on them.

A link is compared as it is seen, not only asked for: one that was set down, or taken off its bridge, is still there.
Ports follow their bridge, since a new bridge has a new number and the ports' group is made of it; so there are two
rounds, and each looks again.
"""

from __future__ import annotations

from nsbridge.engine import networks, policies, shared
from nsbridge.firewall.ruleset import Element, Table
from nsbridge.model.names import ADMIN
from nsbridge.plan.diff import diff
from nsbridge.plan.step import Step
from nsbridge.state.kernel_state import KernelState
from nsbridge.state.things import HOST, Link, Sysctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.engine.host import Host
    from nsbridge.state.things import Thing


def _as_seen(wanted: Link, seen: Link) -> Link:
    """The wanted link, with what it leaves open as it is."""
    told = {name for name, _ in wanted.options}
    others = tuple(pair for pair in seen.options if pair[0] not in told)
    return wanted.replace(
        mac=wanted.mac or seen.mac,
        mtu=wanted.mtu or seen.mtu,
        alias=wanted.alias or seen.alias,
        group=wanted.group or seen.group,
        options=tuple(sorted((*wanted.options, *others))),
        peer_netns=seen.peer_netns if not wanted.peer_netns else wanted.peer_netns,
        peer_name=seen.peer_name if not wanted.peer_name else wanted.peer_name,
    )


def _steps(host: Host, things: Iterable[Thing]) -> tuple[Step, ...]:
    """What brings these things about, from what is seen of them."""
    wanted = KernelState(things)
    spaces = {thing.netns for thing in wanted if getattr(thing, "netns", HOST) != HOST}  # type: ignore[union-attr]
    settings = [(thing.netns, thing.key) for thing in wanted.of(Sysctl)]
    observed = host.kernel.observe(spaces, settings)
    # Elements are asked for by name: of a map that holds thousands only those that should be there matter.
    elements = KernelState(host.kernel.find(wanted.of(Element)))
    seen = (
        KernelState(
            one for one in (*observed, *elements) if wanted.find(one.identity) is not None and type(one) is not Element
        )
        | elements
    )
    fitted = KernelState(
        _as_seen(thing, old)
        if isinstance(thing, Link) and isinstance(old := seen.find(thing.identity), Link)
        else thing
        for thing in wanted
    )
    return diff(seen, fitted).steps


def _tables(host: Host) -> tuple[Step, ...]:
    """Our tables that are there but say something else: their rules are written anew, all at once."""
    observed = host.kernel.observe(())
    found = []
    for table in host.store.host().things:
        seen = observed.find(table.identity) if isinstance(table, Table) else None
        if isinstance(table, Table) and isinstance(seen, Table) and _ours(seen) != _ours(table):
            found.append(Step("change", (table,), (table,), why="rules of ours that somebody changed"))
    return tuple(found)


def _ours(table: Table) -> Table:
    """A table without what the administrator has in it."""
    return table.replace(
        chains=tuple(chain.replace(rules=()) if chain.name == ADMIN else chain for chain in table.chains)
    )


def _networks(host: Host) -> list[Thing]:
    from nsbridge.desired.network import network_things

    return [thing for network in host.store.networks() for thing in network_things(network, network.mtu)]


def _endpoints(host: Host, names: frozenset[str]) -> list[Thing]:
    found: list[Thing] = []
    for network in host.store.networks():
        for endpoint in host.store.endpoints(network.name):
            # A namespace that is gone, or another one by now, is none of ours to furnish.
            if (not names or endpoint.name in names) and host.kernel.netns_id(endpoint.netns) == endpoint.netns_id:
                found += networks.things_of(host, network, endpoint)
    return [*found, *policies.elements(host), *shared.things(host.store)]


def lost(host: Host, names: Iterable[str] = ()) -> tuple[Step, ...]:
    """Return the steps that mend the host, its networks and their endpoints as far as can be told now.

    names: look at these endpoints alone.
    """
    every = host.store.networks()
    host_steps = networks.shared_steps(host, every, host.kernel.facts())[1].steps
    return (
        *host_steps,
        *_tables(host),
        *_steps(host, _networks(host)),
        *_steps(host, _endpoints(host, frozenset(names))),
    )


def told(steps: Iterable[Step]) -> tuple[Thing, ...]:
    """The things of which the kernel holds none, or another."""
    return tuple(thing for step in steps if step.verb != "remove" for thing in step.things)


def mend(host: Host) -> tuple[Step, ...]:
    """Put back what is lost; return the steps that did it. What others made and changed stays as it is."""
    with host.lock(), host.operation("mend") as op:
        done: list[Step] = []
        every = host.store.networks()
        if not every:
            return ()
        facts = host.kernel.facts()
        done += networks.shared_steps(host, every, facts)[1].steps
        networks.settle(host, op, every, facts)
        for step in _tables(host):
            op.step(step)
            done.append(step)
        for things in (_networks, lambda host: _endpoints(host, frozenset())):
            for step in _steps(host, things(host)):
                op.step(step)
                done.append(step)
    return tuple(done)
