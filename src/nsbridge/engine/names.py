"""What namespaces of ours see as /etc/hosts and /etc/resolv.conf."""

from __future__ import annotations

from nsbridge import codec
from nsbridge.errors import NotFound
from nsbridge.store import files, hosts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from nsbridge.engine.host import Host
    from nsbridge.engine.journal import Operation
    from nsbridge.model.endpoint import Endpoint


def resolv_conf(host: Host) -> str:
    """Bring what namespaces see as /etc/resolv.conf up to date, and return where it is.

    A name server on the host's loopback can't be reached from a namespace, so it is left out; systemd-resolved
    keeps the real ones in a file of its own (systemd-resolved.service(8)).
    """
    path = f"{host.store.root}/resolv.conf"
    kept: list[str] = []
    for source in ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"):
        kept = [row for row in (files.read(source) or "").splitlines() if not _loopback_server(row)]
        if any(row.startswith("nameserver") for row in kept):
            break
    text = "".join(row + "\n" for row in kept)
    if files.read(path) != text:
        files.rewrite(path, text)
    return path


def _loopback_server(row: str) -> bool:
    words = row.split()
    return len(words) > 1 and words[0] == "nameserver" and (words[1].startswith("127.") or words[1] == "::1")


def hosts_file(host: Host, names: Iterable[str]) -> str:
    """Return the path of the file that a namespace on these networks sees as /etc/hosts, made if need be."""
    names = tuple(names)
    if not names:
        return ""
    return hosts.make(host.store.root, names, lambda name: map(hosts.line, host.store.endpoints(name)))


def refresh(host: Host, op: Operation, endpoint: Endpoint, *, here: bool) -> None:
    """Show a running service of ours the names of a network that its endpoint came to (`here`), or left.

    Part of the operation by which it came or left. Nothing to do for a namespace that somebody else made: its
    /etc/hosts isn't ours. NotFound when the service was removed while the endpoint came.
    """
    if endpoint.service:
        with host.store.name_lock(f"/{endpoint.service}"):
            _refresh(host, op.replace, endpoint.service, endpoint.network, here)


def left(host: Host, service: str, network: str) -> None:
    """Finish what `refresh` had to do when an endpoint left. The caller holds the exclusive lock."""
    _refresh(host, lambda path, text: files.replace(f"{host.store.root}/{path}", text), service, network, here=False)


def _refresh(host: Host, replace: Callable[[str, str], None], name: str, network: str, here: bool) -> None:
    record = host.store.service_or_none(name)
    if record is None and here:
        raise NotFound(f"service {name!r} was removed meanwhile", fix="see `nsbridge ps`")
    if record is None or (network in record.networks) == here:
        return
    shown = (*record.networks, network) if here else tuple(name for name in record.networks if name != network)
    record = record.replace(networks=shown)
    replace(host.store.service_path(name), codec.dumps(record) + "\n")
    from nsbridge.kernel import mounts, process

    where = hosts_file(host, shown)
    if where and record.pid and process.alive(process.Running(record.pid, record.started)):
        try:
            mounts.show(record.pid, where, "/etc/hosts")
        except OSError as err:
            host.say(f"{record.service.name} still sees the old /etc/hosts: {err.strerror}")
