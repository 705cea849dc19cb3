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


def connect(host: Host, args: Any) -> None:
    """Attach a namespace, and print where it is now."""
    path = netns_path(args.netns)
    wish = Wish(
        args.name or netns_name(path),
        path,
        parse.attachment(args.network, args),
        ifname=args.ifname,
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
    """Take an endpoint away. It may be named as its namespace was to connect."""
    name = args.name
    if "/" in name or (name.isdecimal() and host.store.endpoint(args.network, name) is None):
        name = netns_name(netns_path(name))
    try:
        endpoints.disconnect(host, args.network, name)
    except NotFound:
        if not args.force:
            raise


def publish(host: Host, args: Any) -> None:
    """Publish ports, and print them with what was chosen."""
    wanted = parse.ports("PORT", args.ports)
    endpoint = endpoints.publish(host, args.name, wanted, args.net)
    for port in endpoint.ports[-len(wanted) :]:
        output.line(str(port))


def unpublish(host: Host, args: Any) -> None:
    """Take published ports away."""
    endpoints.unpublish(host, args.name, parse.ports("PORT", args.ports), args.net)
