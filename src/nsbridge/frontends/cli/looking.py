"""The verbs `ps`, `port`, `inspect`."""

from __future__ import annotations

import time

from nsbridge.engine import services
from nsbridge.errors import NotFound, NsbridgeError
from nsbridge.frontends.cli import output, parse, records, words
from nsbridge.frontends.cli.trouble import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nsbridge.engine.host import Host
    from nsbridge.engine.services import Status
    from nsbridge.model.endpoint import Endpoint

LONGEST_COMMAND = 40
"""Characters of a command in a table."""


def ps(host: Host, args: Any) -> None:
    """List services and connected namespaces."""
    statuses = services.statuses(host, args.project)
    hidden = 0
    if not args.all:
        shown = tuple(status for status in statuses if status.state != "exited")
        hidden, statuses = len(statuses) - len(shown), shown
    strangers = _strangers(host, args.project)
    if args.quiet:
        for name in [*[status.record.service.name for status in statuses], *strangers]:
            output.line(name)
    elif args.json:
        output.as_json(
            [
                *[records.service_record(status) for status in statuses],
                *[records.stranger_record(found, _stranger_state(host, found)) for found in strangers.values()],
            ]
        )
    else:
        rows = [_service_row(status) for status in statuses]
        rows += [_stranger_row(host, name, found) for name, found in strangers.items()]
        output.table(("NAME", "COMMAND", "STATE", "NETWORKS", "PORTS"), rows, shrinks="COMMAND")
    if hidden:
        host.say(f"{hidden} whose command has ended not shown: `nsbridge ps -a` shows all")


def _strangers(host: Host, project: str) -> dict[str, list[Endpoint]]:
    """Return the endpoints of namespaces that we didn't make, by name."""
    found: dict[str, list[Endpoint]] = {}
    for endpoint in host.store.endpoints():
        if not endpoint.service and project in ("", endpoint.project):
            found.setdefault(endpoint.name, []).append(endpoint)
    return dict(sorted(found.items()))


def _stranger_state(host: Host, found: list[Endpoint]) -> str:
    return "attached" if host.kernel.netns_id(found[0].netns) == found[0].netns_id else "gone"


def _stranger_row(host: Host, name: str, found: list[Endpoint]) -> tuple[str, ...]:
    state = _stranger_state(host, found)
    return (name, f"({found[0].netns})", state, words.networks_text(found), words.ports_text(found))


def _service_row(status: Status) -> tuple[str, ...]:
    service = status.record.service
    command = _command_line(service.command)
    if len(command) > LONGEST_COMMAND:
        command = command[: LONGEST_COMMAND - 1] + "…"
    places = words.networks_text(status.endpoints) or (f"({service.mode})" if service.mode else "")
    return (service.name, command, _state(status), places, words.ports_text(status.endpoints))


def _command_line(words: tuple[str, ...]) -> str:
    if not words:
        return ""
    import shlex  # with all of `re`, which most services, having no command of their own, needn't wait for

    return shlex.join(words)


def _state(status: Status) -> str:
    if status.state == "running":
        health = f" ({status.health.status})" if status.health else ""
        return f"running {words.ago(time.time() - status.record.since)}{health}"
    if status.state == "exited":
        return f"exited ({'?' if status.exit_status is None else status.exit_status})"
    return status.state


def port(host: Host, args: Any) -> None:
    """Show where ports are published, in docker port's form."""
    found = host.store.endpoints(args.net, args.name)
    if not found:
        on = f" on network {args.net!r}" if args.net else ""
        raise NotFound(f"there is no endpoint {args.name!r}{on}", fix="see `nsbridge ps -a`")
    rows = [(endpoint, one) for endpoint in found for one in endpoint.ports]
    if args.port:
        target, proto = parse.inner_port(args.port)
        rows = [(endpoint, one) for endpoint, one in rows if (one.target, one.proto) == (target, proto)]
        if not rows:
            raise NsbridgeError(
                f"port {target}/{proto} of {args.name!r} isn't published",
                fix=f"publish it: nsbridge publish {args.name} HOST_PORT:{args.port}",
            )
    if args.json:
        output.as_json([records.port_record(one) for _, one in rows])
        return
    for endpoint, one in rows:
        for place in words.host_places(one, endpoint):
            output.line(place if args.port else f"{one.target_text}/{one.proto} -> {place}")


def inspect(host: Host, args: Any) -> None:
    """Print all about services, endpoints and networks as JSON."""
    found: list[dict[str, Any]] = []
    each(args.names, lambda name: found.extend(_named(host, name)), finally_=lambda: output.as_json(found))


def _named(host: Host, name: str) -> list[dict[str, Any]]:
    record = host.store.service_or_none(name)
    if record is not None:
        return [records.service_record(services.status(host, record))]
    endpoints = host.store.endpoints(name=name)
    if endpoints:
        return [records.endpoint_record(endpoint) for endpoint in endpoints]
    network = host.store.network_or_none(name)
    if network is not None:
        return [records.network_record(network, host.store.endpoints(name))]
    raise NotFound(
        f"there is no service, endpoint or network {name!r}", fix="see `nsbridge ps -a` and `nsbridge network ls`"
    )
