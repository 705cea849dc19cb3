"""Who holds the default routes of a namespace."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from nsbridge.desired.leading import leading, shares
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment, Service

SERVICE = Service("x", attachments=(Attachment("m"), Attachment("z", priority=1), Attachment("y"), Attachment("w")))


@pytest.mark.proves("row 11")
@pytest.mark.parametrize(
    ("able", "held", "service", "wanted"),
    [
        ("", "", None, ""),
        ("ba", "", None, "a"),
        ("ba", "b", None, "b"),
        ("yz", "y", SERVICE, "z"),  # its main network, by priority
        ("yam", "", SERVICE, "m"),
        ("way", "", SERVICE, "y"),  # in the service's order, and before those that came by hand
        ("ya", "a", SERVICE, "a"),
        ("ya", "ya", SERVICE, "y"),
    ],
)
def test_who_leads(able: str, held: str, service: Service | None, wanted: str) -> None:
    assert leading(able, held, service) == wanted
    assert leading(able[::-1], held[::-1], service) == wanted


NETS = {"4": ("10.0.0.0/24",), "6": ("fd00::/64",), "46": ("10.0.0.0/24", "fd00::/64")}


@pytest.mark.proves("row 11")
@pytest.mark.parametrize(
    ("networks", "wanted"),
    [
        ("46", [(4, 6)]),
        ("4 46", [(4,), (6,)]),
        ("4 6", [(4,), (6,)]),
        ("46 46", [(4, 6), ()]),
        ("6 4 46", [(6,), (4,), ()]),
        ("46- 4", [(6,), (4,)]),  # an internal one leads nowhere
        ("4-", [(4,)]),
        ("4- 4-", [(4,), ()]),
        ("4- 46- 6", [(4,), (), (6,)]),
        ("", []),
    ],
)
def test_each_version_leads_by_the_first_network_that_has_it(networks: str, wanted: list[tuple[int, ...]]) -> None:
    made = [
        Network(name, tuple([Subnet(ip_network(text)) for text in NETS[kind.strip("-")]]), internal="-" in kind)
        for name, kind in zip("abc", networks.split(), strict=False)
    ]
    service = Service("x", attachments=tuple([Attachment(one.name) for one in made]))
    assert list(shares(made, service).values()) == wanted
