"""The peers: each can attach the namespace number i to a bridge with one published port, and detach it again.

They are called as their users call them: programs with JSON on stdin, a shell script, our own engine in this
process. A peer that isn't installed says what would bring it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import Any, ClassVar

from bench import floor
from nsbridge.engine import endpoints, networks
from nsbridge.engine.endpoints import Wish
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment
from nsbridge.wiring import open_host

STATE = "/run/bench"
CNI_PATH = os.environ.get("CNI_PATH", "/usr/lib/cni")
FIRST_PORT = 20000
SRC = Path(__file__).parents[1] / "src"


def run(*argv: str, text: str = "", env: dict[str, str] | None = None) -> str:
    """Run a program; RuntimeError with what it said when it fails."""
    done = subprocess.run(argv, input=text, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv[:4])}: {done.stdout[-300:]}{done.stderr[-300:]}")
    return done.stdout


def space(number: int) -> str:
    """Name of the namespace number i."""
    return f"b{number}"


def path(number: int) -> str:
    """Where it is."""
    return f"/run/netns/{space(number)}"


class Peer:
    """One way to attach. second: the second byte of its subnet 172.X.0.0/16, so that all can be there at once."""

    name: ClassVar[str]
    about: ClassVar[str]
    needs: ClassVar[str] = ""
    second: ClassVar[int]

    @classmethod
    def there(cls) -> bool:
        """Tell whether its programs are installed."""
        return True

    def address(self, number: int) -> str:
        """The address of endpoint i where we choose it."""
        return f"172.{self.second}.{1 + number // 200}.{2 + number % 200}"

    def port(self, number: int) -> int:
        """Its host port; every peer has a thousand of its own, so that two never publish the same."""
        return FIRST_PORT + (self.second - 16) * 1000 + number

    def setup(self) -> None:
        """Make the bridge."""

    def attach(self, number: int) -> None:
        """Attach endpoint i."""
        raise NotImplementedError

    def detach(self, number: int) -> None:
        """Detach it; synchronously, as a person's command does."""
        raise NotImplementedError


class Nsbridge(Peer):
    """Our engine in this process, as a library or a resident service uses it."""

    name, about, second = "nsbridge", "the engine in this process", 16

    def setup(self) -> None:
        """Make the network."""
        self.host = open_host()
        networks.create(self.host, Network("bench", (Subnet(ip_network(f"172.{self.second}.0.0/16")),), bridge="nsb"))

    def attach(self, number: int) -> None:
        """Connect."""
        port = PublishedPort(80, self.port(number))
        endpoints.connect(self.host, Wish(f"e{number}", path(number), Attachment("bench"), ports=(port,)))

    def detach(self, number: int) -> None:
        """Disconnect."""
        endpoints.disconnect(self.host, "bench", f"e{number}")


class Command(Peer):
    """The whole command, a process each time, on the network that `Nsbridge` made."""

    name, about, second = "nsbridge command", "`nsbridge connect NET NAMESPACE -p …`, a process each", 17
    needs = "the command line"

    @classmethod
    def there(cls) -> bool:
        """Tell whether there is a command line."""
        return bool(command())

    def setup(self) -> None:
        """Use a network of its own."""
        subnet = f"172.{self.second}.0.0/16"
        networks.create(open_host(), Network("shell", (Subnet(ip_network(subnet)),), bridge="nsbc"))
        self.argv = command()
        self.network = "shell"

    def attach(self, number: int) -> None:
        """``nsbridge connect``."""
        run(*self.argv, "connect", "-p", f"{self.port(number)}:80", "--name", f"e{number}", self.network, path(number))

    def detach(self, number: int) -> None:
        """``nsbridge disconnect``."""
        run(*self.argv, "disconnect", self.network, f"e{number}")


def command() -> tuple[str, ...]:
    """How `nsbridge` is started here: as it is installed beside this Python."""
    try:
        import nsbridge.frontends.cli.main  # noqa: F401
    except ImportError:
        return ()
    script = Path(sys.executable).parent / "nsbridge"
    return (str(script),) if script.exists() else (sys.executable, "-m", "nsbridge")


class Launched(Command):
    """The same as `nsbridge install` writes it: no site, nothing of the user's, our modules from one file."""

    name, about, second = "nsbridge, launched", "the same, as `nsbridge install` writes it", 24

    def setup(self) -> None:
        """Use a network of its own."""
        subnet = f"172.{self.second}.0.0/16"
        networks.create(open_host(), Network("launch", (Subnet(ip_network(subnet)),), bridge="nsbl"))
        self.argv = launcher()
        self.network = "launch"


def launcher() -> tuple[str, ...]:
    """Have `nsbridge install` write its launcher, and return how it is called."""
    run(*command(), "install", "--prefix", f"{STATE}/launched")
    return (f"{STATE}/launched/bin/nsbridge",)


class RawPy(Peer):
    """The floor, see floor.py."""

    name, about, second = "raw floor", "hand-packed netlink in this process, nothing remembered", 18
    needs = "apt install iproute2 nftables"

    @classmethod
    def there(cls) -> bool:
        """The bridge and the table are made with programs."""
        return bool(shutil.which("ip") and shutil.which("nft"))

    def setup(self) -> None:
        """Make bridge and table."""
        bridge(self.second, "rawbr")
        run("nft", "-f", "-", text=floor.SKELETON.format(table="raw", bridge="rawbr", subnet="172.18.0.0/16"))
        self.floor = floor.Floor("rawbr", "172.18.0.1", "raw")

    def attach(self, number: int) -> None:
        """A pair, four messages, an element."""
        self.floor.attach(path(number), f"rv{number}", self.address(number), self.port(number))

    def detach(self, number: int) -> None:
        """An element, a link."""
        self.floor.detach(f"rv{number}", self.address(number), self.port(number))


def bridge(second: int, name: str) -> None:
    """Make a bridge with the first address of 172.X.0.0/16."""
    address = f"addr add 172.{second}.0.1/16 dev {name}\nlink set {name} up\n"
    run("ip", "-batch", "-", text=f"link add {name} type bridge\n{address}")


class Shell(Peer):
    """The recipe everybody finds: ip and iptables, one process a step."""

    name, about, second = "shell script", "ip and iptables, a process for each step", 19
    needs = "apt install iproute2 iptables"

    @classmethod
    def there(cls) -> bool:
        """It needs both programs."""
        return bool(shutil.which("ip") and shutil.which("iptables"))

    def setup(self) -> None:
        """Bridge, the way out, answers."""
        bridge(self.second, "sbr")
        run("iptables", *f"-t nat -A POSTROUTING -s 172.{self.second}.0.0/16 ! -o sbr -j MASQUERADE".split())
        run("sh", "-c", "iptables -A FORWARD -o sbr -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")

    def rules(self, verb: str, number: int) -> str:
        """The four rules of one endpoint."""
        address, port = self.address(number), self.port(number)
        local = f"-p tcp -m addrtype --dst-type LOCAL --dport {port} -j DNAT --to-destination {address}:80"
        return (
            f"iptables -t nat {verb} PREROUTING {local}\niptables -t nat {verb} OUTPUT {local}\n"
            f"iptables -t nat {verb} POSTROUTING -s {address} -d {address} -p tcp --dport 80 -j MASQUERADE\n"
            f"iptables {verb} FORWARD -d {address} -o sbr -p tcp --dport 80 -j ACCEPT\n"
        )

    def attach(self, number: int) -> None:
        """Thirteen processes."""
        name, enter = space(number), f"ip netns exec {space(number)}"
        script = f"""ip link add sv{number} type veth peer name sp{number}
        ip link set sp{number} netns {name}
        ip link set sv{number} master sbr
        ip link set sv{number} up
        {enter} ip link set sp{number} name eth0
        {enter} ip addr add {self.address(number)}/16 dev eth0
        {enter} ip link set eth0 up
        {enter} ip link set lo up
        {enter} ip route add default via 172.{self.second}.0.1
        """
        run("sh", "-ec", script + self.rules("-A", number))

    def detach(self, number: int) -> None:
        """Five."""
        run("sh", "-ec", f"{self.rules('-D', number)}ip link del sv{number}")


class Batch(Peer):
    """As few processes as programs allow: `ip -batch` and one map element by nft."""

    name, about, second = "ip -batch + nft", "three processes, one map element", 20
    needs = "apt install iproute2 nftables"
    there = RawPy.there

    def setup(self) -> None:
        """Make bridge and table."""
        bridge(self.second, "bbr")
        run("nft", "-f", "-", text=floor.SKELETON.format(table="batch", bridge="bbr", subnet="172.20.0.0/16"))

    def attach(self, number: int) -> None:
        """Host, namespace, element."""
        name = space(number)
        run("ip", "-batch", "-", text=f"link add bv{number} master bbr up type veth peer name eth0 netns {name}\n")
        address = f"addr add {self.address(number)}/16 dev eth0\nlink set lo up\nlink set eth0 up\n"
        run("ip", "-n", name, "-batch", "-", text=f"{address}route add default via 172.{self.second}.0.1\n")
        port = f"{self.port(number)} : {self.address(number)} . 80"
        run("nft", f"add element ip batch ports {{ {port} }}")

    def detach(self, number: int) -> None:
        """Element, link."""
        run("nft", f"delete element ip batch ports {{ {self.port(number)} }}")
        run("ip", "link", "del", f"bv{number}")


class Netavark(Peer):
    """Podman's network program as Debian 12 has it; its only firewall driver is iptables."""

    name, about, second = "netavark 1.4", "setup and teardown, JSON on stdin, iptables", 21
    needs = "apt install netavark"
    program = os.environ.get("NETAVARK", "/usr/lib/podman/netavark")
    driver = "iptables"

    @classmethod
    def there(cls) -> bool:
        """Tell whether the program is there."""
        return os.path.exists(cls.program)

    def request(self, number: int) -> str:
        """What podman would write to its stdin."""
        port = {"host_ip": "", "container_port": 80, "host_port": self.port(number), "range": 1, "protocol": "tcp"}
        network = f"bench{self.second}"
        subnet = {"subnet": f"172.{self.second}.0.0/16", "gateway": f"172.{self.second}.0.1"}
        info = {
            "name": network,
            "id": f"{self.second:064d}",
            "driver": "bridge",
            "network_interface": f"podman{self.second}",
            "created": "2024-01-01T00:00:00Z",
            "subnets": [subnet],
            "ipv6_enabled": False,
            "internal": False,
            "dns_enabled": False,
            "ipam_options": {"driver": "host-local"},
        }
        return json.dumps(
            {
                "container_id": f"{self.second}c{number:012d}",
                "container_name": f"c{number}",
                "port_mappings": [port],
                "networks": {network: {"static_ips": [self.address(number)], "interface_name": "eth0"}},
                "network_info": {network: info},
            }
        )

    def call(self, verb: str, number: int) -> None:
        """Run it."""
        config = f"{STATE}/netavark{self.second}"
        env = {**os.environ, "NETAVARK_FW": self.driver}
        run(self.program, "--config", config, verb, path(number), text=self.request(number), env=env)

    def attach(self, number: int) -> None:
        """``setup``."""
        self.call("setup", number)

    def detach(self, number: int) -> None:
        """``teardown``."""
        self.call("teardown", number)


PEERS = os.environ.get("NSBRIDGE_PEERS") or str(SRC.parent / "peers")


def newer(program: str) -> str:
    """Return where a newer peer lies: in the folder that NSBRIDGE_PEERS names, or in peers/ here."""
    return f"{PEERS}/run/{program}"


class NewNetavark(Netavark):
    """A current netavark: its nftables driver."""

    name, about, second = "netavark 1.14", "setup and teardown, JSON on stdin, nftables", 22
    needs = "bench/newer-peers.sh DIR, then NSBRIDGE_PEERS=DIR (apt install mmdebstrap)"
    program = newer("netavark")
    driver = "nftables"


class Cni(Peer):
    """The CNI chain as libcni calls it: each result goes on to the next plugin, removal goes backwards."""

    name, about, second = "CNI chain", "bridge + host-local, portmap, firewall: a process each", 23
    needs = "apt install containernetworking-plugins"

    @classmethod
    def there(cls) -> bool:
        """Tell whether the plugins are there."""
        return os.path.exists(f"{CNI_PATH}/portmap")

    def setup(self) -> None:
        """Nothing is made before the first endpoint."""
        self.results: dict[int, Any] = {}
        ranges = [[{"subnet": f"172.{self.second}.0.0/16"}]]
        ipam = {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}], "ranges": ranges, "dataDir": f"{STATE}/cni"}
        first = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "hairpinMode": True}
        self.plugins = [{**first, "ipam": ipam}, {"type": "portmap"}, {"type": "firewall"}]

    def call(self, verb: str, number: int) -> None:
        """Run the chain."""
        last = self.results.pop(number, None) if verb == "DEL" else None
        for plugin in self.plugins if verb == "ADD" else self.plugins[::-1]:
            conf = {**plugin, "cniVersion": "1.0.0", "name": "bench"}
            if plugin["type"] == "portmap":
                mapping = {"hostPort": self.port(number), "containerPort": 80, "protocol": "tcp"}
                conf["runtimeConfig"] = {"portMappings": [mapping]}
            if last is not None:
                conf["prevResult"] = last
            env = {
                "PATH": os.environ["PATH"],
                "CNI_COMMAND": verb,
                "CNI_CONTAINERID": f"c{number}",
                "CNI_NETNS": path(number),
                "CNI_IFNAME": "eth0",
                "CNI_PATH": CNI_PATH,
            }
            out = run(f"{CNI_PATH}/{plugin['type']}", text=json.dumps(conf), env=env)
            if verb == "ADD":
                last = json.loads(out)
        if verb == "ADD":
            self.results[number] = last

    def attach(self, number: int) -> None:
        """``ADD``."""
        self.call("ADD", number)

    def detach(self, number: int) -> None:
        """``DEL``."""
        self.call("DEL", number)


ALL: tuple[type[Peer], ...] = (Nsbridge, Command, Launched, RawPy, Batch, Shell, Netavark, NewNetavark, Cni)


def installed(peers: tuple[type[Peer], ...] = ALL) -> tuple[list[type[Peer]], list[str]]:
    """Return the peers that are here, and what would bring the others."""
    here = [peer for peer in peers if peer.there()]
    return here, [f"{peer.name}: {peer.needs}" for peer in peers if peer not in here]
