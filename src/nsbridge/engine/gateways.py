"""Which of a namespace's networks holds its default route, when networks come and go.

A service's main network does whenever the service is on it; else, and for anybody else, the network that held it first.
When that one goes the next takes over, as with Docker: the service's networks in their order, then by name.
"""

from __future__ import annotations

from nsbridge import codec
from nsbridge.desired.endpoint import endpoint_things
from nsbridge.desired.leading import leading
from nsbridge.engine import endpoints
from nsbridge.errors import KernelError
from nsbridge.plan.diff import adding, removing
from nsbridge.state.things import Sysctl
from nsbridge.store import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nsbridge.engine.endpoints import Wish
    from nsbridge.engine.host import Host
    from nsbridge.engine.journal import Operation
    from nsbridge.kernel.interface import Kernel
    from nsbridge.model.endpoint import Endpoint
    from nsbridge.model.network import Network
    from nsbridge.store.store import Store


def attach(host: Host, op: Operation, network: Network, wish: Wish) -> Endpoint:
    """Make an endpoint of a service, and have it hold the default route if its network is the main one.

    Another of the service's networks may hold it by now, whose record nobody else may change meanwhile. Who has two
    locks has the main network's first, so nobody waits in a circle.
    """
    record = host.store.service_or_none(wish.service)
    main = record is not None and record.service.main_network == network.name
    holder = next((one for one in host.store.endpoints(name=wish.name) if one.gateway), None) if main else None
    if holder is None:
        return endpoints.attach(host, op, network, wish)
    with host.store.name_lock(f"{holder.network}/{holder.name}"):
        op.leading(wish.name, wish.netns)
        endpoint = endpoints.attach(host, op, network, wish)
        place(host.kernel, host.store, wish.name, wish.netns)
    return host.store.endpoint(network.name, wish.name) or endpoint


def place(kernel: Kernel, store: Store, name: str, netns: str) -> None:
    """Have those hold the default routes of a namespace (path) that shall, of its endpoints of a name.

    May be repeated. The caller sees to it that nobody else changes these endpoints.
    """
    mine = [one for one in store.endpoints(name=name) if one.netns == netns]
    able = [one for one in mine if not store.network(one.network).internal]
    record = store.service_or_none(able[0].service) if able and able[0].service else None
    wanted = leading(able, record.service if record is not None else None)
    giving = [one for one in able if one.gateway and one not in wanted]
    for one in giving:
        _lead(kernel, store, one, leads=False)
    taking = [_lead(kernel, store, one, leads=True) for one in wanted if not one.gateway]
    if not all(taking):
        for one in giving:
            _lead(kernel, store, one, leads=True)


def _lead(kernel: Kernel, store: Store, endpoint: Endpoint, *, leads: bool) -> bool:
    """Give an endpoint the default route, or take it away; False where that can't be, and nothing is changed then.

    Somebody's own default route may be there, and the link or the namespace may be gone. Begun, it says in the record
    that the endpoint doesn't lead, so that after a crash it is begun anew.
    """
    network, path = store.network(endpoint.network), store.endpoint_path(endpoint.network, endpoint.name)
    before, after = (
        endpoint_things(network, endpoint.replace(gateway=one), mtu=network.mtu, bridge_index=0)
        for one in (not leads, leads)
    )
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
        files.replace(f"{store.root}/{path}", codec.dumps(endpoint.replace(gateway=False)) + "\n")
    # A setting stays: loose where it might be strict, until the link goes.
    for step in removing(kernel.find(one for one in before if one not in after and not isinstance(one, Sysctl))):
        kernel.do(step)
    if leads:
        files.replace(f"{store.root}/{path}", codec.dumps(endpoint.replace(gateway=True)) + "\n")
    return True
