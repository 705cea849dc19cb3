"""Every firewall rule of a namespace, whoever made it: nf_tables of all families, and iptables-legacy."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.firewall.seen import Firewall


def read_firewall() -> Firewall:
    """Read all tables, chains and rules of the calling thread's network namespace.

    What sets hold is asked for when a packet comes to them: `Firewall.contents` keeps a socket of that namespace,
    to be used from any thread until the value is dropped. KernelError when the rules kept changing; NoPermission.
    """
    raise NotImplementedError
