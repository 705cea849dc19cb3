"""What nsbridge remembers of one host namespace: small files, one a thing, readable with cat.

    boot                       the boot they belong to
    lock                       shared by attach and detach, exclusive for what changes networks
    ports.lock                 one byte of it for each port: serialises who publishes that one (portlock.py)
    shared/PROTO-PORT.json     who answers on a port that several endpoints share
    names.lock                 one byte of it for each name: serialises what is done to one endpoint
    projects.lock              likewise for what is done to one project
    host.json                  what all networks share: the settings we raised and what they were
    firewall                   which variant of iptables holds our rules; not there when nf_tables does
    networks/NAME.json         a network as it was asked for, its subnets chosen
    endpoints/NET/NAME.json    an endpoint as it is
    services/NAME.json         a service: what was asked, its process
    leases/NET/ADDRESS         who holds an address
    hosts/NET+NET              what namespaces on these networks see as /etc/hosts
    journal/ID                 an operation in flight, flocked by the one who does it
    runs/NAME/log, exit        what a service's command wrote, and how it ended

No file grows with the number of the others but hosts/, which must, and to which one line is added.
"""

from __future__ import annotations

import os

from nsbridge import codec
from nsbridge.errors import NotFound

# A record can be read once the module of its type is imported (codec), whoever asks for it.
from nsbridge.model.endpoint import Endpoint
from nsbridge.model.network import Network
from nsbridge.model.service import Service
from nsbridge.state.things import Sysctl
from nsbridge.store import files
from nsbridge.store.portlock import PortLock
from nsbridge.values import Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from nsbridge.model.policy import Policy
    from nsbridge.state.things import Thing

BOOT_ID = "/proc/sys/kernel/random/boot_id"
"""Names this boot; changes with every start of the kernel. random(4)."""

GONE_AT_BOOT = ("journal", "endpoints", "services", "hosts", "runs", "shared")
"""Folders whose contents describe processes and kernel things, which a reboot has taken away."""


class ServiceRecord(Value):
    """A service as it is: what was asked, and its command's process (`pid` 0 without one).

    started: the process's start time as in /proc/PID/stat, so a reused pid is noticed. since: seconds since 1970.
    networks: whose endpoints its /etc/hosts shows.
    """

    service: Service
    pid: int = 0
    started: int = 0
    since: float = 0.0
    networks: tuple[str, ...] = ()


class HostRecord(Value):
    """What all networks share on the host, as we put it there; `sysctls` carry the values from before us."""

    things: tuple[Thing, ...] = ()

    @property
    def sysctls(self) -> tuple[Sysctl, ...]:
        """The settings we raised."""
        return tuple(thing for thing in self.things if isinstance(thing, Sysctl))


def _value(text: str) -> Any:
    """Read a record, None when it is empty or torn."""
    try:
        return codec.loads(text) if text else None
    except ValueError:
        return None


class Store:
    """The files under one root. Reading a record that is torn or isn't there gives None."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._networks: dict[str, tuple[str, Network]] = {}

    def open(self) -> None:
        """Make the root, and forget what a reboot has taken away; networks stay, to be built again when needed."""
        boot = (files.read(BOOT_ID) or "").strip()
        known, _, seed = (files.read(f"{self.root}/boot") or "").partition("\n")
        if known == boot and seed:
            return
        with self.lock():
            known, _, seed = (files.read(f"{self.root}/boot") or "").partition("\n")
            if known == boot and seed:  # somebody was quicker, and may have made things since
                return
            if known != boot:
                self._forget()
            files.replace(f"{self.root}/boot", f"{boot}\n{seed or os.urandom(16).hex()}")

    def seed(self) -> str:
        """Return what names this host and no other, made once by chance; its IPv6 prefix comes from it (RFC 4193)."""
        return (files.read(f"{self.root}/boot") or "").partition("\n")[2]

    def _forget(self) -> None:
        from nsbridge.store import leases

        leases.remember(self.root)
        for folder in GONE_AT_BOOT:
            files.remove_tree(f"{self.root}/{folder}")
        files.remove(f"{self.root}/host.json")
        files.remove(f"{self.root}/ports.lock")

    def lock(self, *, shared: bool = False, wait: bool = True) -> files.Lock:
        """The one lock of the store, bare; the engine takes it through `Host.lock`."""
        return files.Lock(f"{self.root}/lock", shared=shared, wait=wait)

    def project_lock(self, name: str) -> files.NameLock:
        """Serialises what is done to one project."""
        return files.NameLock(f"{self.root}/projects.lock", name)

    def port_lock(self, spans: Iterable[tuple[str, int, int]]) -> PortLock:
        """Serialises who publishes the same host ports. spans: (protocol, first, last)."""
        return PortLock(f"{self.root}/ports.lock", spans)

    def name_lock(self, name: str) -> files.NameLock:
        """Serialises what is done to one endpoint or service."""
        return files.NameLock(f"{self.root}/names.lock", name)

    def _read(self, path: str) -> Any:
        return _value(files.read(f"{self.root}/{path}") or "")

    # networks

    def networks(self) -> tuple[Network, ...]:
        """Return every network, by name."""
        found = (self.network_or_none(name) for name in files.names(f"{self.root}/networks", ".json"))
        return tuple(network for network in found if network is not None)

    def network_or_none(self, name: str) -> Network | None:
        """Return the network of that name, None without one."""
        # Every operation on an endpoint reads its network twice. The file is always read, so it may change under us,
        # but parsed again only when its text is another: values are frozen, so the last one can be given out again.
        text = files.read(f"{self.root}/networks/{name}.json") or ""
        known = self._networks.get(name)
        if known is None or known[0] != text:
            found = _value(text)
            if found is None:
                return None
            known = self._networks[name] = text, found
        return known[1]

    def network(self, name: str) -> Network:
        """Return the network of that name; NotFound says which there are."""
        found = self.network_or_none(name)
        if found is None:
            have = ", ".join(files.names(f"{self.root}/networks", ".json")) or "none"
            raise NotFound(
                f"there is no network {name!r} (there is: {have})", fix=f"make it with `nsbridge network create {name}`"
            )
        return found

    def drop_network(self, name: str) -> None:
        """Forget a network, its leases and its hosts files."""
        from nsbridge.store import hosts

        files.remove(f"{self.root}/networks/{name}.json")
        files.remove_tree(f"{self.root}/leases/{name}")
        files.remove_tree(f"{self.root}/hints/{name}")
        files.remove_tree(f"{self.root}/endpoints/{name}")
        hosts.drop(self.root, name)

    # policies

    def policies(self) -> tuple[Policy, ...]:
        """Return every project's policy that has rules, by project."""
        found = (self.policy(name) for name in files.names(f"{self.root}/policies", ".json"))
        return tuple(policy for policy in found if policy is not None and policy.rules)

    def policy(self, project: str) -> Policy | None:
        """Return a project's policy, None without one."""
        found: Policy | None = self._read(f"policies/{project}.json")
        return found

    # endpoints

    def endpoint_path(self, network: str, name: str) -> str:
        """Return where an endpoint is kept, from the root."""
        return f"endpoints/{network}/{name}.json"

    def endpoint(self, network: str, name: str) -> Endpoint | None:
        """Return one endpoint, None without one."""
        found: Endpoint | None = self._read(self.endpoint_path(network, name))
        return found

    def endpoints(self, network: str = "", name: str = "", besides: str = "") -> tuple[Endpoint, ...]:
        """Return the endpoints of a network, of that name, or all; those of the network `besides` left out."""
        networks = [network] if network else files.names(f"{self.root}/endpoints")
        networks = [one for one in networks if one != besides]
        found = []
        for one in networks:
            folder = f"{self.root}/endpoints/{one}"
            wanted = [name] if name else files.names(folder, ".json")
            found += [self.endpoint(one, each) for each in wanted]
        return tuple(endpoint for endpoint in found if endpoint is not None)

    def in_use(self, network: str) -> bool:
        """Tell whether a network has an endpoint; costs the same for one and for thousands."""
        return files.holds(f"{self.root}/endpoints/{network}", ".json")

    # services

    def services(self) -> tuple[ServiceRecord, ...]:
        """Return every service, by name."""
        found = (self.service_or_none(name) for name in files.names(f"{self.root}/services", ".json"))
        return tuple(record for record in found if record is not None)

    def service_or_none(self, name: str) -> ServiceRecord | None:
        """Return the service of that name, None without one."""
        found: ServiceRecord | None = self._read(f"services/{name}.json")
        return found

    def service(self, name: str) -> ServiceRecord:
        """Return the service of that name; NotFound says which there are."""
        found = self.service_or_none(name)
        if found is None:
            have = ", ".join(files.names(f"{self.root}/services", ".json")) or "none"
            raise NotFound(f"there is no service {name!r} (there is: {have})", fix="see `nsbridge ps`")
        return found

    def put_service(self, record: ServiceRecord) -> None:
        """Remember a service that is known already."""
        files.replace(f"{self.root}/services/{record.service.name}.json", codec.dumps(record) + "\n")

    def service_path(self, name: str) -> str:
        """Return where a service is kept, from the root."""
        return f"services/{name}.json"

    def run_path(self, name: str) -> str:
        """Return the folder, from the root, of what a service's command leaves.

        A folder of its own, since the command's monitor may still have to write when we have forgotten the
        service: into a folder that was removed nothing can be written.
        """
        return f"runs/{name}"

    def log(self, name: str) -> str:
        """Return the path of what a service's command writes."""
        return f"{self.root}/runs/{name}/log"

    def exit_file(self, name: str) -> str:
        """Return the path to which the exit status of a service's command is written."""
        return f"{self.root}/runs/{name}/exit"

    # the host

    def firewall(self) -> str:
        """Return which variant of iptables holds our rules, "" for none: nf_tables does, or there are none."""
        path = f"{self.root}/firewall"
        # Asked several times for each endpoint that comes, and nearly always in vain: access(2) takes 1 µs.
        return (files.read(path) or "").partition("\n")[0] if os.access(path, os.F_OK) else ""

    def firewall_before(self) -> tuple[str, ...]:
        """Return what iptables-nft had before it held our rules: tables, ``ip nat``, and chains, ``ip nat OUTPUT``."""
        return tuple((files.read(f"{self.root}/firewall") or "").splitlines()[1:])

    def host(self) -> HostRecord:
        """Return what all networks share, as we put it there."""
        found: HostRecord | None = self._read("host.json")
        return found or HostRecord()
