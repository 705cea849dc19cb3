"""Where the parts meet: the kernel, the store and the engine of the host namespace we run in."""

from __future__ import annotations

import os

from nsbridge.engine.host import Host
from nsbridge.kernel.linux import LinuxKernel
from nsbridge.store.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nsbridge.kernel.interface import Kernel

MACHINE_ROOT = "/var/lib/nsbridge"
"""Where the machine's own state is kept: networks outlive a reboot."""

NAMESPACE_ROOT = "/run/nsbridge"
"""Where that of other host namespaces is: they don't outlive it."""


def root_of(kernel: Kernel) -> str:
    """Return the store's root for a host namespace; ``NSBRIDGE_ROOT`` overrules it."""
    given = os.environ.get("NSBRIDGE_ROOT")
    if given:
        return given
    name = kernel.host_id()
    return f"{MACHINE_ROOT}/{name}" if name == "host" else f"{NAMESPACE_ROOT}/{name}"


def open_host(say: Callable[[str], None] | None = None, firewall: str = "") -> Host:
    """Return the host namespace of the calling thread; what a killed command left is dealt with first.

    firewall: where the rules of its networks have to be, "" for wherever they are; ``NSBRIDGE_FIREWALL`` says it for
    the first network. InvalidIntent when they are elsewhere.
    """
    kernel = LinuxKernel(lambda: store.firewall(), lambda: store.firewall_before())
    store = Store(root_of(kernel))
    host = Host(kernel, store, say, firewall=firewall, firewall_default=os.environ.get("NSBRIDGE_FIREWALL", ""))
    host.open()
    if firewall:
        from nsbridge.engine import firewalls

        firewalls.check(host)
    return host
