"""Which of a namespace's networks holds its default routes when networks come and go, each IP version for itself.

A service's main network does whenever the service is on it; else, and for anybody else, the network that held it first.
When that one goes the next takes over, as with Docker: the service's networks in their order, then by name.
"""

from __future__ import annotations

from nsbridge import codec
from nsbridge.desired.endpoint import endpoint_things
from nsbridge.desired.leading import leading, leads_out
from nsbridge.engine import endpoints
from nsbridge.errors import KernelError
from nsbridge.plan.diff import adding, removing
from nsbridge.state.things import Sysctl
from nsbridge.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from nsbridge.engine.endpoints import Wish
    from nsbridge.engine.host import Host
    from nsbridge.engine.journal import Operation
    from nsbridge.kernel.interface import Kernel
    from nsbridge.model.endpoint import Endpoint
    from nsbridge.model.network import Network
    from nsbridge.store.store import Store


def attach(host: Host, op: Operation, network: Network, wish: Wish) -> Endpoint:
    """Make an endpoint of a service, and have it hold the default routes if its network is the main one.

    Others of the service's networks may hold them by now, whose records nobody else may change meanwhile. Who has
    several locks has the main network's first and the others' by name, so nobody waits in a circle.
    """
    record = host.store.service_or_none(wish.service)
    main = record is not None and record.service.main_network == network.name
    holders = [one for one in host.store.endpoints(name=wish.name) if one.gateway] if main else []
    if not holders:
        return endpoints.attach(host, op, network, wish)

    def take_over() -> None:
        op.leading(wish.name, wish.netns)
        endpoints.attach(host, op, network, wish)
        place(host.kernel, host.store, wish.name, wish.netns)

    _locked(host, sorted([f"{one.network}/{one.name}" for one in holders]), take_over)
    found = host.store.endpoint(network.name, wish.name)
    assert found is not None  # we hold the lock of its name
    return found


def _locked(host: Host, names: list[str], work: Callable[[], None]) -> None:
    if not names:
        work()
        return
    with host.store.name_lock(names[0]):
        _locked(host, names[1:], work)


def place(kernel: Kernel, store: Store, name: str, netns: str) -> None:
    """Have those hold the default routes of a namespace (path) that shall, of its endpoints of a name.

    May be repeated. The caller sees to it that nobody else changes these endpoints.
    """
    for version in (4, 6):
        mine = [one for one in store.endpoints(name=name) if one.netns == netns]
        able = {one.network: one for one in mine if version in leads_out(store.network(one.network))}
        held = {network for network, one in able.items() if version in one.gateway}
        record = store.service_or_none(mine[0].service) if mine and mine[0].service else None
        first = leading(able, held, record.service if record is not None else None)
        giving = held - {first}
        for network in giving:
            _lead(kernel, store, able[network], version, leads=False)
        if first and first not in held and not _lead(kernel, store, able[first], version, leads=True):
            for network in giving:
                _lead(kernel, store, able[network], version, leads=True)


def _lead(kernel: Kernel, store: Store, endpoint: Endpoint, version: int, *, leads: bool) -> bool:
    """Give an endpoint the default route, or take it away; False where that can't be, and nothing is changed then.

    Somebody's own default route may be there, and the link or the namespace may be gone. Begun, it says in the record
    that the endpoint doesn't lead, so that after a crash it is begun anew.
    """
    network, path = store.network(endpoint.network), store.endpoint_path(endpoint.network, endpoint.name)
    now, then = endpoint.leading(version, leads=not leads), endpoint.leading(version, leads=leads)
    before, after = (endpoint_things(network, one, mtu=network.mtu, bridge_index=0) for one in (now, then))
    new = [one for one in after if one not in before]
    there = kernel.find(new)
    coming = [one for one in new if one not in there]
    try:
        for step in adding(coming):  # before the old ones go: there is no moment without a way back
            kernel.do(step)
    except KernelError:
        for step in removing(one for one in kernel.find(coming) if not isinstance(one, Sysctl)):
            kernel.do(step)
        return False
    if not leads:
        files.replace(f"{store.root}/{path}", codec.dumps(then) + "\n")
    # A setting stays: loose where it might be strict, until the link goes.
    for step in removing(kernel.find(one for one in before if one not in after and not isinstance(one, Sysctl))):
        kernel.do(step)
    if leads:
        files.replace(f"{store.root}/{path}", codec.dumps(then) + "\n")
    return True
