"""`nsbridge mend`: what of ours is lost comes back, what is others' stays, and nothing is done twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from commands import Command, settled
from lab import Lab

from nsbridge.engine.mend import lost, mend, told
from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.netns, pytest.mark.proves("row 86")]


@pytest.fixture
def there(lab: Lab, nb: Command) -> Iterator[Command]:
    """Two networks, one of both families, and an endpoint that publishes a port."""
    lab.host.netns("web")
    nb("network", "create", "--subnet", "10.77.0.0/24", "--subnet", "fd00:77::/64", "front")
    nb("connect", "front", "web", "-p", "8080:80")
    yield nb
    nb("disconnect", "front", "web")
    nb("network", "rm", "front")


LOSSES = (
    "nft flush ruleset",
    "nft delete table bridge nsbridge",
    "nft flush chain inet nsbridge forwarding",
    "nft insert rule inet nsbridge forwarding accept",
    "nft delete element inet nsbridge publish4 '{ tcp . 8080 }'",
    "ip link set nsb-front down",
    "ip link del nsb-front",
    "ip address del 10.77.0.1/24 dev nsb-front",
    "ip -n web link set eth0 down",
    "ip -n web address flush dev eth0 scope global",
    "ip -n web route del default",
    "sysctl -qw net.ipv4.ip_forward=0 net.ipv4.conf.nsb-front.route_localnet=0",
)


def test_what_is_lost_comes_back(lab: Lab, there: Command) -> None:
    before = settled()
    for loss in LOSSES:
        lab.sh(loss)
        host = open_host()
        foreseen = {thing.identity for thing in told(lost(host))}
        assert foreseen, loss
        assert foreseen <= {thing.identity for thing in told(mend(host))}, loss
        assert (mend(host), lost(host)) == ((), ()), loss
    after = settled()
    assert [line for line in after.splitlines() if line.startswith("nft|")] == [
        line for line in before.splitlines() if line.startswith("nft|")
    ]


def test_what_others_made_stays(lab: Lab, there: Command) -> None:
    lab.sh("nft 'add table inet theirs; add chain inet theirs f { type filter hook forward priority 0; }'")
    lab.sh("nft add rule inet nsbridge admin ip daddr 192.0.2.1 drop")
    lab.sh("ip route add 192.0.2.0/24 via 198.51.100.2; nft delete element inet nsbridge publish4 '{ tcp . 8080 }'")
    assert "tcp . 8080" in there("mend", "-n").out
    assert there("mend").out == "element { tcp . 8080 : 10.77.0.2 . 80 } of publish4\n"
    listing = lab.sh("nft list ruleset; ip route").out
    for kept in ("table inet theirs", "ip daddr 192.0.2.1 drop", "192.0.2.0/24 via", "tcp . 8080"):
        assert kept in listing
    lab.sh("nft flush chain inet nsbridge admin; nft delete table inet theirs")


def test_nothing_to_do(lab: Lab, nb: Command) -> None:
    done = nb("mend")
    assert (done.out, "nothing of ours is lost" in done.err) == ("", True)
