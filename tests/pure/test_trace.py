"""Traced packets: headers as the kernel tells them, what is watched for, and which events belong to one flow."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from nsbridge.explain.compare import plain
from nsbridge.explain.following import directions
from nsbridge.firewall.tracing import Event, Watch, headers

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

PORTS = st.integers(0, 65535)
ONE, TWO = ip_address("10.0.0.1"), ip_address("10.0.0.2")
SYN, SYN_ACK, ACK, RST_ACK = 2, 18, 16, 20


def event(flags: int, run: int, *, back: bool = False, base: str = "forward", **fields: object) -> Event:
    ends = (TWO, ONE, "tcp", 80, 5000) if back else (ONE, TWO, "tcp", 5000, 80)
    found = Event("", "inet", "t", base, base, "policy", "accept", 0, *ends, flags=flags, run=run)
    return found.replace(**fields)


@given(st.ip_addresses(), PORTS, PORTS, st.sampled_from(["tcp", "udp"]))
def test_headers_are_read(address: IPv4Address | IPv6Address, sport: int, dport: int, proto: str) -> None:
    number = 6 if proto == "tcp" else 17
    if address.version == 4:
        network = bytes((0x45, 0, 0, 40, 0, 0, 0, 0, 64, number, 0, 0)) + address.packed * 2
    else:
        network = bytes((0x60, 0, 0, 0, 0, 20, number, 64)) + address.packed * 2
    carried = sport.to_bytes(2, "big") + dport.to_bytes(2, "big") + bytes(9) + bytes((SYN,)) + bytes(6)
    found = headers(network, carried)
    assert found is not None
    assert (found.saddr, found.daddr, found.proto, found.sport, found.dport) == (address, address, proto, sport, dport)
    assert found.flags == (SYN if proto == "tcp" else 0)


@given(st.binary(max_size=60), st.binary(max_size=30))
def test_torn_headers_are_no_headers_or_some(network: bytes, transport: bytes) -> None:
    found = headers(network, transport)
    assert found is None or found.saddr.version in (4, 6)


def test_an_echo_is_known_by_its_id() -> None:
    network = bytes((0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0)) + ONE.packed + TWO.packed
    found = headers(network, bytes((8, 0, 0, 0, 1, 2, 0, 1)))
    assert found is not None
    assert (found.proto, found.sport, found.dport) == ("icmp", 258, 8)
    assert Watch("icmp", ONE, TWO, 258, 8).turned == Watch("icmp", TWO, ONE, 258, 0)


@given(PORTS, PORTS)
def test_answers_to_answers_are_what_was_watched(sport: int, dport: int) -> None:
    watch = Watch("tcp", ONE, TWO, sport, dport)
    assert watch.turned != watch
    assert watch.turned.turned == watch


def test_one_flow_is_followed() -> None:
    """Its first packet and the first answer; what is sent again, and other ports, are left out."""
    first, answer = event(SYN, 1), event(SYN_ACK, 2, back=True)
    later = [event(ACK, 3), event(SYN, 4), event(SYN, 5, sport=5001), event(SYN_ACK, 6, back=True)]
    hairpin = event(SYN, 7, iif=3)
    rule = event(SYN, 1, kind="rule", handle=4)
    assert directions([first, rule, answer, *later, hairpin], 5000) == ([first, rule, hairpin], [answer])
    assert directions([event(RST_ACK, 1, back=True)], 5000) == ([], [event(RST_ACK, 1, back=True)])


def test_verdicts_as_the_kernel_tells_them() -> None:
    assert [plain(one) for one in ("reject with tcp reset", "dnat to 10.0.0.1:80", "masquerade", "jump x", "drop")] == [
        "drop",
        "accept",
        "accept",
        "jump x",
        "drop",
    ]
