"""The verbs `connect`, `disconnect`, `publish`, `unpublish`: the quick ones, so nothing heavy is imported here."""

from __future__ import annotations

from nsbridge.engine import endpoints
from nsbridge.engine.endpoints import Wish
from nsbridge.errors import NotFound
from nsbridge.frontends.cli import output, parse
from nsbridge.model.names import netns_name, netns_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from nsbridge.engine.host import Host
    from nsbridge.model.endpoint import PublishedPort


def connect(host: Host, args: Any) -> None:
    """Attach a namespace, and print where it is now."""
    path = netns_path(args.netns)
    wish = Wish(
        args.name or netns_name(path),
        path,
        parse.attachment(args.network, args),
        ports=parse.ports("-p", args.publish),
    )
    endpoint = endpoints.connect(host, wish)
    if args.json:
        from nsbridge.frontends.cli.records import endpoint_record

        output.as_json(endpoint_record(endpoint))
        return
    from nsbridge.frontends.cli.words import ports_text

    addresses = ", ".join(map(str, endpoint.addresses)) or "no address"
    published = f"; published {ports_text((endpoint,))}" if endpoint.ports else ""
    output.line(f"{endpoint.name} is on {endpoint.network}: {endpoint.ifname}, {addresses}{published}")


def disconnect(host: Host, args: Any) -> None:
    """Take endpoints away, several in one operation. Each may be named as its namespace was to connect."""
    names = [_endpoint_name(host, args.network, name) for name in args.name]
    if args.force:
        names = [name for name in names if host.store.endpoint(args.network, name) is not None]
    try:
        if len(names) == 1:
            endpoints.disconnect(host, args.network, names[0])
        elif names:
            endpoints.disconnect_all(host, args.network, names)
    except NotFound:
        if not args.force:
            raise


def _endpoint_name(host: Host, network: str, name: str) -> str:
    if "/" in name or (name.isdecimal() and host.store.endpoint(network, name) is None):
        return netns_name(netns_path(name))
    return name


def publish(host: Host, args: Any) -> None:
    """Publish ports, and print them with what was chosen."""
    wanted = parse.ports("PORT", args.ports)
    if args.drain or args.undrain:
        _turn(host, args, wanted)
        return
    if args.share:
        wanted = tuple(port.replace(share=True) for port in wanted)
    endpoint = endpoints.publish(host, args.name, wanted, args.net)
    for port in endpoint.ports[-len(wanted) :]:
        output.line(str(port))


def _turn(host: Host, args: Any, ports: tuple[PublishedPort, ...]) -> None:
    """Take an endpoint out of turn on shared ports, or let it in again."""
    from nsbridge.engine import shared

    endpoint = endpoints.find_one(host, args.name, args.net)
    for port in ports:
        found = shared.turn_out(host, endpoint, port, args.drain)
        ready = [member.endpoint for member in found.members if member.ready]
        output.line(f"{found.host_port}/{found.proto}: {', '.join(ready) or 'nobody'}")


def unpublish(host: Host, args: Any) -> None:
    """Take published ports away."""
    endpoints.unpublish(host, args.name, parse.ports("PORT", args.ports), args.net)
