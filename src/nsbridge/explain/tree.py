"""A picture as text: a tree from the world down to each interface, in 80 columns."""

from __future__ import annotations

from nsbridge.explain.picture import WORLD, gateways, nature, port_text, way_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.explain.picture import Picture
    from nsbridge.model.endpoint import Endpoint
    from nsbridge.model.network import Network

WIDTH = 80


def render(picture: Picture) -> str:
    """Return the picture as lines of at most `WIDTH` columns, unless a name alone is longer."""
    lines = ["the world"]
    lines += [
        f"  └─ {one.name}  {', '.join(str(each.ip) for each in one.addresses)}".rstrip() for one in picture.uplinks
    ]
    lines += ["", "the host"]
    for place, network in enumerate(picture.networks):
        last = place == len(picture.networks) - 1
        lines += _network(picture, network, "  └─ " if last else "  ├─ ", "     " if last else "  │  ")
    if not picture.networks:
        lines.append("  no network")
    if picture.way:
        lines += ["", "the way of the packet", *_way(picture)]
    return "\n".join(lines) + "\n"


def _network(picture: Picture, network: Network, first: str, rest: str) -> list[str]:
    said = [said for said in (f"network {network.name}", nature(network)) if said]
    out = way_out(network)
    said += [f"out by {out}" if out == "NAT" else out] if out and network.driver == "bridge" else []
    head = f"{network.ifname}  {'  '.join(gateways(network))}"
    lines = _folded(first, rest + "│  ", f"{head}  ({', '.join(said)})")
    there = picture.on(network)
    width = max([len(picture.name_of(one.netns)) for one in there], default=0)
    for place, endpoint in enumerate(there):
        ends = place == len(there) - 1
        lines += _endpoint(
            picture, endpoint, width, rest + ("└─ " if ends else "├─ "), rest + ("   " if ends else "│  ")
        )
    return lines


def _endpoint(picture: Picture, endpoint: Endpoint, width: int, first: str, rest: str) -> list[str]:
    name = picture.name_of(endpoint.netns).ljust(width)
    addresses = " ".join(str(one.ip) for one in endpoint.addresses)
    lines = _folded(first, rest + "  ", f"{name}  {endpoint.ifname} {addresses}".rstrip())
    ports = ", ".join(map(port_text, endpoint.ports))
    if not ports:
        return lines
    if len(lines[-1]) + len(ports) + 3 <= WIDTH:
        return [*lines[:-1], f"{lines[-1]}  ◀ {ports}"]
    return lines + _folded(f"{rest}  ◀ ", f"{rest}    ", ports)


def _way(picture: Picture) -> list[str]:
    found = []
    for number, stop in enumerate(picture.way, 1):
        where = {WORLD: "the world", "": "the host"}.get(stop.at) or picture.name_of(stop.at)
        found += _folded(f"  {number:>2} ", "       ", f"{where}: {stop.text}")
    return found


def _folded(first: str, rest: str, text: str) -> list[str]:
    """Break text at blanks so that it fits."""
    lines, line = [], first
    for place, word in enumerate(text.split(" ")):
        if place and len(line) + len(word) + 1 > WIDTH and line.strip():
            lines.append(line.rstrip())
            line = rest + word
        else:
            line += f" {word}" if place else word
    return [*lines, line.rstrip()]
