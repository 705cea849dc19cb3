"""Which of our rules are about a network, an endpoint or a port."""

from __future__ import annotations

from nsbridge.desired.guard import guard_elements
from nsbridge.desired.network import network_elements
from nsbridge.desired.ports import claimed, ports_things, turns_things
from nsbridge.desired.ruleset import skeleton
from nsbridge.desired.senders import guard_table
from nsbridge.engine import layout, policies, shared
from nsbridge.errors import NotFound
from nsbridge.explain import rules
from nsbridge.firewall.ruleset import Element

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from nsbridge.engine.host import Host
    from nsbridge.explain.rules import ToldRules
    from nsbridge.model.endpoint import Endpoint


def look(host: Host, subject: str = "") -> ToldRules:
    """Return the rules that decide about a network, an endpoint or a port of the host (``8080``, ``53/udp``), or all.

    NotFound when nothing is called so, or nothing is published there.
    """
    meant = (skeleton(), guard_table())
    elements = _about(host, subject) if subject else _all(host)
    return rules.told(host.kernel.every_rule(), meant, elements, only=bool(subject))


def _all(host: Host) -> tuple[Element, ...]:
    return tuple([thing for thing in layout.standing(host).things if isinstance(thing, Element)])


def _about(host: Host, subject: str) -> tuple[Element, ...]:
    network = host.store.network_or_none(subject)
    if network is not None:
        endpoints = host.store.endpoints(subject)
        found = [*network_elements(network), *_of_endpoints(host, endpoints)]
        return _each_once(found)
    mine = host.store.endpoints(name=subject)
    if mine:
        places = [host.store.network(endpoint.network) for endpoint in mine]
        return _each_once(
            [element for place in places for element in network_elements(place)] + _of_endpoints(host, mine)
        )
    number, _, proto = subject.partition("/")
    if number.isascii() and number.isdecimal():
        found = [element for element in _all(host) if _holds(element, int(number), proto or "tcp")]
        if found:
            return _each_once(found)
        raise NotFound(f"port {number}/{proto or 'tcp'} isn't published", fix="see `nsbridge ps` for those that are")
    raise NotFound(f"there is no network or endpoint {subject!r}", fix="see `nsbridge network ls` and `nsbridge ps -a`")


def _holds(element: Element, number: int, proto: str) -> bool:
    claim = claimed(element)
    return claim is not None and claim[2] == proto and claim[3] <= number <= claim[4]


def _of_endpoints(host: Host, endpoints: Iterable[Endpoint]) -> list[Element]:
    found: list[Element] = []
    for endpoint in endpoints:
        network = host.store.network(endpoint.network)
        found += [*guard_elements(network, endpoint), *policies.fragment(host, endpoint)]
        found += ports_things(network, endpoint)
        addresses = {address.ip for address in endpoint.addresses}
        for port in [port for port in endpoint.ports if port.share]:
            record = shared.read(host.store, port.proto, port.host_port)
            turns = turns_things(record) if record is not None else ()
            found += [element for element in turns if element.data[0] in addresses]
    return found


def _each_once(elements: Iterable[Element]) -> tuple[Element, ...]:
    return tuple({element.identity: element for element in elements}.values())
