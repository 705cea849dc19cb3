"""A topology file's way into the kernel: decide what has to change, then change that and nothing else."""

from __future__ import annotations

from nsbridge import codec
from nsbridge.desired.network import network_things
from nsbridge.engine import addresses, endpoints, health, networks, policies, ports, services
from nsbridge.engine.endpoints import Wish
from nsbridge.engine.entries import Began, Started
from nsbridge.engine.foreseen import Promised, foreseen, foreseen_networks, network_steps
from nsbridge.errors import InUse, NotFound
from nsbridge.model.policy import Policy
from nsbridge.plan.diff import adding, diff, removing
from nsbridge.state.kernel_state import KernelState
from nsbridge.state.things import Netns
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Literal, TypeAlias

    from nsbridge.engine.entries import Entry
    from nsbridge.engine.host import Host
    from nsbridge.engine.services import Status
    from nsbridge.model.endpoint import Endpoint, PublishedPort
    from nsbridge.model.network import Network
    from nsbridge.model.service import Service, Topology
    from nsbridge.plan.step import Step
    from nsbridge.state.things import Thing
    from nsbridge.store.store import ServiceRecord

    What: TypeAlias = Literal["create", "recreate", "mend", "ports", "start", "watch", "change", "remove"]


class Change(Value):
    """One thing that `up` would do: to which network or service, why, and the kernel's steps of it.

    kind: ``host``, ``network`` or ``service``. what: ``create``, ``recreate`` (asked for differently), ``mend`` (the
    kernel holds something else than it should), ``ports``, ``start`` (its command has ended), ``watch`` (nobody
    asks for its health), ``remove``.
    """

    kind: str
    name: str
    what: What
    why: str
    steps: tuple[Step, ...] = ()


class Decision(Value):
    """All changes in the order in which they are made, and what a person should know besides."""

    changes: tuple[Change, ...] = ()
    remarks: tuple[str, ...] = ()


# deciding


def _lost(host: Host, things: Iterable[Thing]) -> tuple[Step, ...]:
    """Return the steps that put back what of these things the kernel doesn't hold."""
    things = tuple(things)
    return _putting_back(host.kernel.find(things), things)


def _putting_back(here: Iterable[Thing], things: Iterable[Thing]) -> tuple[Step, ...]:
    """Return the steps that bring those of the things which aren't here."""
    return diff(KernelState(here), KernelState(things)).steps


def _network_change(host: Host, wanted: Network, complete: Network, before: tuple[Network, ...]) -> Change | None:
    """complete: with what is chosen for it. before: networks that are made before this one."""
    have = host.store.network_or_none(wanted.name)
    if have is None:
        return Change("network", wanted.name, "create", "it doesn't exist", network_steps(host, complete, before))
    if networks.filled(wanted, have) != have:
        return Change("network", wanted.name, "recreate", "the file asks for something else")
    steps = _lost(host, network_things(have, have.mtu))
    return Change("network", wanted.name, "mend", "the kernel doesn't hold all of it", steps) if steps else None


def service_things(host: Host, service: Service, endpoints: Iterable[Endpoint] | None = None) -> tuple[Thing, ...]:
    """Return everything a service that exists should hold in the kernel. endpoints: of its name, if known."""
    found: list[Thing] = [Netns(service.netns)] if service.mode in ("", "none") else []
    for endpoint in host.store.endpoints(name=service.name) if endpoints is None else endpoints:
        if endpoint.service == service.name:
            found += networks.things_of(host, host.store.network(endpoint.network), endpoint)
    return tuple(found)


def _differing(
    host: Host, service: Service, endpoint: Endpoint | None
) -> tuple[list[PublishedPort], list[PublishedPort]]:
    network = host.store.network(service.attachments[0].network)
    return ports.differing(network, service.ports, endpoint.ports if endpoint else ())


class _Looked:
    """What the store and the kernel hold of all services there are, asked for in one go."""

    def __init__(self, host: Host, wanted: Iterable[Service]) -> None:
        self.records = {record.service.name: record for record in host.store.services()}
        there = [service for service in wanted if service.name in self.records]
        self._endpoints: dict[str, list[Endpoint]] = {}
        for endpoint in host.store.endpoints():
            self._endpoints.setdefault(endpoint.name, []).append(endpoint)
        self._things = {
            service.name: service_things(host, service, self._endpoints.get(service.name, ())) for service in there
        }
        found = host.kernel.find(thing for things in self._things.values() for thing in things)
        self._found = frozenset(map(id, found))  # a kernel gives back the very things it was asked for

    def absent(self, service: Service) -> tuple[Step, ...]:
        """Return the steps that put back what of a service the kernel doesn't hold."""
        things = self._things[service.name]
        here = [thing for thing in things if id(thing) in self._found]
        return _putting_back(here, things) if len(here) < len(things) else ()

    def on(self, name: str) -> dict[str, Endpoint]:
        """Return a service's endpoints, by network."""
        return {one.network: one for one in self._endpoints.get(name, ()) if one.service == name}


def _service_change(
    host: Host, service: Service, known: dict[str, Network], redone: set[str], promised: Promised, looked: _Looked
) -> Change | None:
    record = looked.records.get(service.name)
    if record is None or record.service.project != service.project:
        # A name of another project's is refused when it is claimed, with words that say whose it is.
        steps = adding(foreseen(host, service, known, promised))
        return Change("service", service.name, "create", "it doesn't exist", steps)
    old, on = record.service, looked.on(service.name)
    places = [attachment.network for attachment in service.attachments]
    if redone.intersection((*places, *on)):
        return Change("service", service.name, "recreate", "its network is made anew")
    if old.replace(ports=service.ports) != service:
        return Change("service", service.name, "recreate", "the file asks for something else")
    steps = looked.absent(service)
    if any(isinstance(thing, Netns) for step in steps for thing in step.things):
        return Change("service", service.name, "recreate", "its namespace is gone", steps)
    if steps:
        return Change("service", service.name, "mend", "the kernel doesn't hold all of it", steps)
    left = [name for name in places if name not in on]
    if left:
        things = foreseen(host, service, {name: known[name] for name in left if name in known}, promised)
        steps = adding(one for one in things if not isinstance(one, Netns))
        return Change("service", service.name, "mend", f"it isn't on network {', '.join(left)}", steps)
    if service.attachments:
        missing, extra = _differing(host, service, on[service.main_network])
        if missing or extra or old.ports != service.ports:
            return Change("service", service.name, "ports", "the file publishes other ports")
    if service.command:
        now = services.status(host, record)
        if now.state != "running":
            return Change("service", service.name, "start", "its command has ended")
        if now.health is not None and now.health.status == "unwatched":
            return Change("service", service.name, "watch", "nobody asks for its health")
    return None


def _orphans(records: Iterable[ServiceRecord], topology: Topology) -> list[ServiceRecord]:
    wanted = {service.name for service in topology.services}
    return [
        record for record in records if record.service.project == topology.project and record.service.name not in wanted
    ]


def _unused(host: Host, topology: Topology) -> list[Network]:
    wanted = {network.name for network in topology.networks}
    return [
        network
        for network in host.store.networks()
        if network.project == topology.project and network.name not in wanted
    ]


def _policy_change(host: Host, topology: Topology, redone: bool) -> list[Change]:
    ruled = policies.decide(host, Policy(topology.project, topology.policy), redone)
    return [Change("policy", topology.project, *ruled)] if ruled else []


def decide(
    host: Host,
    topology: Topology,
    *,
    only: tuple[str, ...] = (),
    remove_orphans: bool = False,
    recreate: bool = False,
) -> Decision:
    """Return what `up` would do; changes nothing. NotFound for an external network that isn't there.

    only: these services and what they depend on, all when empty.
    """
    chosen = topology.started_order(only)
    addresses.check_features(host, [place for service in chosen for place in service.attachments])
    external = {name: host.store.network(name) for name in topology.external}
    changes: list[Change] = []
    remarks = list(topology.warnings)
    shared = networks.shared_steps(host, host.store.networks(), host.kernel.facts())[1]
    if shared:
        changes.append(Change("host", "", "mend", "the kernel doesn't hold what networks share", shared.steps))
    known = foreseen_networks(host, topology)
    before: list[Network] = []
    for wanted in topology.networks:
        change = _network_change(host, wanted, known[wanted.name], tuple(before))
        changes += [change] if change else []
        before += [known[wanted.name]] if change and change.what == "create" else []
    redone = {change.name for change in changes if change.kind == "network" and change.what == "recreate"}
    changes += _policy_change(host, topology, bool(redone))
    known |= external
    promised, looked = Promised(host), _Looked(host, chosen)
    for service in chosen:
        change = _service_change(host, service, known, redone, promised, looked)
        if recreate and (change is None or change.what in ("mend", "ports", "start")):
            change = Change("service", service.name, "recreate", "asked for")
        changes += [change] if change else []
    orphans = [record.service.name for record in _orphans(looked.records.values(), topology)]
    if orphans and not remove_orphans:
        remarks.append(f"not in the file any more: {', '.join(orphans)} (--remove-orphans takes them away)")
    changes += _gone(host, topology, orphans if remove_orphans else [], remove_orphans)
    return Decision(tuple(changes), tuple(remarks))


def _gone(host: Host, topology: Topology, orphans: list[str], with_orphans: bool) -> list[Change]:
    """Services and networks that the file doesn't have any more."""
    why = "the file doesn't have it"
    found = [Change("service", name, "remove", why) for name in orphans]
    for network in _unused(host, topology):
        if with_orphans or not host.store.in_use(network.name):
            found.append(Change("network", network.name, "remove", why))
    return found


# doing


def up(
    host: Host,
    topology: Topology,
    *,
    only: tuple[str, ...] = (),
    remove_orphans: bool = False,
    recreate: bool = False,
) -> Decision:
    """Bring a topology into being, or what differs of it; return what was done.

    Each network and service comes whole or not at all; what was up before a failure stays up, and the next `up`
    goes on from there. Two of one project wait for one another, and the second finds nothing left to do.
    """
    with host.store.project_lock(topology.project):
        with host.lock(shared=True):
            decision = decide(host, topology, only=only, remove_orphans=remove_orphans, recreate=recreate)
        _carry_out(host, topology, decision)
    return decision


def _carry_out(host: Host, topology: Topology, decision: Decision) -> None:
    for remark in decision.remarks:
        host.say(remark)
    by_service = {service.name: service for service in topology.services}
    by_network = {network.name: network for network in topology.networks}
    going = [c.name for c in decision.changes if c.kind == "service" and c.what in ("recreate", "remove")]
    for name in reversed(going):
        record = host.store.service_or_none(name)
        if record is not None:
            host.say(f"removing service {name}")
            services.stop(host, (record,))
            services.remove_things(host, name)
    changing = [c.name for c in decision.changes if c.kind == "network" and c.what in ("recreate", "remove")]
    if changing and host.store.policy(topology.project):
        policies.enforce(host, Policy(topology.project))  # its elements name the old subnets
    for name in changing:
        networks.remove(host, name)
    for change in decision.changes:
        host.say(f"{change.what} {change.kind} {change.name}".rstrip())
        if change.kind == "host":
            _mend_host(host, change)
        elif change.kind == "network" and change.what != "remove":
            _do_network(host, change, by_network[change.name])
        elif change.kind == "policy":
            policies.enforce(host, Policy(topology.project, topology.policy))
        elif change.kind == "service" and change.what != "remove":
            _do_service(host, change, by_service[change.name])


def _mend_host(host: Host, change: Change) -> None:
    with host.lock(), host.operation("mend host") as op:
        if networks.settle(host, op, host.store.networks(), host.kernel.facts()):
            networks.restore_elements(host, op)


def _do_network(host: Host, change: Change, network: Network) -> None:
    if change.what == "mend":
        with host.lock(), host.operation(f"mend network {network.name}") as op:
            for step in networks.mend(host, host.store.network(network.name)):
                op.step(step)
    else:
        networks.create(host, network)


def _do_service(host: Host, change: Change, service: Service) -> None:
    if service.after_healthy and change.what in ("create", "recreate", "start"):
        health.await_healthy(host, service.after_healthy, service.name)
    if change.what in ("create", "recreate"):
        services.start(host, service)
        return
    name = service.name
    # What is asked is written down before the ports change: a crash in between is a difference the next `up` sees.
    with host.lock(shared=True), host.store.name_lock(f"/{name}"), host.operation(f"change service {name}") as op:
        record = host.store.service(name).replace(service=service)
        op.replace(host.store.service_path(name), codec.dumps(record) + "\n")
        if change.what == "mend":
            for step in _lost(host, service_things(host, service)):
                op.step(step)
    for place in service.attachments:
        if host.store.endpoint(place.network, name) is None:  # somebody disconnected it
            endpoints.connect(host, Wish(name, service.netns, place))
    _do_ports(host, service)
    if service.command and services.status(host, record).state != "running":
        services.restart(host, service)
    elif change.what == "watch":
        health.begin(host, service, record.pid, record.started)


def _do_ports(host: Host, service: Service) -> None:
    if not service.attachments:
        return
    network = service.attachments[service.main].network
    endpoint = host.store.endpoint(network, service.name)
    missing, extra = _differing(host, service, endpoint)
    if extra:
        endpoints.unpublish(host, service.name, tuple(extra), network)
    if missing:
        endpoints.publish(host, service.name, tuple(missing), network)


def projects(host: Host) -> tuple[str, ...]:
    """Return the names of the projects that are up."""
    found = {record.service.project for record in host.store.services()}
    found |= {network.project for network in host.store.networks()}
    return tuple(sorted(found - {""}))


def one_project(host: Host) -> str:
    """Return the project that is up when there is just one; NotFound and InUse say what to name."""
    found = projects(host)
    if not found:
        raise NotFound("no project is up on this host", fix="bring one up with `nsbridge up -f FILE`")
    if len(found) > 1:
        raise InUse(f"several projects are up: {', '.join(found)}", fix="say which: -p PROJECT, or -f FILE")
    return found[0]


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def down(host: Host, project: str, grace_s: float = services.GRACE_S) -> tuple[Status, ...]:
    """Take a project's services and networks away, all in one go; return the services that were there."""
    with host.store.project_lock(project):
        there = services.statuses(host, project)
        mine = [network for network in host.store.networks() if network.project == project]
        if not there and not mine:
            have = ", ".join(projects(host)) or "none"
            raise NotFound(f"project {project!r} isn't up (up: {have})", fix="nothing is left to do")
        host.say(f"stopping {_count(len(there), 'service')}")
        services.stop(host, [status.record for status in there], grace_s)
        used = [endpoint.network for status in there for endpoint in status.endpoints]
        with networks.Use(host, used), host.lock(), host.operation(f"down {project}", "on") as op:
            entries = _leaving(host, [status.record.service for status in there], mine)
            op.finish([*policies.leaving(host, project), *entries])
    return there


def _leaving(host: Host, there: Iterable[Service], mine: Iterable[Network]) -> list[Entry]:
    """Return what goes with these services, and with those of these networks on which nobody else is."""
    names = [service.name for service in there]
    things: list[Thing] = []
    rest: list[Entry] = []
    for service in there:
        more, rows = services.going(host, service)
        things += more
        rest += rows
    free = []
    for network in mine:
        others = [one.name for one in host.store.endpoints(network.name) if one.service not in names]
        if others:
            host.say(f"kept network {network.name}: {', '.join(others)} is still on it")
        else:
            free.append(network)
    if free:
        more_things, more_entries = networks.leaving(host, tuple(free))
        things += more_things
        rest += more_entries
    host.say(f"removing {_count(len(names), 'service')} and {_count(len(free), 'network')}")
    return [*map(Started, names), *map(Began, removing(things)), *rest]
