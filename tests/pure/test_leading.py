"""Who holds the default routes of a namespace."""

from __future__ import annotations

from ipaddress import ip_interface

import pytest

from nsbridge.desired.leading import leading
from nsbridge.model.endpoint import Endpoint
from nsbridge.model.service import Attachment, Service

FOUR, SIX = ip_interface("10.0.0.2/24"), ip_interface("fd00::2/64")
LOCAL = ip_interface("fe80::2/64")
SERVICE = Service("x", attachments=(Attachment("m"), Attachment("z", priority=1), Attachment("y"), Attachment("w")))


def on(network: str, *addresses: object, leads: bool = False) -> Endpoint:
    return Endpoint(network, "x", "/run/netns/x", addresses=addresses or (FOUR,), gateway=leads)  # type: ignore[arg-type]


@pytest.mark.proves("row 11")
@pytest.mark.parametrize(
    ("able", "service", "wanted"),
    [
        ((), None, ""),
        ((on("b"), on("a")), None, "a"),
        ((on("b", leads=True), on("a")), None, "b"),
        ((on("y", leads=True), on("z")), SERVICE, "z"),  # its main network, by priority
        ((on("y"), on("a"), on("m")), SERVICE, "m"),
        ((on("w"), on("a"), on("y")), SERVICE, "y"),  # in the service's order, and before those that came by hand
        ((on("y"), on("a", leads=True)), SERVICE, "a"),
        ((on("a", FOUR), on("b", SIX)), None, "ab"),
        ((on("a", FOUR), on("b", FOUR, SIX)), None, "a"),
        ((on("a", FOUR), on("b", FOUR, SIX, leads=True)), None, "b"),
        ((on("a", LOCAL), on("b", SIX)), None, "b"),
    ],
)
def test_who_leads(able: tuple[Endpoint, ...], service: Service | None, wanted: str) -> None:
    assert "".join(one.network for one in leading(able, service)) == wanted
    assert leading(reversed(able), service) == leading(able, service)
