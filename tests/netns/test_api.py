"""`import nsbridge`: the same as the command line, with real packets."""

from __future__ import annotations

import doctest
import os
import signal
import socket
import subprocess
import sys
import threading
from ipaddress import IPv4Address, IPv6Address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab import HOST4, OUTSIDE, OUTSIDE4, eventually, inode, sh

import nsbridge

if TYPE_CHECKING:
    from lab import Lab

pytestmark = pytest.mark.netns
ROOT = Path(__file__).parents[2]
ECHO = str(Path(__file__).parent / "echo.py")

DROPPING = pytest.mark.parametrize("lab", ["nft"], indirect=True)


def web_server(endpoint: nsbridge.Endpoint) -> nsbridge.Command:
    """Start an echo server on port 80 that calls itself like its endpoint."""
    command = endpoint.start([sys.executable, "-I", ECHO, endpoint.name, "http:80"])
    assert eventually(lambda: "ready" in command.logs())
    return command


def left(before: str, lab: Lab) -> set[str]:
    """What the host holds now and didn't before, or the other way; our own empty folders don't count."""
    changed = set(before.splitlines()) ^ set(lab.snapshot().splitlines())
    return {line for line in changed if "/run/nsbridge" not in line.partition("|")[0]}


@pytest.mark.proves("row 92")
@DROPPING
def test_the_example_of_the_package(lab: Lab) -> None:
    before = lab.snapshot()
    with (
        nsbridge.Network("web", subnet="10.88.0.0/24") as net,
        net.endpoint("site", ports=["8080:80"]) as site,
        net.endpoint("client") as client,
    ):
        web_server(site)
        assert site.address == IPv4Address("10.88.0.2")
        assert site.netns == "/run/netns/site"
        assert lab.get(f"http://{HOST4}:8080/", OUTSIDE).source == OUTSIDE4
        assert lab.get("http://127.0.0.1:8080/").server == "site"
        assert lab.get("http://10.88.0.2/", "client").source == str(client.address)
        fetch = "import urllib.request as u; print(u.urlopen('http://site/').read().decode())"
        done = client.run([sys.executable, "-c", fetch], capture_output=True, check=True)
        assert '"server": "site"' in done.stdout
        lab.serve("far", "http:80", ns=OUTSIDE)
        assert lab.get(f"http://{OUTSIDE4}/", "client").source == HOST4
        assert net.subnets == (ip_network("10.88.0.0/24"),)
        assert net.gateway == IPv4Address("10.88.0.1")
        assert [each.name for each in net.endpoints] == ["client", "site"]
        assert [each.name for each in nsbridge.endpoints()] == ["client", "site"]
        assert nsbridge.networks() == (net,)
    assert not left(before, lab)


def test_an_exception_leaves_nothing(lab: Lab) -> None:
    before = lab.snapshot()

    def work() -> None:
        with (
            nsbridge.Network("web", subnet="10.88.0.0/24") as net,
            net.endpoint("site", ports=["8080:80"]) as site,
        ):
            web_server(site)
            net.endpoint("other").create()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert not left(before, lab)


def test_without_with(lab: Lab) -> None:
    before = lab.snapshot()
    net = nsbridge.Network("web", subnet="10.88.0.0/24").create()
    site = net.endpoint("site").create()
    with site:  # made already, so it isn't made twice
        pass
    assert nsbridge.endpoints() == ()
    site.create().remove()
    with pytest.raises(nsbridge.NotFound, match="no endpoint 'site'"):
        _ = site.address
    net.endpoint("forgotten").create()
    net.remove()  # what this object made goes with it
    assert not left(before, lab)


def test_what_others_made_stays(lab: Lab) -> None:
    net = nsbridge.Network("web", subnet="10.88.0.0/24").create()
    with nsbridge.Network.existing("web") as same, same.endpoint("mine"):
        assert [each.name for each in net.endpoints] == ["mine"]
    assert net.endpoints == ()
    with nsbridge.Network.existing("web").endpoint("stays").create().connect("default"):
        assert {each.network for each in nsbridge.endpoints()} == {"web", "default"}
    assert {each.network for each in nsbridge.endpoints()} == {"web"}
    with pytest.raises(nsbridge.InUse, match="stays"):
        net.remove()
    for endpoint in net.endpoints:
        endpoint.remove()
    net.remove()
    with pytest.raises(nsbridge.NotFound, match="no network 'web'"):
        nsbridge.Network.existing("web")


def test_run_is_subprocess_run(lab: Lab) -> None:
    with nsbridge.Network("web", subnet="10.88.0.0/24") as net, net.endpoint("site", env={"A": "1"}) as site:
        done = site.run(["sh", "-c", "cat; echo $A$B; hostname; pwd; echo oops >&2"], input="in\n", env={"B": "2"},
                        cwd="/run", capture_output=True)  # fmt: skip
        assert isinstance(done, subprocess.CompletedProcess)
        assert (done.returncode, done.stdout, done.stderr) == (0, "in\n12\nsite\n/run\n", "oops\n")
        assert site.run(["cat"], input=b"\xff", text=False, capture_output=True).stdout == b"\xff"
        assert site.run(["sh", "-c", "exit 3"]).returncode == 3
        assert site.run(["sh", "-c", "kill -9 $$"]).returncode == -signal.SIGKILL
        with pytest.raises(subprocess.CalledProcessError) as failed:
            site.run(["sh", "-c", "echo no; exit 4"], check=True, capture_output=True)
        assert (failed.value.returncode, failed.value.stdout) == (4, "no\n")
        with pytest.raises(subprocess.TimeoutExpired):
            site.run(["sleep", "60"], timeout=0.2)
        with pytest.raises(nsbridge.CommandNotFound, match="no-such-command"):
            site.run(["no-such-command"], capture_output=True)
        with pytest.raises(nsbridge.InvalidIntent, match="list of words"):
            site.run("ls")
        reading, writing = os.pipe()
        site.run(["echo", "here"], stdout=writing)
        os.close(writing)
        assert os.read(reading, 99) == b"here\n"
        os.close(reading)


def test_commands_in_the_background(lab: Lab) -> None:
    with nsbridge.Network("web", subnet="10.88.0.0/24") as net, net.endpoint("site") as site:
        assert site.start(["sh", "-c", "echo said; exit 7"]).wait(5) == 7
        first = web_server(site)
        assert first.running
        assert lab.get("http://10.88.0.2/").server == "site"
        with pytest.raises(TimeoutError):
            first.wait(0.05)
        with pytest.raises(nsbridge.InUse, match="still runs"):
            site.start(["true"])
        with site.start([sys.executable, "-I", ECHO, "second", "http:81"], name="second") as second:
            assert eventually(lambda: lab.get("http://10.88.0.2:81/").server == "second")
            assert second.pid != first.pid
        assert not second.running
        assert first.stop() == 128 + signal.SIGTERM
        assert not lab.get("http://10.88.0.2/")
        with pytest.raises(nsbridge.CommandNotFound):
            site.start(["no-such-command"])
        assert first.logs().startswith("said\n")
        web_server(site)  # leaves with the endpoint
    assert lab.host.strangers() == {}


def test_inside(lab: Lab) -> None:
    home = inode()
    with nsbridge.Network("web", subnet="10.88.0.0/24") as net, net.endpoint("site") as site:
        listener = site.inside(lambda: socket.create_server(("", 80)))
        with listener, socket.create_connection((str(site.address), 80), 3) as client:
            assert listener.accept()[1] == ("10.88.0.1", client.getsockname()[1])
        assert site.inside(inode) == os.stat(site.netns).st_ino != home
        with pytest.raises(ZeroDivisionError):
            site.inside(lambda: 1 // 0)
    assert inode() == home


@pytest.mark.proves("row 52", "row 92")
def test_publish_and_unpublish(lab: Lab) -> None:
    with nsbridge.Network("web", subnet="10.88.0.0/24") as net, net.endpoint("site") as site:
        web_server(site)
        assert not lab.get(f"http://{HOST4}:8080/", OUTSIDE)
        (port,) = site.publish("8080:80")
        assert port == nsbridge.PublishedPort(80, 8080)
        (chosen,) = site.publish(80)
        assert chosen.host_port > 1023
        assert lab.get(f"http://{HOST4}:8080/", OUTSIDE)
        assert lab.get(f"http://{HOST4}:{chosen.host_port}/", OUTSIDE)
        with pytest.raises(nsbridge.PortTaken, match="endpoint 'site'"):
            net.endpoint("other", ports=["8080:80"]).create()
        site.unpublish("8080:80")
        assert not lab.get(f"http://{HOST4}:8080/", OUTSIDE)
        assert site.ports == (chosen,)
        with pytest.raises(nsbridge.InvalidIntent, match="70000"):
            site.publish("70000:80")


@pytest.mark.proves("row 3", "row 92")
def test_a_namespace_of_somebody_else(lab: Lab) -> None:
    path = lab.ns("theirs")
    before = lab.snapshot()
    sleeper = subprocess.Popen(["ip", "netns", "exec", "theirs", "sleep", "60"])
    pid = sleeper.pid
    assert eventually(lambda: inode(f"/proc/{pid}/ns/net") == inode(path))
    lab.serve("theirs", "http:80", ns="theirs")
    with nsbridge.Network("web", subnet="10.88.0.0/24") as net:
        for given, name in (("theirs", "theirs"), (path, "theirs"), (Path(path), "theirs"), (pid, f"pid-{pid}")):
            with net.attach(given, ports=["8080:80"]) as box:
                assert box.name == name
                assert lab.get(f"http://{HOST4}:8080/", OUTSIDE).server == "theirs"
                shown = box.run(["ip", "-br", "-4", "address", "show", "eth0"], capture_output=True).stdout
                assert shown.split()[2] == f"{box.address}/24"
                with pytest.raises(nsbridge.InvalidIntent, match="isn't ours"):
                    box.start(["true"])
        with pytest.raises(nsbridge.NotFound, match="no network namespace"):
            net.attach("nothing").create()
    sleeper.kill()
    sleeper.wait()
    assert not left(before, lab)


def test_two_networks(lab: Lab) -> None:
    with (
        nsbridge.Network("front", subnet="10.88.0.0/24") as front,
        nsbridge.Network("back", subnet=["10.89.0.0/24", "fd89::/64"], internal=True) as back,
        front.endpoint("app") as app,
        back.endpoint("db", ip="10.89.0.9", ip6="fd89::9", aliases=["sql"]) as db,
    ):
        web_server(db)
        assert db.addresses == (IPv4Address("10.89.0.9"), IPv6Address("fd89::9"))
        assert not lab.get("http://10.89.0.9/", "app", timeout_s=0.3)
        with app.connect(back) as there:
            assert (there.ifname, there.network) == ("eth1", "back")
            assert lab.get("http://10.89.0.9/", "app").source == str(there.address)
            assert lab.get("http://[fd89::9]/", "app").source == str(there.addresses[1])
            assert "10.89.0.9" in app.run(["getent", "ahosts", "sql"], capture_output=True).stdout
        assert not lab.get("http://10.89.0.9/", "app", timeout_s=0.3)
        app.connect("back")  # goes with the endpoint
        assert len(nsbridge.endpoints()) == 3
        app.remove()
        assert [each.name for each in nsbridge.endpoints()] == ["db"]


def test_an_endpoint_changes_networks_while_it_runs(lab: Lab) -> None:
    before = lab.snapshot()
    with (
        nsbridge.Network("front", subnet="10.88.0.0/24") as front,
        nsbridge.Network("back", subnet="10.89.0.0/24") as back,
        back.endpoint("far") as far,
        front.endpoint("site", ports=["8080:80"]) as site,
    ):
        server = web_server(site)
        said = ["getent", "ahostsv4", "site"]
        for last in (20, 50):
            with site.connect(back, ip=f"10.89.0.{last}", ports=["8081:80"]) as there:
                assert (there.owned, there.value.service) == (True, "site")
                assert lab.get(f"http://{HOST4}:8081/", OUTSIDE).server == "site"
                assert lab.get(f"http://{there.address}/", "far").source == str(far.address)
                assert far.run(said, capture_output=True).stdout.startswith(f"10.89.0.{last} ")
            assert not lab.get(f"http://{HOST4}:8081/", OUTSIDE, timeout_s=0.3)
        with pytest.raises(nsbridge.InvalidIntent, match="is that of service 'site'"):
            back.attach(site.netns, name="other").create()

        sh([sys.executable, "-m", "nsbridge", "disconnect", "front", "site"])
        with front.attach(site.netns, ip="10.88.0.50") as again:  # leaving the block, it goes, but not the service
            assert (again.owned, again.ports) == (True, (nsbridge.PublishedPort(80, 8080),))
            assert lab.get(f"http://{HOST4}:8080/", OUTSIDE).server == "site"
        assert server.running
        front.attach(site.netns).create()
        site.connect(back)
        assert lab.get(f"http://{HOST4}:8080/", OUTSIDE).server == "site"
        site.remove()
        assert [one.name for one in nsbridge.endpoints()] == ["far"]
    assert not left(before, lab)


def test_options_of_networks_and_of_places(lab: Lab) -> None:
    """What files and the command line have: said once here, and seen in the kernel."""
    lab.sh("ip address add 198.51.100.9/24 dev up0")
    with (
        nsbridge.Network(
            "web",
            subnet=["10.88.0.0/24", "fd88::/64"],
            source="198.51.100.9",
            host_binding="198.51.100.9",
            routes=["10.50.0.0/16,10.88.0.254,7", "10.51.0.0/16,blackhole"],
            gateway_mode_ipv6="routed",
            trusted_interfaces=["wg0"],
            ipv6_filtering=False,
            mtu=1400,
            labels={"of": "test"},
        ) as net,
        net.endpoint(
            "site",
            ip=["10.88.0.7", "10.88.0.8"],
            link_local=["169.254.3.3"],
            ifname="lan0",
            host_ifname="site-port",
            limits={"ingress": "20Mbit", "egress": "1Mbit"},
            check_address=True,
            ports=["8080:80"],
        ) as site,
    ):
        assert [str(one) for one in site.addresses] == ["10.88.0.7", "fd88::2", "10.88.0.8", "169.254.3.3"]
        assert (site.ifname, site.value.host_ifname) == ("lan0", "site-port")
        assert "rate 20Mbit" in lab.sh("tc qdisc show dev site-port").out
        assert "rate 1Mbit" in lab.sh("tc qdisc show dev lan0", "site").out
        assert "blackhole 10.51.0.0/16" in lab.sh("ip route", "site").out
        assert "mtu 1400" in lab.sh("ip link show lan0", "site").out
        assert (net.value.gateway_mode6, net.value.trusted, net.value.ipv6_filtering) == ("routed", ("wg0",), False)
        web_server(site)
        assert lab.get("http://198.51.100.9:8080/", OUTSIDE).source == OUTSIDE4
        assert not lab.get(f"http://{HOST4}:8080/", OUTSIDE)
        lab.serve("far", "http:80", ns=OUTSIDE)
        assert lab.get(f"http://{OUTSIDE4}/", "site").source == "198.51.100.9"
        with pytest.raises(nsbridge.InvalidIntent, match="no limit 'speed'"):
            net.endpoint("other", limits={"speed": "1Mbit"})
        with pytest.raises(TypeError, match="no option 'colour'"):
            nsbridge.Network("x", colour="red")  # type: ignore[call-arg]
    lab.sh("ip address del 198.51.100.9/24 dev up0")


def test_ports_are_shared_and_drained(lab: Lab) -> None:
    with nsbridge.Network("web", subnet="10.88.0.0/24") as net, net.endpoint("one") as one, net.endpoint("two") as two:
        for site in (one, two):
            web_server(site)
            site.publish("8080:80", share=True)
        assert {lab.get(f"http://{HOST4}:8080/", OUTSIDE).server for _ in range(8)} == {"one", "two"}
        one.drain(80)
        assert {lab.get(f"http://{HOST4}:8080/", OUTSIDE).server for _ in range(8)} == {"two"}
        one.drain(80, out=False)
        assert {lab.get(f"http://{HOST4}:8080/", OUTSIDE).server for _ in range(8)} == {"one", "two"}
        assert "ok" in {finding.level for finding in nsbridge.doctor()}


FILE = """
name: trial
networks:
  lab: {ipam: {config: [{subnet: 10.88.0.0/24}]}}
services:
  one: {command: [PYTHON, -I, ECHO, one, "http:80"], networks: [lab], ports: ["8080:80"]}
  two: {networks: [lab]}
"""


@pytest.mark.proves("row 89", "row 92")
def test_topology_files(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "nsbridge.yaml"
    file.write_text(FILE.replace("PYTHON", sys.executable).replace("ECHO", ECHO))
    before = lab.snapshot()
    assert [change.what for change in nsbridge.planned(file).changes] == ["create"] * 3
    assert [change.name for change in nsbridge.planned(file, services=["two"]).changes] == ["trial_lab", "two"]
    assert not left(before, lab)
    with nsbridge.up(file) as project:
        assert eventually(lambda: "ready" in project.command("one").logs())
        assert lab.get(f"http://{HOST4}:8080/", OUTSIDE).server == "one"
        assert {endpoint.name for endpoint in project} == {"one", "two"}
        assert project["two"].run(["hostname"], capture_output=True).stdout == "two\n"
        with pytest.raises(nsbridge.NotFound, match="no service 'three'"):
            _ = project["three"]
        with nsbridge.up(file) as again:  # was up before, so it stays
            assert again.done.changes == ()
        assert lab.get(f"http://{HOST4}:8080/", OUTSIDE)
    assert not left(before, lab)
    nsbridge.up(file)
    nsbridge.down()
    assert not left(before, lab)
    with pytest.raises(nsbridge.NotFound, match="no project is up"):
        nsbridge.down()
    file.write_text("services:\n  a: {imaeg: x}\n")
    with pytest.raises(nsbridge.InvalidFile) as faults:
        nsbridge.up(file)
    assert faults.value.faults[0].line == 2


def test_a_failed_up_leaves_nothing(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "nsbridge.yaml"
    file.write_text(FILE.replace("PYTHON", sys.executable).replace("ECHO", ECHO))
    before = lab.snapshot()
    with socket.create_server(("0.0.0.0", 8080)), pytest.raises(nsbridge.PortTaken, match="8080"):
        nsbridge.up(file)
    assert not left(before, lab)


def test_one_command(lab: Lab) -> None:
    before = lab.snapshot()
    done = nsbridge.run(["ip", "-br", "-4", "address", "show", "eth0"], capture_output=True)
    assert done.stdout.startswith("eth0")
    assert not left(before, lab)  # the default network came and went with it


def test_from_many_threads(lab: Lab) -> None:
    seen: dict[int, str] = {}
    trouble: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with net.endpoint(f"e{number}", ports=[f"{9000 + number}:80"]) as endpoint:
                with endpoint.inside(lambda: socket.create_server(("", 80))) as listener:
                    listener.settimeout(5)
                    with socket.create_connection(("127.0.0.1", 9000 + number), 5):
                        listener.accept()[0].close()
                seen[number] = str(endpoint.address)
                assert endpoint.run(["hostname"], capture_output=True).stdout == f"e{number}\n"
        except BaseException as err:
            trouble.append(err)

    with nsbridge.Network("web", subnet="10.88.0.0/24") as net:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not trouble
        assert len(seen) == len(set(seen.values())) == 8
        assert net.endpoints == ()


def test_an_object_made_in_another_thread_works(lab: Lab) -> None:
    with nsbridge.Network("web", subnet="10.88.0.0/24") as net, net.endpoint("site") as site:
        found: list[str] = []
        thread = threading.Thread(target=lambda: found.append(str(site.address)))
        thread.start()
        thread.join()
        assert found == ["10.88.0.2"]


def documented() -> list[doctest.DocTest]:
    """Every example of a public docstring; `net`, `site` and `socket` are there for all of them."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = finder.find(nsbridge, "nsbridge", globs={})[:1]
    for name in nsbridge.__all__:
        found += finder.find(getattr(nsbridge, name), f"nsbridge.{name}", module=False, globs={})
    return [test for test in found if test.examples]


@pytest.mark.parametrize("example", documented(), ids=lambda test: test.name)
def test_examples_of_docstrings(lab: Lab, example: doctest.DocTest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    lab.ns("box")
    with nsbridge.Network("net", subnet="10.88.0.0/24") as net, net.endpoint("site") as site:
        example.globs = {"nsbridge": nsbridge, "net": net, "site": site, "socket": socket}
        said: list[str] = []
        doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS).run(example, out=said.append)
        assert not said, "".join(said)


SCRIPT = """
import os, nsbridge
nsbridge.throwaway()
with nsbridge.Network("lab", subnet="10.88.0.0/24") as net, net.endpoint("site") as site:
    print(site.run(["hostname"], capture_output=True).stdout.strip(), site.address, os.readlink("/proc/self/ns/net"))
"""


def test_a_script_in_a_throwaway_host(lab: Lab, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    outer = {name: text for name, text in os.environ.items() if not name.startswith("NSBRIDGE_")}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=outer, check=False)
    assert done.stdout.split()[:2] == ["site", "10.88.0.2"], done.stderr
    assert done.stdout.split()[2] != os.readlink("/proc/self/ns/net")
    assert sh("ls /run/netns").out.split() == [OUTSIDE]
