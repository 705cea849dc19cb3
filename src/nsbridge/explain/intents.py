"""What was meant, beside what happened: a culprit in terms of networks, published ports and policies, and their cure.

The walk names the rule or the missing socket. Records often tell why it is so: the port is published on 127.0.0.1 only,
as udp, under another number; the network is internal; a line of the policy says no. Each function here is one such
reason, and returns a better culprit, or none when it doesn't apply.
"""

from __future__ import annotations

from nsbridge.explain.cures import called, within
from nsbridge.explain.path import Culprit
from nsbridge.firewall.iptables import PREFIX
from nsbridge.model.names import DEFAULT_NETWORK
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from nsbridge.explain.path import Path
    from nsbridge.firewall.packet import Packet
    from nsbridge.model.endpoint import Endpoint, PublishedPort
    from nsbridge.model.network import Network
    from nsbridge.model.policy import Party, Policy, PolicyRule
    from nsbridge.state.things import Address_


class Records(Value):
    """What is remembered that a prediction may be about. source: endpoints of the namespace that asks.

    stopped: services whose command has ended, with how. listening: ports that are served in the namespace where it
    ended. own: addresses of the host.
    """

    networks: tuple[Network, ...]
    endpoints: tuple[Endpoint, ...]
    policies: tuple[Policy, ...] = ()
    source: tuple[Endpoint, ...] = ()
    stopped: tuple[tuple[str, str], ...] = ()
    listening: tuple[int, ...] = ()

    def network(self, name: str) -> Network | None:
        """Return the network of that name."""
        return next((one for one in self.networks if one.name == name), None)

    def at(self, address: Address_) -> Endpoint | None:
        """Return the endpoint that has an address."""
        return next((one for one in self.endpoints if any(mine.ip == address for mine in one.addresses)), None)

    def inside(self, netns: str) -> Endpoint | None:
        """Return an endpoint of a namespace, the one with the default route first."""
        found = [one for one in self.endpoints if one.netns == netns]
        return next((one for one in found if one.gateway), found[0] if found else None)


def better(path: Path, records: Records) -> Culprit | None:
    """Return the culprit in terms of what was meant; the one that is there when records know no better."""
    culprit = path.culprit
    if culprit is None:
        return None
    for reason in (_not_published, _by_rule, _internal, _stopped, _wrong_target):
        found = reason(path, culprit, records)
        if found is not None:
            return found
    return culprit


def _publications(records: Records) -> Iterator[tuple[Endpoint, PublishedPort]]:
    for endpoint in records.endpoints:
        for port in endpoint.ports:
            yield endpoint, port


def _holds(port: PublishedPort, number: int | None) -> bool:
    return number is not None and port.host_port <= number < port.host_port + port.count


def _bracketed(address: Address_) -> str:
    return f"[{address}]" if address.version == 6 else str(address)


def _target(port: PublishedPort, number: int) -> int:
    return port.target + number - port.host_port


def _not_published(path: Path, culprit: Culprit, records: Records) -> Culprit | None:
    """Asked for a port of the host that nobody serves: a published port was meant, but not this one."""
    asked = path.question.packet
    if culprit.netns or culprit.kind not in ("listener", "protocol") or path.out.netns or asked.dport is None:
        return None
    number, proto, to = asked.dport, asked.proto, asked.daddr
    here = [(endpoint, port) for endpoint, port in _publications(records) if _holds(port, number)]
    for endpoint, port in here:
        if port.proto == proto:
            return _bound_elsewhere(endpoint, port, asked) or _untranslated(endpoint, port, asked)
    for endpoint, port in here:
        why = f"port {number} of {endpoint.name!r} is published as {port.proto}; asked was {proto}"
        fix = f"nsbridge publish {endpoint.name} {number}:{_target(port, number)}/{proto}"
        return Culprit("protocol", "", str(port), why, (fix,), f"or ask by {port.proto}")
    for endpoint, port in _publications(records):
        if port.proto == proto and port.target <= number < port.target + port.count:
            other = port.host_port + number - port.target
            why = f"{number} is the port inside {endpoint.name!r}; on the host it is published as {other}"
            fix = f"nsbridge publish {endpoint.name} {number}:{number}/{proto}"
            return Culprit("port", "", str(port), why, (fix,), f"or ask {_bracketed(to)}:{other}")
    return _unknown(culprit, number, sorted({port.host_port for _, port in _publications(records)}))


def _unknown(culprit: Culprit, number: int, published: list[int]) -> Culprit | None:
    """Neither served nor published: name what is."""
    if not published or culprit.kind != "listener":
        return None
    shown = ", ".join(map(str, published[:5])) + (", …" if len(published) > 5 else "")
    why = f"{culprit.why}, and it isn't published (published: {shown})"
    return culprit.replace(why=why, advice=f"publish it: nsbridge publish NAME {number}:PORT")


def _bound_elsewhere(endpoint: Endpoint, port: PublishedPort, asked: Packet) -> Culprit | None:
    to, number = asked.daddr, asked.dport or 0
    where = port.interface or ("" if port.host_ip is None or port.host_ip.is_unspecified else str(port.host_ip))
    family = port.host_ip.version if port.host_ip is not None else to.version
    if (not where or where == str(to)) and family == to.version:
        return None
    shown = where or f"IPv{family}"
    why = f"{number}/{port.proto} of {endpoint.name!r} is published on {shown} only, not on {to}"
    fix = f"nsbridge publish {endpoint.name} {_bracketed(to)}:{number}:{_target(port, number)}/{port.proto}"
    return Culprit("port", "", str(port), why, (fix,), f"or ask {shown}")


def _untranslated(endpoint: Endpoint, port: PublishedPort, asked: Packet) -> Culprit:
    """Published just there, but no rule rewrote it."""
    to = asked.daddr
    if to.version == 6 and (to.is_loopback or to.is_link_local or endpoint.address(6) is None):
        what = "[::1]" if to.is_loopback else "a link-local address" if to.is_link_local else "IPv6"
        why = (
            f"{port} of {endpoint.name!r} can't be reached by {what} without a proxy: "
            + ("the kernel can't rewrite [::1]" if to.is_loopback else "it has no IPv6 address" if not to.is_link_local
               else "link-local packets aren't forwarded")
        )  # fmt: skip
        return Culprit("proxy", "", str(port), why, advice="ask by IPv4, or give the network IPv6 (--ipv6)")
    if endpoint.address(to.version) is None:
        why = f"{port} is published, but {endpoint.name!r} has no IPv{to.version} address"
        return Culprit("port", "", str(port), why, advice=f"ask by IPv{10 - to.version}")
    why = f"{port} of {endpoint.name!r} is published, but our rules have lost it"
    return Culprit("ours", "", str(port), why, ("nsbridge mend",))


# rules of ours


def _by_rule(path: Path, culprit: Culprit, records: Records) -> Culprit | None:
    """One of our own rules dropped it: say what it means here."""
    if culprit.kind != "ours" or culprit.fix:
        return None
    # In iptables chains of ours bear a prefix, and the number of a rule behind a dash.
    chain = culprit.thing.partition(":")[0].rpartition(" ")[2].removeprefix(PREFIX).partition("-")[0]
    if chain in ("deny", "refuse", "deny_log", "refuse_log", "rejected", "unrejected"):
        return _denied(path, culprit, records)
    for mark, reason in (
        ("S3, S9", _unreachable),
        ("S10: no way", _closed_network),
        ("S10: a gateway", _closed_network),
        ("S4", _gateway),
        ("S16", _spoofed),
        ("icc: false", _apart),
        ("S13", _stranger),
    ):
        if mark in culprit.why:
            return reason(path, culprit, records)
    return None


def _unreachable(path: Path, culprit: Culprit, records: Records) -> Culprit | None:
    packet = path.out.packet
    target = records.at(packet.daddr)
    if target is None:
        return None
    mine = records.at(packet.saddr)
    if mine is not None and mine.network == target.network:
        return _apart(path, culprit, records)
    if mine is not None:
        why = f"{mine.name!r} is on network {mine.network!r} and {target.name!r} on {target.network!r}"
        fix = f"nsbridge connect {target.network} {called(mine.netns) if '/' not in called(mine.netns) else mine.netns}"
        return culprit.replace(kind="network", why=f"{why}: networks are kept apart", fix=(fix,))
    if packet.dport is None:
        return culprit.replace(why=f"{target.name!r} can't be reached directly from outside", advice="publish a port")
    for port in target.ports:
        if port.proto == packet.proto and port.target == packet.dport:
            why = f"from outside, port {packet.dport} of {target.name!r} is reached by the host's port {port.host_port}"
            return culprit.replace(kind="port", why=why, advice=f"ask the host: port {port.host_port}")
    why = f"port {packet.dport}/{packet.proto} of {target.name!r} isn't published"
    fix = f"nsbridge publish {target.name} {packet.dport}:{packet.dport}/{packet.proto}"
    return culprit.replace(kind="port", why=why, fix=(fix,), advice=f"then ask the host: port {packet.dport}")


def _closed_network(path: Path, culprit: Culprit, records: Records) -> Culprit | None:
    packet = path.out.packet
    for address, way, other in ((packet.saddr, "out", packet.daddr), (packet.daddr, "in", packet.saddr)):
        mine = records.at(address)
        network = records.network(mine.network) if mine is not None else None
        if mine is not None and network is not None and network.internal:
            there = records.at(other)
            join = there.network if there is not None else DEFAULT_NETWORK
            name = mine.netns.removeprefix("/run/netns/")
            why = f"network {network.name!r} of {mine.name!r} is internal: no way {way}"
            return culprit.replace(kind="network", why=why, fix=(f"nsbridge connect {join} {name}",))
    return None


def _gateway(path: Path, culprit: Culprit, records: Records) -> Culprit | None:
    to = path.out.packet.daddr
    why = f"{to} is the gateway of a network; it answers that network and the host alone"
    return culprit.replace(why=why, advice="ask another address of the host")


def _spoofed(path: Path, culprit: Culprit, records: Records) -> Culprit | None:
    packet, hop = path.out.packet, path.out.hops[0]
    if path.back is not None:
        packet, hop = path.back.packet, path.back.hops[0]
    mine = records.inside(hop.netns)
    if mine is None:
        return None
    if all(packet.saddr != one.ip for one in mine.addresses):
        own = ", ".join(str(one.ip) for one in mine.addresses)
        why = f"{mine.name!r} sends from {packet.saddr}, but nsbridge gave it {own}, and lets it send from that alone"
        prefix = next((one.network.prefixlen for one in mine.addresses if packet.saddr in one.network), "")
        fix = within(mine.netns, f"ip address del {packet.saddr}{f'/{prefix}' if prefix else ''} dev {mine.ifname}")
        return culprit.replace(kind="guard", why=why, fix=(fix,))
    if packet.ether_saddr and packet.ether_saddr != mine.mac:
        why = f"{mine.name!r} sends with MAC {packet.ether_saddr}, but nsbridge gave it {mine.mac}"
        return culprit.replace(kind="guard", why=why, fix=("nsbridge mend",))
    return None


def _apart(path: Path, culprit: Culprit, records: Records) -> Culprit | None:
    mine = records.at(path.out.packet.saddr)
    if mine is None:
        return None
    why = f"endpoints of network {mine.network!r} may not talk to one another (icc: false), but for published ports"
    return culprit.replace(kind="network", why=why, advice="connect both to another network, or publish the port")


def _stranger(path: Path, culprit: Culprit, records: Records) -> Culprit | None:
    why = "nsbridge turned forwarding on for its own networks, so this host is no router for others (S13)"
    return culprit.replace(
        why=why, advice="set net.ipv4.ip_forward=1 in /etc/sysctl.d, so that it is on before the first network"
    )


# policies


def _meets(party: Party, address: Address_, records: Records) -> bool:
    if party.kind == "address":
        return any(address.version == net.version and address in net for net in party.nets)
    mine = records.at(address)
    if party.kind == "network":
        network = records.network(party.name)
        nets = [one.network for one in network.subnets] if network is not None else []
        return any(address.version == net.version and address in net for net in nets)
    return mine is not None and party.name in (mine.service, mine.name)


def _says(rule: PolicyRule, packet: Packet, records: Records) -> bool:
    proto = packet.proto.replace("icmpv6", "icmp")
    return (
        (("any" in rule.protocols) or proto in rule.protocols)
        and (packet.dport is None or any(first <= packet.dport <= last for first, last in rule.ports))
        and _meets(rule.source, packet.saddr, records)
        and _meets(rule.target, packet.daddr, records)
    )


def _denied(path: Path, culprit: Culprit, records: Records) -> Culprit | None:
    packet = path.out.packet
    for policy in records.policies:
        for number, rule in enumerate(policy.rules, 1):
            if _says(rule, packet, records):
                why = f"rule {number} of the policy of project {policy.project!r} says: {rule}"
                return culprit.replace(
                    kind="policy", thing=str(rule), why=why, advice="change the file's policy, then `nsbridge up`"
                )
    mine = records.at(packet.saddr)
    network = records.network(mine.network) if mine is not None else None
    if mine is None or network is None or network.policy == "allow":
        return None
    what = f"{packet.daddr}:{packet.dport}/{packet.proto}" if packet.dport is not None else str(packet.daddr)
    why = f"network {network.name!r} lets its endpoints begin nothing that no rule allows (policy: {network.policy})"
    return culprit.replace(
        kind="policy", why=why, advice=f"allow {mine.name} -> {what} in the file, then `nsbridge up`"
    )


# the rest


def _internal(path: Path, culprit: Culprit, records: Records) -> Culprit | None:
    """No default route, since the network is internal."""
    if culprit.kind != "route" or culprit.thing != "no route" or path.question.start is None:
        return None
    mine = [one for one in records.endpoints if one.netns == culprit.netns]
    networks = [records.network(one.network) for one in mine]
    if not mine or not all(network is not None and network.internal for network in networks):
        return None
    why = f"network {mine[0].network!r} of {mine[0].name!r} is internal: no way out"
    name = mine[0].netns.removeprefix("/run/netns/")
    there = records.at(path.question.packet.daddr)
    join = there.network if there is not None else DEFAULT_NETWORK
    return Culprit("network", culprit.netns, "internal", why, (f"nsbridge connect {join} {name}",))


def _stopped(path: Path, culprit: Culprit, records: Records) -> Culprit | None:
    """The server of a service has ended."""
    if culprit.kind != "listener":
        return None
    mine = records.inside(culprit.netns) if culprit.netns else None
    for name, how in records.stopped:
        if mine is not None and mine.service == name and "alone" not in culprit.why:
            why = f"the command of service {name!r} {how}, so nobody listens on {culprit.thing}"
            return culprit.replace(why=why, fix=(f"nsbridge start {name}",), advice="")
    return None


def _wrong_target(path: Path, culprit: Culprit, records: Records) -> Culprit | None:
    """A port is published to one that nobody serves, while the endpoint serves just one other."""
    asked, got = path.question.packet, path.out.packet
    mine = records.inside(culprit.netns) if culprit.netns else None
    if mine is None or culprit.kind != "listener" or len(records.listening) != 1 or asked.dport is None:
        return None
    for port in mine.ports:
        if port.proto == got.proto and _holds(port, asked.dport) and _target(port, asked.dport) == got.dport:
            served = records.listening[0]
            if served == got.dport:
                return None
            why = f"port {asked.dport} leads to port {got.dport} of {mine.name!r}, but that serves {served}"
            fix = (
                f"nsbridge unpublish {mine.name} {port.host_port}:{port.target}/{port.proto}",
                f"nsbridge publish {mine.name} {port.host_port}:{served}/{port.proto}",
            )
            return culprit.replace(kind="port", why=why, fix=fix, advice="")
    return None
