"""A picture for programs that lay out graphs themselves: dot (graphviz.org) and mermaid (mermaid.js.org)."""

from __future__ import annotations

from itertools import pairwise

from nsbridge.explain.picture import WORLD, gateways, nature, port_text, ports_of, way_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.explain.picture import Picture, Uplink
    from nsbridge.model.network import Network


def _network_lines(network: Network) -> list[str]:
    lines = [network.ifname, *gateways(network), f"network {network.name}"]
    return [*lines, said] if (said := nature(network)) else lines


def _space_lines(picture: Picture, path: str) -> list[str]:
    lines = [picture.name_of(path)]
    for endpoint in picture.within(path):
        lines.append(" ".join([endpoint.ifname, *[str(one.ip) for one in endpoint.addresses]]))
    return lines


def _uplink_lines(uplink: Uplink) -> list[str]:
    return [uplink.name, *[str(one) for one in uplink.addresses]]


def _escaped(line: str) -> str:
    """What stands between double quotes, in dot as in YAML."""
    return line.replace("\\", "\\\\").replace('"', '\\"')


class _Graph:
    """Nodes, and edges between them, numbered so that any name is a valid one."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.uplinks = {one.name: f"up{place}" for place, one in enumerate(picture.uplinks)}
        self.networks = {one.name: f"net{place}" for place, one in enumerate(picture.networks)}
        self.spaces = {path: f"ns{place}" for place, path in enumerate(picture.spaces)}

    def edges(self) -> list[tuple[str, str, str, str]]:
        """Return from, to, label, and what it is: ``wire``, ``out``, ``port`` or ``way``."""
        picture = self.picture
        found = [("world", node, "", "wire") for node in self.uplinks.values()]
        for network in picture.networks:
            out = way_out(network)
            found += [(node, self.networks[network.name], out, "out") for node in self.uplinks.values() if out]
        for endpoint in picture.endpoints:
            label = endpoint.host_ifname if self._is_pair(endpoint.network) else ""
            found.append((self.networks[endpoint.network], self.spaces[endpoint.netns], label, "wire"))
        for path in picture.spaces:
            ports = [port_text(port) for port in ports_of(picture.within(path))]
            found += [("world", self.spaces[path], ", ".join(ports), "port")] if ports else []
        stops = [self.node(stop.at) for stop in picture.way]
        for number, (start, end) in enumerate(pairwise(stops), 1):
            if start and end and start != end:
                found.append((start, end, f"{number + 1}. {picture.way[number].text}", "way"))
        return found

    def node(self, at: str) -> str:
        """Return the node of a stop; the host is that of its first uplink."""
        host = next(iter(self.uplinks.values()), "world")
        return "world" if at == WORLD else self.spaces.get(at, host)

    def _is_pair(self, name: str) -> bool:
        return next(one for one in self.picture.networks if one.name == name).driver == "bridge"


# ------------------------------------------------------------------ dot


def _dot_text(lines: list[str]) -> str:
    return '"' + "\\n".join(map(_escaped, lines)) + '"'


_DOT_STYLE = {
    "wire": "dir=none",
    "out": "dir=none color=gray40",
    "port": 'style=dashed color="#9a6700" constraint=false',
    "way": 'color="#cf222e" penwidth=2 constraint=false',
}


def dot(picture: Picture) -> str:
    """Return the picture for graphviz: dot -Tsvg draws it."""
    graph = _Graph(picture)
    lines = [
        "digraph nsbridge {",
        f"  label={_dot_text([picture.title])}; labelloc=t; rankdir=TB; fontname=Helvetica;",
        "  node [shape=box style=rounded fontname=Helvetica fontsize=11];",
        "  edge [fontname=Helvetica fontsize=9];",
        '  world [label="the world" shape=ellipse];',
        "  subgraph cluster_host {",
        '    label="the host"; color=gray60;',
    ]
    for one in picture.uplinks:
        lines.append(f"    {graph.uplinks[one.name]} [label={_dot_text(_uplink_lines(one))}];")
    for network in picture.networks:
        lines.append(
            f'    {graph.networks[network.name]} [label={_dot_text(_network_lines(network))} color="#0969da"];'
        )
    lines.append("  }")
    for path, node in graph.spaces.items():
        lines.append(f'  {node} [label={_dot_text(_space_lines(picture, path))} color="#1a7f37"];')
    for start, end, label, kind in graph.edges():
        shown_label = f"label={_dot_text([label])} " if label else ""
        lines.append(f"  {start} -> {end} [{shown_label}{_DOT_STYLE[kind]}];")
    return "\n".join([*lines, "}"]) + "\n"


# ------------------------------------------------------------------ mermaid


def _mermaid_text(lines: list[str]) -> str:
    """Quoted, so that nothing in it is grammar; what would end the quotes or begin an entity is one itself."""
    safe = (
        line.replace("#", "#35;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;") for line in lines
    )
    return '"' + "<br/>".join(safe) + '"'


_ARROWS = {"wire": "---", "out": "---", "port": "-.->", "way": "==>"}


def mermaid(picture: Picture) -> str:
    """Return the picture as a flowchart of mermaid, which GitHub shows in pages."""
    graph = _Graph(picture)
    lines = ["---", f'title: "{_escaped(picture.title)}"', "---", "flowchart TB", '  world(["the world"])']
    lines.append('  subgraph host["the host"]')
    for one in picture.uplinks:
        lines.append(f"    {graph.uplinks[one.name]}[{_mermaid_text(_uplink_lines(one))}]")
    for network in picture.networks:
        lines.append(f"    {graph.networks[network.name]}[{_mermaid_text(_network_lines(network))}]")
    if not picture.uplinks and not picture.networks:
        lines.append('    nothing["no network"]')
    lines.append("  end")
    for path, node in graph.spaces.items():
        lines.append(f"  {node}({_mermaid_text(_space_lines(picture, path))})")
    for start, end, label, kind in graph.edges():
        shown_label = f"|{_mermaid_text([label])}|" if label else ""
        lines.append(f"  {start} {_ARROWS[kind]}{shown_label} {end}")
    return "\n".join(lines) + "\n"
