"""What is there, leftovers, and one command for which a place is made."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nsbridge.api.endpoint import Endpoint
from nsbridge.api.host import current
from nsbridge.api.network import Network
from nsbridge.engine import doctor as examination
from nsbridge.engine import gc as leftovers
from nsbridge.model.names import DEFAULT_NETWORK

if TYPE_CHECKING:
    import subprocess

    from nsbridge.api import words
    from nsbridge.engine.doctor import Finding
    from nsbridge.model.policy import Policy


def networks() -> tuple[Network, ...]:
    """Return all networks of this host, by name."""
    return tuple(Network.existing(network.name) for network in current().store.networks())


def endpoints() -> tuple[Endpoint, ...]:
    """Return all endpoints of this host."""
    return tuple(Endpoint.of(endpoint) for endpoint in current().store.endpoints())


def run(
    args: words.Words,
    *,
    network: Network | str = DEFAULT_NETWORK,
    ports: Iterable[words.Port] = (),
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """Run one command in a namespace of its own, which goes with it; options as for `Endpoint.run`.

    >>> print(nsbridge.run(["ls", "/sys/class/net"], ports=["8080:80"], capture_output=True).returncode)
    0
    """
    place = Network.existing(network) if isinstance(network, str) else network
    with place.endpoint(ports=ports) as endpoint:
        done: subprocess.CompletedProcess[str] = endpoint.run(args, **options)
        return done


def policies() -> tuple[Policy, ...]:
    """Return the rules of all projects that have some, in their order: who may talk to whom."""
    return current().store.policies()


def doctor() -> tuple[Finding, ...]:
    """Return what on this host blocks or endangers networks, each with its fix. Changes nothing."""
    return examination.examine(current())


def gc(*, dry_run: bool = False) -> tuple[str, ...]:
    """Remove leftovers of ours, nothing else; return what was removed, in words. dry_run: only tell."""
    return leftovers.collect(current(), dry_run=dry_run)
