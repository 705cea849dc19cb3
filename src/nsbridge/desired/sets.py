"""The sets and maps of our table: all that changes as networks, endpoints and ports come and go are their elements."""

from __future__ import annotations

from nsbridge.firewall.ruleset import Set
from nsbridge.model.policy import LEVELS


def _policy_sets() -> tuple[Set, ...]:
    """Levels of a policy: within one no two elements overlap, an earlier one decides."""
    found = [Set("defaults", ("ifname",), ("verdict",), why="networks whose endpoints begin nothing unless allowed")]
    for way, levels in LEVELS.items():
        for digit in ("4", "6"):
            kind = f"ipv{digit}_addr"
            key = (kind, *(() if way == "host" else (kind,)), "inet_proto", "inet_service")
            for level in range(1, levels + 1):
                found.append(Set(f"{way}{digit}_{level}", key, ("verdict",), interval=True))
    return tuple(found)


SETS: tuple[Set, ...] = (
    Set("bridges", ("ifname",), why="bridges of our networks"),
    Set("internal", ("ifname",), why="bridges of networks with no way in or out"),
    Set("icc", ("ifname", "ifname"), why="bridge pairs whose endpoints may talk directly"),
    Set("raised", ("nf_proto",), why="families whose forwarding we turned on"),
    Set("closed", ("ifname",), why="bridges of others that were there, unforwarded, when we turned forwarding on"),
    Set("same", ("ifname", "ifname"), why="each of them with itself: frames that stay on one bridge"),
    Set("trusted", ("ifname", "ifname"), why="interfaces that may reach all of a network, with its bridge"),
    Set("unprotected", ("ifname", "nf_proto"), why="bridges whose endpoints may be reached directly from outside"),
    Set("routed", ("ifname", "nf_proto"), why="bridges of networks without NAT"),
    Set("routed4", ("ipv4_addr", "inet_proto", "inet_service"), why="ports published by networks without NAT"),
    Set("routed6", ("ipv6_addr", "inet_proto", "inet_service"), why="ports published by networks without NAT"),
    Set("home4", ("ifname", "ipv4_addr"), interval=True, why="each bridge with its IPv4 subnet"),
    Set("home6", ("ifname", "ipv6_addr"), interval=True, why="each bridge with its IPv6 subnet"),
    Set("subnets4", ("ipv4_addr",), interval=True, why="IPv4 subnets of our networks"),
    Set("subnets6", ("ipv6_addr",), interval=True, why="IPv6 subnets of our networks"),
    Set("hidden4", ("ipv4_addr",), interval=True, why="IPv4 subnets that leave with the host's address"),
    Set("hidden6", ("ipv6_addr",), interval=True, why="IPv6 subnets that leave with the host's address"),
    Set("publish4", ("inet_proto", "inet_service"), ("ipv4_addr", "inet_service"), why="ports on every address"),
    Set("publish6", ("inet_proto", "inet_service"), ("ipv6_addr", "inet_service"), why="ports on every address"),
    Set(
        "bound4",
        ("ipv4_addr", "inet_proto", "inet_service"),
        ("ipv4_addr", "inet_service"),
        why="ports on one address of the host",
    ),
    Set(
        "bound6",
        ("ipv6_addr", "inet_proto", "inet_service"),
        ("ipv6_addr", "inet_service"),
        why="ports on one address of the host",
    ),
    *[
        one
        for digit in ("4", "6")
        for one in (
            Set(
                f"face{digit}",
                ("ifname", "inet_proto", "inet_service"),
                (f"ipv{digit}_addr", "inet_service"),
                why="ports on one interface of the host",
            ),
            Set(
                f"own{digit}",
                (f"ipv{digit}_addr", "inet_proto", "inet_service"),
                (f"ipv{digit}_addr", "inet_service"),
                why="the same by the interface's addresses, for the host itself",
            ),
            Set(
                f"turns{digit}",
                ("inet_proto", "inet_service", "turn"),
                (f"ipv{digit}_addr", "inet_service"),
                why="ports that endpoints share, turn by turn",
            ),
            Set(
                f"ranges{digit}",
                (f"ipv{digit}_addr", "inet_proto", "inet_service"),
                (f"ipv{digit}_addr",),
                interval=True,
                why="ranges of ports that keep their numbers",
            ),
            Set(
                f"source{digit}",
                (f"ipv{digit}_addr",),
                (f"ipv{digit}_addr",),
                interval=True,
                why="subnets that leave with one address of the host",
            ),
        )
    ],
    *_policy_sets(),
)
