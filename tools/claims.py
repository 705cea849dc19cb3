"""What a bridge driver of today owes its users, item by item, and whether nsbridge does it; docs/proofs.md shows it.

The numbers are those of a study of what Docker, netavark, the CNI plugins and Incus offer and what their users ask
for: S for security, rows for features. Which test proves an item is said by the test
(``@pytest.mark.proves("S3", "row 13")``), so here stands only what no test can say: what the item is, and why it isn't
there.
"""

from __future__ import annotations

from typing import NamedTuple

YES, KERNEL, LATER, NEVER = "yes", "on some kernels", "not yet", "never"


class Claim(NamedTuple):
    """One item. state: YES and KERNEL (where the kernel has what `reason` names) need a test; others may have none.

    reason: of LATER and NEVER why, of KERNEL what is needed, of YES what a reader should know besides.
    """

    name: str
    what: str
    state: str = YES
    reason: str = ""


DNS = "names come from `/etc/hosts`; a name server is to come with the resident service"
PROXY = "IPv6 can't be rewritten there: a resident proxy is to come, and `doctor` says which sockets it would serve"

SECURITY = (
    Claim("S1", "The host's 127.0.0.0/8 can't be reached by wire, though `route_localnet` is on for our bridges."),
    Claim("S2", "A port published on 127.0.0.1 answers nobody else, not by the endpoint's own address either."),
    Claim("S3", "Ports that aren't published are closed to a neighbour who routes straight to an endpoint, whatever "
          "the forward policy is."),
    Claim("S4", "A gateway's address answers its own network and the host, nobody else."),
    Claim("S5", "What opens a network is asked for: `routed`, `nat-unprotected`, trusted interfaces."),
    Claim("S6", "Only packets for the host's own addresses are translated; other machines' ports stay theirs."),
    Claim("S7", "Our translation comes after everybody else's: a port that others publish stays theirs."),
    Claim("S8", "Rules are written anew in one transaction: there is no moment at which something is open."),
    Claim("S9", "Networks don't reach one another, in neither direction; but each other's published ports."),
    Claim("S10", "An internal network has no way in or out, and its gateway is no bridge to the host's services.",
          YES, "it has no name server either that could carry something out"),
    Claim("S11", "An endpoint can't make itself the host's router or its neighbours' by advertising."),
    Claim("S12", "The host keeps the default route that its router advertises when IPv6 forwarding is turned on."),
    Claim("S13", "Forwarding that we turned on makes the host no router for others; one that was a router stays one."),
    Claim("S14", "Packets that belong to no known connection don't pass."),
    Claim("S15", "Connections of a port or endpoint that goes, moves or comes are forgotten, and no others."),
    Claim("S16", "Nobody sends with another's MAC or address, in ARP and neighbour discovery neither; with icc off "
          "neighbours don't meet."),
    Claim("S17", "Who comes from outside is seen as himself, never as 127.0.0.1 or the gateway."),
    Claim("S18", "A name server answers only about networks that the asker is on.", LATER, DNS),
    Claim("S19", "Single-label names and our own zone are never asked upstream.", LATER, DNS),
    Claim("S20", "Clients with a link-local address aren't translated, since no answer could be routed to them."),
    Claim("S21", "A published port is held by a socket of the host before its rules are there.", LATER,
          "that takes a process that stays; until then a listener that is there first is found and named, and "
          "`doctor` names one that comes later"),
    Claim("S22", "No descriptor or namespace of ours leaks into a command, and helpers have no rights they don't need.",
          YES, "there are no resident helpers; who writes down a command's exit status holds nothing else"),
    Claim("S23", "With several networks an endpoint answers where it was asked, strict reverse path filters or not."),
    Claim("S24", "Settings that somebody puts back are noticed, and the next `up` raises them again.",
          YES, "no file below `sysctl.d`: a reset closes, it opens nothing, and such a file would outlive us"),
    Claim("S25", "Names, aliases and labels carry nothing into a rule, a path or a line of a file."),
    Claim("S26", "Sockets of a daemon and pages are the owner's alone.", LATER, "there is no daemon and no page"),
    Claim("S27", "Tunnels learn from nobody unasked.", LATER, "there are no networks across hosts"),
    Claim("S28", "Our rules are in our own tables, and one marked rule in chains that drop; nobody else's is touched."),
    Claim("S29", "A forward chain of others that drops is found and told, since an accept of ours can't undo it."),
)  # fmt: skip

FEATURES = (
    Claim("1", "A bridge per network, a pair of interfaces per endpoint"),
    Claim("2", "Any command of the host in a network of its own, without an image"),
    Claim("3", "A namespace or process that is there already"),
    Claim("4", "Somebody else's bridge"),
    Claim("5", "macvlan and ipvlan", YES, "ipvlan where the kernel has it"),
    Claim("6", "VLANs on the ports of a bridge", KERNEL, "VLAN filtering; elsewhere refused before anything"),
    Claim("7", "VRF", KERNEL, "VRF; for bridges of others only ([why](adr/0008-no-bridge-of-ours-in-a-vrf.md))"),
    Claim("8", "A link between two without a bridge", NEVER,
          "a bridge with `icc: false` gives what it is used for ([why](adr/0011-no-links-without-a-bridge.md))"),
    Claim("9", "Names of the interface inside and on the host"),
    Claim("10", "A MAC of one's choice"),
    Claim("11", "Several networks in a fixed order, one chosen for the default route"),
    Claim("12", "MTU taken from the uplink"),
    Claim("13", "Members of one network kept apart"),
    Claim("14", "Forged MACs and addresses filtered"),
    Claim("15", "Automatic IPv4 subnets"),
    Claim("16", "Automatic IPv6 prefixes (ULA)"),
    Claim("17", "Dual stack, and IPv6 alone"),
    Claim("18", "Addresses of one's choice, several per endpoint"),
    Claim("19", "A range for automatic addresses, and exclusions"),
    Claim("20", "Subnets and routes of the host avoided, the culprit named"),
    Claim("21", "Addresses from a DHCP server of the network", LATER, "a lease takes a process that renews it"),
    Claim("22", "A DHCP server, router advertisements", NEVER,
          "addresses are given when an endpoint is connected: nobody has to ask, and nobody may advertise (S11)"),
    Claim("23", "No address lost after crash, kill or reboot"),
    Claim("24", "Addresses announced; conflicts found before they happen"),
    Claim("25", "Routes per network, blackholes too"),
    Claim("26", "Masquerading, IPv4 and IPv6"),
    Claim("27", "A fixed address for the way out"),
    Claim("28", "Routed networks without NAT"),
    Claim("29", "Internal networks"),
    Claim("30", "What endpoints may reach, by subnet and port"),
    Claim("31", "What endpoints may reach, by DNS name", LATER, DNS),
    Claim("32", "TCP and UDP"),
    Claim("33", "SCTP", KERNEL, "SCTP; elsewhere it is refused before anything is changed"),
    Claim("34", "Bound to an address of the host"),
    Claim("35", "Bound to an interface by its name"),
    Claim("36", "Ranges of ports"),
    Claim("37", "A range as one element of a map"),
    Claim("38", "A host port that we choose"),
    Claim("39", "A network's default address for ports"),
    Claim("40", "Reached by 127.0.0.1"),
    Claim("41", "Reached by [::1]", LATER, PROXY),
    Claim("42", "Reached from the host by its own addresses"),
    Claim("43", "Reached from the endpoint itself (hairpin)"),
    Claim("44", "Reached from another network through the host"),
    Claim("45", "The client's address kept", YES, "[where it can be](publishing.md#whose-address-the-endpoint-sees)"),
    Claim("46", "One port, both families"),
    Claim("47", "IPv6 clients of an endpoint that has only IPv4", LATER, PROXY),
    Claim("48", "The port reserved on the host", LATER, "see S21"),
    Claim("49", "Gateway modes nat, nat-unprotected, routed, isolated"),
    Claim("50", "Endpoints' own addresses closed to the LAN"),
    Claim("51", "Trusted interfaces as the exception"),
    Claim("52", "Ports of a running endpoint changed"),
    Claim("53", "Stale conntrack entries removed"),
    Claim("54", "Published ports beside a host's firewall", YES,
          "what is published is open although their forward chain drops; to close it is for chain `admin`, a policy "
          "or the address it is bound to"),
    Claim("55", "Networks isolated from one another"),
    Claim("56", "Policies per endpoint"),
    Claim("57", "A place for the administrator's own rules"),
    Claim("58", "Native nftables"),
    Claim("59", "iptables as the backend", YES, "frames between ports stay with nf_tables: no word for ND in ebtables"),
    Claim("60", "firewalld", YES, "beside its chains, without a zone of ours; after its restart `nsbridge up` mends"),
    Claim("61", "The forward policy of the host never touched"),
    Claim("62", "Reject or drop; what is denied logged"),
    Claim("63", "Names inside a network"),
    Claim("64", "Aliases"),
    Claim("71", "One port, several endpoints in turn"),
    Claim("72", "Unhealthy ones of them left out"),
    Claim("73", "Everything readable by machines"),
    Claim("76", "Why a packet arrives, or doesn't"),
    Claim("78", "What differs from what is wanted"),
    Claim("82", "What fails half way is walked back"),
    Claim("83", "Taking away what is half gone already"),
    Claim("86", "Rules restored after `nft flush ruleset`", YES, "by `nsbridge mend`, or the next change"),
    Claim("87", "Leftovers collected"),
    Claim("88", "Many commands at once"),
    Claim("89", "A file says what should be"),
    Claim("90", "A running topology changed to fit its file"),
    Claim("91", "What would happen, before it does"),
    Claim("92", "A Python API"),
    Claim("97", "Bandwidth limits"),
    Claim("98", "Delay, jitter and loss", KERNEL, "netem; elsewhere they are refused before anything is changed"),
)  # fmt: skip
