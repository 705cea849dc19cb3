"""Services: namespaces of our own, with or without a command in them."""

from __future__ import annotations

import os
import time

from nsbridge import codec
from nsbridge.desired.leading import shares
from nsbridge.engine import addresses, endpoints, names, networks, ports
from nsbridge.engine.endpoints import Wish
from nsbridge.engine.entries import Began, Held, Put, Started
from nsbridge.errors import InUse, InvalidIntent, KernelError, NotFound, Taken
from nsbridge.model.service import Service
from nsbridge.plan.diff import adding, removing
from nsbridge.state.things import Netns
from nsbridge.store import files
from nsbridge.store.store import ServiceRecord
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nsbridge.engine.entries import Entry
    from nsbridge.engine.health import Answer
    from nsbridge.engine.host import Host
    from nsbridge.engine.journal import Operation
    from nsbridge.kernel.process import ProcessSpec, Running
    from nsbridge.model.endpoint import Endpoint
    from nsbridge.state.things import Thing

GRACE_S = 10.0
"""Seconds between SIGTERM and SIGKILL, as docker stop waits."""


class Status(Value):
    """A service as a person sees it: its record, its endpoints, and ``running``, ``exited`` or ``created``.

    exit_status: of a command that has ended, 128 + n when signal n ended it, None while unknown. health: of one that
    runs and has a test.
    """

    record: ServiceRecord
    endpoints: tuple[Endpoint, ...] = ()
    state: str = "created"
    exit_status: int | None = None
    health: Answer | None = None


def _record_text(record: ServiceRecord) -> str:
    return codec.dumps(record) + "\n"


def _fresh(service: Service) -> ServiceRecord:
    return ServiceRecord(service, networks=_networks(service))


def _networks(service: Service) -> tuple[str, ...]:
    return tuple([attachment.network for attachment in service.attachments])


def check_mode(host: Host, service: Service) -> None:
    """Raise when a service shares a namespace that isn't there."""
    if service.mode.startswith("service:"):
        other = service.mode.removeprefix("service:")
        if host.store.service_or_none(other) is None:
            raise NotFound(
                f"service {service.name!r} shares the namespace of {other!r}, which doesn't exist",
                fix=f"start {other!r} first",
            )


def _check_free(host: Host, service: Service) -> None:
    other = host.store.service_or_none(service.name)
    if other is not None:
        of = f" of project {other.service.project!r}" if other.service.project else ""
        raise Taken(
            f"the name {service.name!r} belongs to a service{of} already",
            fix=f"choose another name, or `nsbridge rm {service.name}` first",
        )


def _claim(host: Host, op: Operation, service: Service) -> None:
    """Take the name, and make the namespace unless it is somebody else's."""
    check_mode(host, service)
    _check_free(host, service)
    op.create(host.store.service_path(service.name), _record_text(_fresh(service)))
    if service.mode in ("", "none"):
        space = Netns(service.netns, why=f"namespace of {service.name!r}")
        if host.kernel.netns_id(space.path):
            raise Taken(
                f"there is a network namespace {service.netns} already, and it isn't ours",
                fix=f"choose another name, or attach it as it is: `nsbridge connect NETWORK {service.name}`",
            )
        for step in adding((space,)):
            op.step(step)


def ifnames(service: Service) -> list[str]:
    """Name the service's interfaces: as asked for, the others eth0, eth1, … in their order."""
    asked = {attachment.ifname for attachment in service.attachments}
    free = (name for name in map("eth{}".format, range(len(service.attachments) + len(asked))) if name not in asked)
    return [attachment.ifname or next(free) for attachment in service.attachments]


def attach_all(host: Host, op: Operation, service: Service) -> tuple[Endpoint, ...]:
    """Make the service's endpoints; the main one holds the ports."""
    found = []
    names_inside = ifnames(service)
    known = {one.network: host.store.network(one.network) for one in service.attachments}
    gateways = shares(known.values(), service)
    for place, attachment in enumerate(service.attachments):
        network = known[attachment.network]
        wish = Wish(
            service.name,
            service.netns,
            attachment,
            ifname=names_inside[place],
            ports=service.ports if place == service.main else (),
            gateway=gateways[network.name],
            owned=True,
            hostname=service.hostname,
            service=service.name,
            project=service.project,
        )
        found.append(endpoints.attach(host, op, network, wish))
    return tuple(found)


def build(host: Host, op: Operation, service: Service) -> tuple[Endpoint, ...]:
    """Make a service's namespace and endpoints as part of an operation; return them. The command comes later.

    The caller holds the shared lock (`networks.Ensured`) and that of the service's name.
    """
    _claim(host, op, service)
    return attach_all(host, op, service)


def _announce_again(host: Host, built: Iterable[Endpoint]) -> None:
    for endpoint in built:
        addresses.announce_again(host, host.store.network(endpoint.network), endpoint)


def process_spec(host: Host, service: Service, *, detach: bool) -> ProcessSpec:
    """Return how a service's command is started. detach: it outlives us and writes to its log."""
    from nsbridge.kernel.process import ProcessSpec

    name = service.name
    owner = service.mode.removeprefix("service:") if service.mode.startswith("service:") else name
    shared = service.mode == "host"
    record = host.store.service_or_none(owner)
    # A command in a namespace that somebody else made belongs to no service: its endpoints say what it should see.
    on = [one.network for one in host.store.endpoints(name=owner)] if record is None else record.networks
    return ProcessSpec(
        argv=service.command,
        netns=service.netns,
        environment=tuple((dict(os.environ) | dict(service.environment)).items()),
        cwd=service.working_dir,
        user=service.user,
        hostname="" if shared else service.hostname or name,
        hosts="" if shared else names.hosts_file(host, on),
        resolv="" if shared else names.resolv_conf(host),
        log=host.store.log(name) if detach else "",
        exit_file=host.store.exit_file(name) if detach else "",
        die_with_parent=not detach,
        detach=detach,
    )


def _recorder(host: Host, service: Service) -> Callable[[Running], None]:
    """Return what writes a process down before its command runs a single instruction."""

    def record(running: Running) -> None:
        old = host.store.service(service.name)
        host.store.put_service(old.replace(pid=running.pid, started=running.started, since=time.time()))
        if service.health is not None:
            from nsbridge.engine import health

            health.begin(host, service, running.pid, running.started)

    return record


def launch(host: Host, op: Operation, service: Service) -> Running:
    """Start a service's command so that it outlives us."""
    from nsbridge.kernel import process

    op.folder(host.store.run_path(service.name))
    files.remove(host.store.exit_file(service.name))
    op.starting(service.name)
    return process.start(process_spec(host, service, detach=True), _recorder(host, service))


def start(host: Host, service: Service) -> Status:
    """Make a service and start its command in the background; all of it, or nothing."""
    addresses.check_features(host, service.attachments)
    ports.check_possible(host, service.ports)
    used = _networks(service)
    with networks.Use(host, used):
        for last in (False, True):
            try:
                with (
                    networks.Ensured(host, used),
                    host.store.name_lock(f"/{service.name}"),
                    host.operation(f"start {service.name}") as op,
                ):
                    built = build(host, op, service)
                    if service.command:
                        launch(host, op, service)
            except KernelError as err:
                if last or not endpoints.healing(host, used[0] if used else "", err):
                    raise
            else:
                _announce_again(host, built)
                return status(host, host.store.service(service.name))
    raise AssertionError("unreachable")


def made_up_name(host: Host, command: tuple[str, ...]) -> str:
    """Return a name that no service has: the command's and four hex digits, ``python3-1a2b``."""
    word = command[0].rpartition("/")[2] if command else "netns"
    safe = "".join(char for char in word if char.isascii() and (char.isalnum() or char in "_.-"))
    while True:
        name = f"{safe.lstrip('_.-')[:40] or 'run'}-{os.urandom(2).hex()}"
        if host.store.service_or_none(name) is None:
            return name


def restart(host: Host, service: Service) -> None:
    """Start the command of a service whose process has ended."""
    with (
        host.lock(shared=True),
        host.store.name_lock(f"/{service.name}"),
        host.operation(f"restart {service.name}") as op,
    ):
        launch(host, op, service)


def run(host: Host, service: Service) -> int:
    """Run a service's command in the foreground and take the service away when it ends; return its exit status.

    While it runs, the journal says that the service goes, with all that others may have added to it meanwhile: if
    we are killed, the command dies with us and the next command takes the rest away.
    """
    from nsbridge.kernel.foreground import run_foreground

    addresses.check_features(host, service.attachments)
    name, used = service.name, _networks(service)
    ports.check_possible(host, service.ports)
    with networks.Use(host, used), host.operation(f"run {name}", "on") as held:
        with networks.Ensured(host, used), host.store.name_lock(f"/{name}"):
            _check_free(host, service)  # first of all: what is held goes, and somebody else's must not
            held.owe(Held(name))
            try:
                with host.operation(f"start {name}") as op:
                    built = build(host, op, service)
            except BaseException:
                held.paid()  # that operation is undone, or in the journal itself
                raise
        try:
            _announce_again(host, built)
            return run_foreground(process_spec(host, service, detach=False), _recorder(host, service))
        finally:
            remove_things(host, name)
            held.paid()


def execute(host: Host, name: str, command: tuple[str, ...], **changes: object) -> int:
    """Run one more command in a service's namespace; return its exit status. NotFound without the service.

    changes: fields of `Service` to set for it: environment, working_dir, user.
    """
    from nsbridge.kernel.foreground import run_foreground

    service: Service = host.store.service(name).service
    spec = process_spec(host, service.replace(command=command, **changes), detach=False)
    return run_foreground(spec, lambda running: None)


def status(host: Host, record: ServiceRecord) -> Status:
    """Return a service as it is now."""
    from nsbridge.kernel import process

    name = record.service.name
    found = host.store.endpoints(name=name)
    mine = tuple(endpoint for endpoint in found if endpoint.service == name)
    if record.pid and process.alive(process.Running(record.pid, record.started)):
        return Status(record, mine, "running", health=_health(host, record))
    if record.pid:
        text = (files.read(host.store.exit_file(name)) or "").strip()
        return Status(record, mine, "exited", int(text) if text.isdigit() else None)
    return Status(record, mine, "created")


def _health(host: Host, record: ServiceRecord) -> Answer | None:
    if record.service.health is None:
        return None
    from nsbridge.engine import health

    return health.answer(host, record)


def statuses(host: Host, project: str = "") -> tuple[Status, ...]:
    """Return every service, of one project when it is named."""
    return tuple(
        status(host, record) for record in host.store.services() if not project or record.service.project == project
    )


def stop(host: Host, records: Iterable[ServiceRecord], grace_s: float = GRACE_S) -> None:
    """Stop the commands of services, all at once; whoever they left in their namespaces goes too."""
    from nsbridge.kernel import process

    records = tuple(records)
    process.stop([process.Running(each.pid, each.started) for each in records if each.pid], grace_s)
    for each in records:
        if each.pid and each.service.mode in ("", "none"):
            inode = host.kernel.netns_id(each.service.netns)
            if inode:
                process.kill_inhabitants(inode, grace_s)


def going(host: Host, service: Service) -> tuple[list[Thing], list[Entry]]:
    """Return what goes with a service: from the kernel, and from the store."""
    things: list[Thing] = []
    entries: list[Entry] = []
    for endpoint in host.store.endpoints(name=service.name):
        if endpoint.service == service.name:
            more, rows = endpoints.detach_entries(host, endpoint)
            things += more
            entries += rows
    if service.mode in ("", "none"):
        things.append(Netns(service.netns))
    return things, [*entries, Put(host.store.service_path(service.name)), Put(host.store.run_path(service.name))]


def remove_things(host: Host, name: str) -> None:
    """Take a service away whose command has ended; nothing to do without it."""
    record = host.store.service_or_none(name)
    used = record.networks if record is not None else ()
    with networks.Use(host, used), host.lock(shared=True), host.store.name_lock(f"/{name}"):
        take_away(host, name)


def take_away(host: Host, name: str) -> tuple[str, ...]:
    """`remove_things` for a caller who holds the locks; return the networks that it was on, idle ones still there."""
    record = host.store.service_or_none(name)
    if record is None:
        return ()
    with host.operation(f"rm {name}", "on") as op:
        things, entries = going(host, record.service)
        op.finish([Started(name), *map(Began, removing(things)), *entries])
    return tuple(record.networks)


def remove(host: Host, name: str, *, force: bool = False) -> None:
    """Remove a service; InUse while its command runs, unless forced (then it is stopped first)."""
    record = host.store.service(name)
    now = status(host, record)
    if now.state == "running" and not force:
        raise InUse(f"service {name!r} is running", fix=f"`nsbridge stop {name}` first, or use --force")
    sharing = [each.service.name for each in host.store.services() if each.service.mode == f"service:{name}"]
    if sharing:
        raise InUse(f"the namespace of {name!r} is shared by {', '.join(sharing)}", fix=f"`nsbridge rm {sharing[0]}`")
    stop(host, (record,))
    remove_things(host, name)


def log_path(host: Host, name: str) -> str:
    """Return where a service's output is; InvalidIntent when it writes none."""
    record = host.store.service(name)
    if not record.service.command:
        raise InvalidIntent(f"service {name!r} has no command, so it writes nothing", fix="see `nsbridge ps`")
    return host.store.log(name)
