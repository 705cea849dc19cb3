"""Policies in the kernel: those of a project as a whole, and what of them is about one endpoint that comes or goes."""

from __future__ import annotations

from nsbridge import codec
from nsbridge.engine.entries import Began, Put
from nsbridge.model.policy import Policy
from nsbridge.plan.diff import adding, removing
from nsbridge.state.kernel_state import KernelState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.desired.policy import Resolve
    from nsbridge.engine.entries import Entry
    from nsbridge.engine.host import Host
    from nsbridge.engine.journal import Operation
    from nsbridge.engine.topology import What
    from nsbridge.firewall.ruleset import Element
    from nsbridge.model.endpoint import Endpoint
    from nsbridge.model.policy import Party, PolicyRule
    from nsbridge.plan.step import Step
    from nsbridge.state.things import Network_


def policy_path(project: str) -> str:
    """Return where a project's policy is kept, from the store's root."""
    return f"policies/{project}.json"


def addresses_of(endpoint: Endpoint) -> tuple[Network_, ...]:
    """An endpoint's addresses, each as a network of one."""
    from ipaddress import ip_network

    return tuple([ip_network(address.ip) for address in endpoint.addresses])


def _resolver(host: Host) -> Resolve:
    met: dict[Party, tuple[Network_, ...]] = {}

    def resolve(party: Party) -> tuple[Network_, ...]:
        if party not in met:
            met[party] = _addresses(host, party)
        return met[party]

    return resolve


def _addresses(host: Host, party: Party) -> tuple[Network_, ...]:
    if party.kind == "address":
        return party.nets
    if party.kind == "network":
        network = host.store.network_or_none(party.name)
        return tuple([subnet.network for subnet in network.subnets]) if network else ()
    return tuple([net for endpoint in host.store.endpoints(name=party.name) for net in addresses_of(endpoint)])


def elements(host: Host, policy: Policy | None = None) -> tuple[Element, ...]:
    """Return what the policies of all projects, or this one, should hold in the kernel now."""
    from nsbridge.desired.policy import policy_elements

    resolve = _resolver(host)
    wanted = (policy,) if policy is not None else host.store.policies()
    return tuple([element for one in wanted for element in policy_elements(one.rules, resolve)])


def fragment(host: Host, endpoint: Endpoint) -> tuple[Element, ...]:
    """Return what of all policies is about this endpoint's addresses, because a rule names it."""
    policies = host.store.policies()
    if not policies:  # and nothing of it is loaded
        return ()
    from nsbridge.desired.policy import levels

    found: dict[tuple[str, ...], Element] = {}
    for policy in policies:
        named = [any(_names(party, endpoint) for party in (rule.source, rule.target)) for rule in policy.rules]
        if not any(named):
            continue
        resolve, mine = _resolver(host), addresses_of(endpoint)
        for rule, level, about in zip(policy.rules, levels(policy.rules), named, strict=True):
            if about:
                for element in _about(rule, level, endpoint, mine, resolve):
                    found[element.identity] = element
    return tuple(found.values())


def _names(party: Party, endpoint: Endpoint) -> bool:
    return party.kind == "service" and party.name == endpoint.name


def _about(
    rule: PolicyRule, level: int, endpoint: Endpoint, mine: tuple[Network_, ...], resolve: Resolve
) -> list[Element]:
    from nsbridge.desired.policy import rule_elements

    found = []
    if _names(rule.source, endpoint):
        found += rule_elements(rule, level, mine, resolve(rule.target))
    if _names(rule.target, endpoint):
        found += rule_elements(rule, level, resolve(rule.source), mine)
    return found


def admit(host: Host, op: Operation, endpoint: Endpoint) -> None:
    """Put in force what policies say about an endpoint that comes, before it can send anything."""
    if not host.store.policies():
        return
    with host.store.name_lock("/policies"):
        if not fragment(host, endpoint):
            return
        # Whoever comes next must see its addresses.
        op.replace(host.store.endpoint_path(endpoint.network, endpoint.name), codec.dumps(endpoint) + "\n")
        # Somebody who came at the same time may have been here for both of us.
        wanted = fragment(host, endpoint)
        lost = KernelState(wanted) - host.kernel.find(wanted)
        for step in adding(lost):
            op.step(step)


def changes(host: Host, wanted: Policy) -> tuple[Step, ...]:
    """Return the steps from what is in force for a project to what is wanted; changes nothing."""
    from nsbridge.plan.exchange import exchange

    old = host.store.policy(wanted.project)
    before = elements(host, old) if old is not None else ()
    after = elements(host, wanted)
    present = host.kernel.find((*before, *after))
    return exchange(KernelState(present), KernelState(after))


def decide(host: Host, wanted: Policy, redone: bool) -> tuple[What, str, tuple[Step, ...]] | None:
    """Return what `up` would do about a project's policy, why, and the steps; None for nothing.

    redone: one of the project's networks is made anew, so addresses change.
    """
    from nsbridge.desired.policy import levels

    have = host.store.policy(wanted.project) or Policy(wanted.project)
    levels(wanted.rules)
    if have == wanted and not (redone and wanted.rules):
        steps = changes(host, wanted)
        return ("mend", "the kernel doesn't hold all of it", steps) if steps else None
    what: What = "create" if not have.rules else "change" if wanted.rules else "remove"
    return what, "the file has other rules" if have.rules else "it has rules", changes(host, wanted)


def leaving(host: Host, project: str) -> list[Entry]:
    """Return what goes with a project's policy."""
    policy = host.store.policy(project)
    if policy is None:
        return []
    return [*map(Began, removing(elements(host, policy))), Put(policy_path(project))]


def enforce(host: Host, wanted: Policy) -> None:
    """Put a project's policy in force and remember it."""
    with host.lock(), host.operation(f"policy of {wanted.project}") as op:
        for number, step in enumerate(changes(host, wanted)):
            if number:
                host.kernel.settle()
            op.step(step)
        op.replace(policy_path(wanted.project), codec.dumps(wanted) + "\n")
