"""The verbs `run`, `exec`, `logs`, `stop`, `start`, `rm`. What a command writes to stdout is never added to."""

from __future__ import annotations

from nsbridge.engine import services
from nsbridge.errors import InvalidIntent
from nsbridge.files import parts
from nsbridge.frontends.cli import output, parse
from nsbridge.frontends.cli.trouble import each
from nsbridge.model.names import DEFAULT_NETWORK
from nsbridge.model.service import Attachment, Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nsbridge.engine.host import Host


def run(host: Host, args: Any) -> int:
    """Run a command in a namespace of its own; return its exit status, or print its name and leave it."""
    command = parse.command(args.command)
    if not command and not args.detach:
        raise InvalidIntent("there is no command to run", fix="name one: nsbridge run -- COMMAND; or give -d")
    service = _service(host, args, command)
    if not args.detach:
        return services.run(host, service)
    services.start(host, service)
    output.line(service.name)
    return 0


def _service(host: Host, args: Any, command: tuple[str, ...]) -> Service:
    mode, attachments = _places(args)
    return Service(
        args.name or services.made_up_name(host, command),
        command=command,
        environment=parse.environment(args.env),
        working_dir=args.workdir,
        user=parse.taken("-u", parts.user, args.user) if args.user else "",
        hostname=args.hostname,
        attachments=attachments,
        ports=parse.ports("-p", args.publish),
        mode=mode,
        labels=parse.pairs("-l", args.label),
        foreground=not args.detach,
        health=parse.health(args),
    )


def _places(args: Any) -> tuple[str, tuple[Attachment, ...]]:
    """Return the mode and the attachments that --net and the options of the first network express."""
    names = args.net or [DEFAULT_NETWORK]
    first = parse.attachment(names[0], args)
    special = [name for name in names if name in ("none", "host") or ":" in name]
    if not special:
        return "", (first, *[Attachment(name) for name in names[1:]])
    if len(names) > 1:
        raise InvalidIntent(f"--net {special[0]} can't stand beside other networks", fix="leave one of them out")
    if first != Attachment(names[0]):
        raise InvalidIntent(
            f"--ip, --ip6, --mac-address and --alias need a network, and --net {special[0]} is none",
            fix="leave them out, or name a network",
        )
    kind, colon, name = special[0].partition(":")
    if not colon:
        return kind, ()
    if kind not in ("service", "container") or not name:
        raise InvalidIntent(f"--net is {special[0]!r}", fix="use a network's name, none, host, or service:NAME")
    return f"service:{name}", ()


def execute(host: Host, args: Any) -> int:
    """Run one more command in a service's namespace; return its exit status."""
    command = parse.command(args.command)
    if not command:
        raise InvalidIntent("there is no command to run", fix=f"name one: nsbridge exec {args.name} COMMAND")
    service = host.store.service(args.name).service
    changes: dict[str, object] = {"environment": (*service.environment, *parse.environment(args.env))}
    if args.workdir:
        changes["working_dir"] = args.workdir
    if args.user:
        changes["user"] = parse.taken("-u", parts.user, args.user)
    return services.execute(host, args.name, command, **changes)


def logs(host: Host, args: Any) -> None:
    """Show what commands wrote."""
    from nsbridge.frontends.cli.tail import Logs

    if args.tail != "all" and not args.tail.isdecimal():
        raise InvalidIntent(f"-n is {args.tail!r}", fix="give a number of lines, or all")
    names = args.names
    for name in names:
        services.log_path(host, name)  # says what is wrong with a name
    if not names:
        names = [
            record.service.name
            for record in host.store.services()
            if record.service.command and args.project in ("", record.service.project)
        ]
    shown = Logs(host, names, prefixed=len(args.names) != 1)
    if args.tail != "all":
        shown.skip_to_last(int(args.tail))
    shown.pump(rest=not args.follow)
    if args.follow:
        shown.follow()


def stop(host: Host, args: Any) -> None:
    """Stop commands, all at once, and print the services' names."""
    found = [host.store.service(name) for name in args.names]
    services.stop(host, found, args.timeout)
    for name in args.names:
        output.line(name)


def start(host: Host, args: Any) -> None:
    """Start commands that have ended, and print the services' names."""

    def one(name: str) -> None:
        record = host.store.service(name)
        if not record.service.command:
            raise InvalidIntent(f"service {name!r} has no command", fix=f"run one in it: nsbridge exec {name} COMMAND")
        if services.status(host, record).state != "running":
            services.restart(host, record.service)
        output.line(name)

    each(args.names, one)


def remove(host: Host, args: Any) -> None:
    """Remove services, and print the names of those that went."""

    def one(name: str) -> None:
        services.remove(host, name, force=args.force)
        output.line(name)

    each(args.names, one)
