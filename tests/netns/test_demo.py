"""`nsbridge demo`, where Python is all there is, and for whom root is somebody else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from lab import FreshHost, Lab, eventually, inside, sh

import nsbridge
from nsbridge.frontends.cli import demo
from nsbridge.frontends.cli.demo_paths import LOCALHOST, Asked
from nsbridge.kernel import playground
from nsbridge.kernel.linux import LinuxKernel

pytestmark = pytest.mark.netns
NOBODY = 65534


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """The environment of a machine outside any sandbox, whose PATH has nothing but python3."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "python3").symlink_to(os.path.realpath(sys.executable))
    outer = {name: text for name, text in os.environ.items() if not name.startswith("NSBRIDGE_")}
    return outer | {"PATH": str(tools), "PYTHONDONTWRITEBYTECODE": "1"}


def run(env: dict[str, str], *arguments: str, user: int | None = None) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "nsbridge.frontends.cli.demo", *arguments]
    return subprocess.run(argv, env=env, user=user, capture_output=True, text=True, check=False, timeout=60)


def test_every_path_is_as_it_should_be(host: FreshHost, bare: dict[str, str]) -> None:
    done = run(bare)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✗" not in done.stdout
    assert "13 of 13 paths as they should be" in done.stdout
    assert "are as before" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert "set net.ipv4.ip_forward=1" in done.stderr
    assert os.listdir("/run/netns") == []


def test_as_json(host: FreshHost, bare: dict[str, str]) -> None:
    done = run(bare, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert (found["ok"], found["left"]) == (True, [])
    paths = {(path["from"], path["to"], path["through"]): path for path in found["paths"]}
    assert len(paths) == 13
    assert paths["outside", "ns1", "198.51.100.1:8088"]["source"] == "198.51.100.2"
    assert paths["ns1", "outside", "198.51.100.2:80"]["source"] == "198.51.100.1"
    assert paths["outside", "ns1", "175.18.0.2:80"]["answered"] is False
    assert [service["name"] for service in found["services"]] == ["ns1", "ns2"]


def test_for_somebody_without_any_rights(host: FreshHost, bare: dict[str, str]) -> None:
    env = bare | {"HOME": "/"}
    try:
        probe = subprocess.run([sys.executable, "-c", "import nsbridge"], env=env, user=NOBODY, cwd="/", check=False)
    except OSError as err:  # an ordinary user's sandbox has no other ids
        pytest.skip(f"can't become uid {NOBODY}: {err.strerror}")
    if probe.returncode:
        pytest.skip(f"uid {NOBODY} may not read this copy of nsbridge")
    os.chmod(Path(bare["PATH"]), 0o755)
    env["PATH"] = os.path.dirname(os.path.realpath(sys.executable))  # pytest's own folder isn't for others to enter
    done = run(env, user=NOBODY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "13 of 13" in done.stdout


BROKEN = """
import sys
from nsbridge.frontends.cli import demo
demo.FILE = sys.argv[1]
sys.exit(demo.main())
"""


def test_what_is_wrong_is_shown(host: FreshHost, tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(Path(demo.FILE).read_text().replace("8088:80", "8090:80"))
    done = subprocess.run([sys.executable, "-c", BROKEN, file], capture_output=True, text=True, check=False, timeout=60)
    sh("ip netns del outside")
    assert done.returncode == 1, done.stderr
    wrong = [line.split() for line in done.stdout.splitlines() if "✗" in line]
    assert [line[:3] for line in wrong[:2]] == [
        ["outside", "ns1", "198.51.100.1:8088"],
        ["host", "ns1", "198.51.100.1:8088"],
    ]
    assert "are as before" in done.stdout


def test_verdicts() -> None:
    good = Asked("a", "b", "c", "10.0.0.1", "10.0.0.1", True)
    masked = Asked("a", "b", "c", "10.0.0.1", "10.0.0.9", True)
    lost = Asked("a", "b", "c", "10.0.0.1", "", False)
    dropped = Asked("a", "b", "c", "", "", False)
    arrived = Asked("a", "b", "c", "", "10.0.0.1", True)
    one_way = Asked("a", "b", "c", "", "10.0.0.1", False)
    assert [one.ok for one in (good, masked, lost, dropped, arrived, one_way)] == [
        True,
        False,
        False,
        True,
        False,
        False,
    ]


def test_the_world_outside(host: FreshHost) -> None:
    kernel = LinuxKernel()
    playground.furnish(kernel, IPv4Network("175.18.0.0/24"))
    playground.drop_forwarded(kernel)
    assert "policy drop" in sh("nft list chain inet filter FORWARD").out
    assert "198.51.100.1/24" in sh("ip -br address show up0").out
    assert "default via 198.51.100.2 dev up0" in sh("ip route").out
    assert "175.18.0.0/24 via 198.51.100.1" in sh("ip -n outside route").out
    assert eventually(lambda: inside(playground.OUTSIDE, lambda: playground.ping(playground.HOST_ADDRESS)))
    assert not inside(playground.OUTSIDE, lambda: playground.ping(playground.OUTSIDE_ADDRESS + 9, 0.2))
    sh("ip netns del outside")


def test_a_forged_packet_arrives_where_nothing_guards(lab: Lab) -> None:
    """The demo's last path means something only if its method works: here a published port has no guard before it."""
    sh("ip link del up0; ip netns del outside")
    playground.furnish(LinuxKernel(), IPv4Network("175.18.0.0/24"))
    lab.serve("web", "http:8080")
    # A new pair's carrier may be noticed up to a second late, and ARP is answered only then.
    assert eventually(lambda: inside(playground.OUTSIDE, lambda: playground.ping(playground.HOST_ADDRESS)))

    def knock() -> bool:
        return inside(playground.OUTSIDE, lambda: playground.knock(LOCALHOST, 8088))

    assert not knock()
    sh("nft add table ip x; nft 'add chain ip x p { type nat hook prerouting priority -100; }'")
    sh("nft add rule ip x p fib daddr type local tcp dport 8088 dnat to 198.51.100.1:8080")
    assert knock()
    sh("ip netns del outside")


def test_pictures_see_changes(host: FreshHost) -> None:
    kernel = LinuxKernel()
    playground.drop_forwarded(kernel)
    before = playground.picture(kernel)
    assert playground.picture(kernel) == before
    for change, undo, what in (
        ("ip link add br0 type bridge", "ip link del br0", "link"),
        ("ip address add 10.1.1.1/32 dev lo", "ip address del 10.1.1.1/32 dev lo", "address"),
        ("ip route add 10.2.2.0/24 dev lo", "ip route del 10.2.2.0/24 dev lo", "route"),
        ("sysctl -qw net.ipv4.ip_forward=1", "sysctl -qw net.ipv4.ip_forward=0", "setting"),
        ("nft add rule inet filter FORWARD accept", "nft flush chain inet filter FORWARD", "rule"),
        ("nft add table ip other", "nft delete table ip other", "table"),
        ("touch /run/netns/x", "rm /run/netns/x", "namespace"),
    ):
        sh(change)
        assert what in {line.split()[0] for line in before ^ playground.picture(kernel)}
        sh(undo)
        assert playground.picture(kernel) == before


def test_the_example_is_shipped() -> None:
    assert Path(demo.FILE).parent.parent == Path(nsbridge.__file__).parent
