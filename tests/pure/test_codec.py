"""JSON and back: the identity for every value type, and ValueError for anything torn."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import pkgutil
import subprocess
import sys
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import nsbridge
from nsbridge import desired, firewall, model, plan, state
from nsbridge.codec import dumps, loads
from nsbridge.desired.ruleset import skeleton
from nsbridge.model.endpoint import Endpoint, PublishedPort
from nsbridge.model.network import Network, Subnet
from nsbridge.plan.step import Plan, Step
from nsbridge.state.things import Address, Link, Netns, Route
from nsbridge.values import REGISTRY, Value

for package in (model, state, firewall, desired, plan):
    for found in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        importlib.import_module(found.name)

OURS = {name: kind for name, kind in REGISTRY.items() if kind.__module__.startswith("nsbridge.") and kind._fields}

addresses = st.ip_addresses()
interfaces = st.builds(
    lambda ip, bits: ip_interface(f"{ip}/{bits % (ip.max_prefixlen + 1)}"), addresses, st.integers(0, 128)
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.binary(max_size=20)
    | addresses
    | interfaces
    | interfaces.map(lambda one: one.network)
)
# Keys of more than one letter that aren't the marks of addresses and bytes.
keys = st.text(min_size=4, max_size=8)
fields = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def values(draw: st.DrawFn) -> Value:
    """A value of any registered type with anything in its fields: the codec doesn't judge what they mean."""
    kind = OURS[draw(st.sampled_from(sorted(OURS)))]
    value = object.__new__(kind)
    for name in kind._fields:
        default = kind._defaults.get(name)
        object.__setattr__(value, name, draw(st.just(default) | fields if name in kind._defaults else fields))
    return value


def born(value: Value) -> bool:
    """Whether the type's own check takes these fields."""
    try:
        type(value)(*[getattr(value, name) for name in type(value)._fields])
    except Exception:
        return False
    return True


def same(one: Any, two: Any) -> bool:
    """Equal, of the same types, in the fields that comparison leaves out too."""
    if type(one) is not type(two):
        return False
    if isinstance(one, Value):
        return all(same(getattr(one, name), getattr(two, name)) for name in type(one)._fields)
    if isinstance(one, tuple):
        return len(one) == len(two) and all(map(same, one, two))
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[key], two[key]) for key in one)
    return bool(one == two)


def text_of(value: Any) -> str:
    """Written, and checked to be JSON by the standard reader."""
    text = dumps(value)
    json.loads(text)
    assert "\n" not in text, "one record, one line: the journal counts on it"
    return text


@given(fields)
def test_plain_data_comes_back(thing: Any) -> None:
    assert same(loads(text_of(thing)), thing)


@given(values())
def test_every_registered_type_comes_back_or_is_refused(value: Value) -> None:
    """What a type's own check takes comes back the same; what it doesn't take is a ValueError, never half a value."""
    text = text_of(value)
    if born(value):
        assert same(loads(text), value)
    else:
        with pytest.raises(ValueError, match=r"."):
            loads(text)


SAMPLES = (
    Netns("/run/netns/ns1", why="service 'ns1'"),
    Link("", "nsb-web", "bridge", 7, mtu=1500, options=(("mcast_snooping", 0),)),
    Address("", "nsb-web", ip_interface("175.18.0.1/24")),
    Address("", "nsb-web", ip_interface("fd00::1/64")),
    Route("/run/netns/ns1", ip_network("0.0.0.0/0"), "eth0", ip_address("175.18.0.1")),
    Network("web", (Subnet(ip_network("175.18.0.0/24"), reserved=(("printer", ip_address("175.18.0.9")),)),)),
    Endpoint("web", "ns1", "/proc/1/ns/net", ports=(PublishedPort(80, 8088, host_ip=ip_address("::1")),)),
    Plan((Step("add", (Netns("/run/netns/ns1"), Netns("/run/netns/ü")), why="two"),)),
    skeleton(),
)


@pytest.mark.parametrize("value", SAMPLES, ids=lambda value: type(value).__name__)
def test_real_values_come_back(value: Value) -> None:
    assert same(loads(text_of(value)), value)


@pytest.mark.parametrize("value", SAMPLES[:-1], ids=lambda value: type(value).__name__)
def test_every_torn_record_is_a_value_error(value: Value) -> None:
    """A crash in the middle of writing leaves a prefix; none may be read as a record."""
    text = dumps(value)
    for end in range(len(text)):
        with pytest.raises(ValueError, match=r"."):
            loads(text[:end])


@given(st.sampled_from(SAMPLES[:-1]), st.data())
def test_a_damaged_record_is_a_value_error_or_another_value(value: Value, data: st.DataObject) -> None:
    """A flipped byte on disk gives something else or ValueError: no other exception reaches the reader of a record."""
    text = dumps(value)
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:at] + data.draw(st.characters(codec="ascii")) + text[at + 1 :]
    with contextlib.suppress(ValueError):
        loads(damaged)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{}{}",
        '{"": "Link"} and more',
        '{"": "NoSuchType"}',
        '{"": ["Link"]}',
        '{"": "Netns"}',
        '{"": "Netns", "path": "/run/netns/a", "colour": "red"}',
        '{"": "PublishedPort", "target": 70000}',
        '{"": "Subnet", "network": "10.0.0.0/24"}',
        '{"ip": "10.0.0.300"}',
        '{"net": "10.0.0.1/24"}',
        '{"hex": "0g"}',
        '{"hex": 1}',
        "NaN",
        "-Infinity",
    ],
)
def test_what_is_not_ours_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        loads(text)


@pytest.mark.parametrize(
    "thing",
    [{1, 2}, {1: 2}, {"ip": "10.0.0.1"}, {"": 1}, {"hex": "00", "": 1}, math.nan, math.inf, object(), 1j],
    ids=repr,
)
def test_what_would_not_come_back_is_not_written(thing: object) -> None:
    with pytest.raises(TypeError):
        dumps(thing)


def test_lists_come_back_as_tuples() -> None:
    assert loads(dumps({"some": [1, [2]]})) == {"some": (1, (2,))}


def test_without_the_private_scanner_the_package_does() -> None:
    """Another Python may lack ``_json``: the same text then, and the same values."""
    code = """if True:
        import sys
        sys.modules["_json"] = None
        from nsbridge import codec
        from nsbridge.state.things import Address
        assert "json.decoder" in sys.modules
        text = sys.stdin.read()
        value = codec.loads(text)
        assert codec.dumps(value) == text, (codec.dumps(value), text)
        for torn in ("", "NaN", text[:-1], text + "}"):
            try:
                codec.loads(torn)
            except ValueError:
                continue
            raise SystemExit(f"{torn!r} was read")
    """
    text = dumps(SAMPLES[3])
    path = nsbridge.__path__[0].removesuffix("nsbridge")
    done = subprocess.run(
        [sys.executable, "-c", code], input=text, text=True, capture_output=True, check=False, env={"PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
