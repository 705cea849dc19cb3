"""Our table in a running kernel. nft(8) judges what was written; the law of reading is that it gives the same back."""

from __future__ import annotations

import errno
import json
import sys
import threading
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from lab import FreshHost, sh

from nsbridge.errors import KernelError, unpermitted
from nsbridge.explain.nft import firewall
from nsbridge.explain.transcript import commands
from nsbridge.firewall.expressions import Accept, Match, Opaque
from nsbridge.firewall.nftables import render
from nsbridge.firewall.ruleset import Element, Rule, Span
from nsbridge.kernel.nftnetlink import Nft

sys.path.append(str(Path(__file__).parents[1] / "pure"))
from rulesets import PLACE, SKELETON, elements, tables

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.netns


def one(name: str, *key: Any, data: tuple[Any, ...] = ()) -> Element:
    return Element(PLACE, name, key, data)


SOME = (
    one("bridges", "br0"),
    one("bridges", "br1"),
    one("icc", "br0", "br0"),
    one("raised", "ipv4"),
    one("raised", "ipv6"),
    one("home4", "br0", ip_network("10.0.0.0/24")),
    one("home6", "br0", ip_network("fd00::/64")),
    one("subnets4", ip_network("10.0.0.0/24")),
    one("subnets4", ip_network("10.0.1.0/24")),
    one("subnets6", ip_network("fd00::/64")),
    one("hidden4", ip_network("255.255.255.0/24")),
    one("publish4", "tcp", 80, data=(ip_address("10.0.0.2"), 8080)),
    one("publish4", "udp", 80, data=(ip_address("10.0.0.3"), 53)),
    one("publish6", "tcp", 80, data=(ip_address("fd00::2"), 8080)),
    one("bound4", ip_address("127.0.0.1"), "tcp", 81, data=(ip_address("10.0.0.2"), 80)),
    one("bound6", ip_address("fd00::1"), "tcp", 81, data=(ip_address("fd00::2"), 80)),
)


@pytest.fixture
def nft(host: FreshHost) -> Iterator[Nft]:
    found = Nft()
    yield found
    found.close()


@pytest.fixture
def table(nft: Nft) -> Nft:
    nft.apply("add", [SKELETON])
    return nft


def listed() -> Any:
    """What nft reads from the kernel, without handles and counters."""

    def plain(thing: Any) -> Any:
        if isinstance(thing, dict):
            return {key: plain(value) for key, value in thing.items() if key not in ("handle", "packets", "bytes")}
        return [plain(item) for item in thing] if isinstance(thing, list) else thing

    return plain(json.loads(sh("nft -j list ruleset").out)["nftables"])


def clear() -> None:
    sh("nft flush ruleset")


# ------------------------------------------------------------------ the law of reading


def test_what_was_written_is_read_back(nft: Nft) -> None:
    assert nft.observe() == ()
    nft.apply("add", [SKELETON, *SOME])
    table, *found = nft.observe()
    assert table == SKELETON
    assert set(found) == set(SOME)
    assert len(found) == len(SOME)
    # Reasons come back too, though no comparison asks for them.
    assert table.why == SKELETON.why
    for read, meant in zip(table.chains, SKELETON.chains, strict=True):
        assert read.why == meant.why
        assert [rule.why for rule in read.rules] == [rule.why for rule in meant.rules]
    assert [one.why for one in table.sets] == [one.why for one in SKELETON.sets]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=elements())
def test_drawn_elements_are_read_back_found_and_removed(nft: Nft, drawn: list[Element]) -> None:
    nft.apply("remove", [SKELETON])
    nft.apply("add", [SKELETON, *drawn])
    found = nft.observe()
    assert set(found) == {SKELETON, *drawn}
    assert nft.find(drawn) == tuple(drawn)
    nft.apply("remove", drawn)
    assert nft.observe() == (SKELETON,)
    assert nft.find(drawn) == ()


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=tables())
def test_drawn_tables_are_read_back_and_nft_prints_and_loads_them(nft: Nft, drawn: Any) -> None:
    nft.apply("remove", [SKELETON])
    nft.apply("add", [drawn])
    assert nft.observe() == (drawn,)
    listed()


# ------------------------------------------------------------------ nft as a judge


def test_nft_prints_the_skeleton_and_elements_as_we_render_them(nft: Nft) -> None:
    nft.apply("add", [SKELETON, *SOME])
    assert sh("nft list table inet nsbridge").out == render(SKELETON, SOME)
    assert sh("nft --stateless list table inet nsbridge").out == render(SKELETON, SOME, stateless=True)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=elements())
def test_nft_prints_drawn_elements_as_we_render_them(nft: Nft, drawn: list[Element]) -> None:
    nft.apply("remove", [SKELETON])
    nft.apply("add", [SKELETON, *drawn])
    # nft leaves elements with several fields, one of them an interval, in the kernel's order.
    order = nft.observe()[1:]
    assert sh("nft list table inet nsbridge").out == render(SKELETON, order)  # type: ignore[arg-type]


def test_text_loaded_by_nft_and_our_messages_make_the_same(nft: Nft, tmp_path: Path) -> None:
    nft.apply("add", [SKELETON, *SOME])
    ours, seen = listed(), nft.observe()
    clear()
    (tmp_path / "rules").write_text(render(SKELETON, SOME))
    sh(f"nft -f {tmp_path}/rules")
    assert listed() == ours
    fresh = Nft()
    table, *found = fresh.observe()
    fresh.close()
    assert table == seen[0]
    assert set(found) == set(seen[1:])


def test_a_listing_can_be_replayed(table: Nft) -> None:
    table.apply("add", SOME)
    text, before = sh("nft list ruleset").out, listed()
    clear()
    sh("nft -f - <<'END'\n" + text + "END")
    assert listed() == before
    assert set(table.observe()) == {SKELETON, *SOME}


# ------------------------------------------------------------------ writing


def test_all_or_nothing_and_the_error_names_the_element(table: Nft) -> None:
    table.apply("add", SOME)
    new = [one("publish4", "tcp", port, data=(ip_address("10.0.0.2"), port)) for port in range(1000, 1100)]
    taken = one("publish4", "udp", 80, data=(ip_address("10.0.0.9"), 1))
    with pytest.raises(KernelError) as caught:
        table.apply("add", [one("bridges", "br9"), *new[:60], taken, *new[60:]])
    assert caught.value.errno == errno.EEXIST
    assert caught.value.thing == taken
    assert str(caught.value) == "element udp . 80 : 10.0.0.9 . 1 of publish4 is there already"
    assert set(table.observe()) == {SKELETON, *SOME}


def test_a_second_table_of_our_name_is_refused(table: Nft) -> None:
    with pytest.raises(KernelError) as caught:
        table.apply("add", [SKELETON])
    assert (caught.value.errno, caught.value.thing) == (errno.EEXIST, SKELETON)
    assert table.observe() == (SKELETON,)


def test_overlapping_networks_are_refused(table: Nft) -> None:
    table.apply("add", [one("subnets4", ip_network("10.0.0.0/16"))])
    for inner in ("10.0.0.0/16", "10.0.7.0/24", "10.0.0.0/8"):
        with pytest.raises(KernelError):
            table.apply("add", [one("subnets4", ip_network(inner))])
    assert len(table.observe()) == 2


def test_removing_what_is_gone_is_success(table: Nft) -> None:
    table.apply("add", SOME)
    gone = [one("bridges", "br7"), one("subnets4", ip_network("10.7.0.0/24")), one("publish4", "tcp", 7)]
    table.apply("remove", [gone[0], *SOME[:4], *gone[1:]])
    assert set(table.observe()) == {SKELETON, *SOME[4:]}
    table.apply("remove", SOME)
    table.apply("remove", SOME)
    assert table.observe() == (SKELETON,)
    table.apply("remove", [SKELETON, *SOME])
    table.apply("remove", [SKELETON, *SOME])
    table.apply("remove", SOME)
    assert table.observe() == ()
    assert sh("nft list ruleset").out == ""


def test_an_element_without_its_table_is_refused(nft: Nft) -> None:
    with pytest.raises(KernelError) as caught:
        nft.apply("add", SOME)
    assert (caught.value.errno, caught.value.thing) == (errno.ENOENT, SOME[0])
    nft.apply("add", [SKELETON])
    nft.apply("add", SOME)
    clear()
    with pytest.raises(KernelError) as caught:
        nft.apply("add", SOME)
    assert caught.value.errno == errno.ENOENT


def test_one_that_fits_no_set_is_named_among_many(table: Nft) -> None:
    with pytest.raises(KernelError) as caught:
        table.apply("add", [*SOME, one("bridges", "x" * 16), one("bridges", "br8")])
    assert caught.value.thing == one("bridges", "x" * 16)


def test_what_fits_no_set_is_refused_before_anything_is_sent(table: Nft) -> None:
    wrong = (
        one("bridges", "x" * 16),
        one("publish4", "tcp", 70000, data=(ip_address("10.0.0.2"), 1)),
        one("publish4", "tcp", 80, data=(ip_address("fd00::2"), 1)),
        one("publish4", "tcp", data=(ip_address("10.0.0.2"), 1)),
        one("raised", "ipx"),
        one("subnets4", ip_network("fd00::/64")),
        one("bound4", ip_address("::1"), "tcp", 1, data=(ip_address("10.0.0.2"), 1)),
    )
    for element in wrong:
        with pytest.raises(KernelError) as caught:
            table.apply("add", [element])
        assert caught.value.thing == element
    assert table.observe() == (SKELETON,)


def test_a_changed_element_has_its_new_data_at_once(table: Nft) -> None:
    old = one("publish4", "tcp", 80, data=(ip_address("10.0.0.2"), 80))
    new = one("publish4", "tcp", 80, data=(ip_address("10.0.0.3"), 81))
    table.apply("add", [old])
    table.apply("change", [new])
    assert table.element_data(PLACE, "publish4", ("tcp", 80)) == new.data
    table.apply("remove", [old])
    table.apply("change", [new])  # one that was gone is there afterwards
    assert table.observe() == (SKELETON, new)


def test_finding_many_finds_what_asking_for_each_alone_does(table: Nft) -> None:
    there = [
        element
        for number in range(100)
        for element in (
            one("publish4", "tcp", 1000 + number, data=(ip_address("10.0.0.2"), 80 + number)),
            one("publish6", "udp", 1000 + number, data=(ip_address(f"fd00::{number + 1:x}"), 53)),
            one("bound4", ip_address(f"127.0.0.{number + 1}"), "tcp", 81, data=(ip_address("10.0.0.2"), 80)),
            one("subnets4", ip_network(f"10.{number}.0.0/24")),
            one("subnets6", ip_network(f"fd00:{number + 1:x}::/64")),
        )
    ]
    moved = [each.replace(data=(*each.data[:-1], 7)) for each in there if each.data]
    absent = [one("publish4", "udp", number, data=(ip_address("10.0.0.2"), 80)) for number in range(1, 100)]
    absent += [one("subnets4", ip_network(f"10.{number}.0.0/25")) for number in range(100)]
    table.apply("add", there)
    assert table.find([*moved, *there, *absent]) == tuple(there)
    assert table.find([*absent, *there[::7]]) == tuple(there[::7])
    table.apply("remove", there)
    assert table.find([*there, *absent]) == ()


def test_finding_asks_for_elements_alone(table: Nft) -> None:
    table.apply("add", SOME)
    assert table.find([SKELETON, *SOME]) == (SKELETON, *SOME)
    others = (
        one("publish4", "tcp", 80, data=(ip_address("10.0.0.2"), 8081)),  # other data
        one("publish4", "tcp", 81),
        one("subnets4", ip_network("10.0.0.0/23")),  # two neighbours that together make it
        one("subnets4", ip_network("10.0.0.0/25")),
        one("subnets4", ip_network("10.0.0.128/25")),
        one("subnets4", ip_network("10.0.2.0/24")),
        one("home4", "br0", ip_network("10.0.0.0/25")),
        one("home4", "br1", ip_network("10.0.0.0/24")),
        one("nosuchset", "x"),
        SKELETON.replace(name="other"),
    )
    assert table.find(others) == ()
    assert table.element_data(PLACE, "bridges", ("br0",)) == ()
    assert table.element_data(PLACE, "bridges", ("br7",)) is None
    assert table.element_data(PLACE, "publish4", ("udp", 80)) == (ip_address("10.0.0.3"), 53)
    assert table.element_data(("inet", "nowhere"), "publish4", ("udp", 80)) is None


@pytest.mark.proves("row 58")
def test_sixty_thousand_elements(table: Nft) -> None:
    many = [
        one("publish4", "tcp" if number & 1 else "udp", number >> 1, data=(IPv4Address(0x0A000002 + number), 80))
        for number in range(60_000)
    ]
    table.apply("add", many)
    assert set(table.observe()) == {SKELETON, *many}
    taken = many[40_000]
    table.apply("remove", [*many[:40_000], *many[40_001:]])
    assert set(table.observe()) == {SKELETON, taken}
    with pytest.raises(KernelError) as caught:
        table.apply("add", many)
    assert caught.value.thing == taken
    assert set(table.observe()) == {SKELETON, taken}  # batches before the refused one are taken back
    table.apply("remove", many)
    assert table.observe() == (SKELETON,)


def test_without_permission(host: FreshHost) -> None:
    assert sh("command -v setpriv", check=False).status == 0, "setpriv is part of util-linux"
    code = (
        "from nsbridge.kernel.nftnetlink import Nft\nfrom nsbridge.desired.ruleset import skeleton\n"
        "from nsbridge.errors import NoPermission\n"
        "try: Nft().apply('add', [skeleton()])\nexcept NoPermission as err: print(err)"
    )
    done = sh(["setpriv", "--bounding-set=-net_admin", "--inh-caps=-all", "--", sys.executable, "-c", code])
    assert done.out == f"{unpermitted('the kernel lets this process change no nftables rules')}\n"
    assert "CAP_NET_ADMIN" in done.out


# ------------------------------------------------------------------ drift


@pytest.mark.proves("row 78", "row 86")
def test_a_strange_rule_is_seen_and_replacing_the_table_keeps_its_elements(table: Nft) -> None:
    table.apply("add", SOME)
    sh("nft insert rule inet nsbridge forwarding quota over 5 mbytes accept")
    sh("nft add rule inet nsbridge allow tcp dport 22 drop comment mine")
    sh("nft add chain inet nsbridge mine && nft add set inet nsbridge more '{ type mark; }'")
    found, *_ = table.observe()
    assert found != SKELETON
    chains = {chain.name: chain for chain in found.chains}
    assert chains["forwarding"].rules[0] == Rule((Opaque("quota"), Accept()))
    assert chains["allow"].rules[-1].expressions[:2] == (Match("l4proto", "tcp"), Match("th dport", 22))
    assert "mine" in chains
    table.apply("change", [SKELETON])
    assert set(table.observe()) == {SKELETON, *SOME}
    assert sh("nft list table inet nsbridge").out == render(SKELETON, table.observe()[1:])  # type: ignore[arg-type]


def test_a_policy_a_dormant_table_and_a_missing_set_are_seen_and_put_right(table: Nft) -> None:
    table.apply("add", SOME)
    for harm in (
        "nft 'add chain inet nsbridge forwarding { policy drop; }'",
        "nft 'add table inet nsbridge { flags dormant; }'",
        "nft flush chain inet nsbridge guard",
    ):
        sh(harm)
        assert table.observe()[0] != SKELETON, harm
        table.apply("change", [SKELETON])
        assert set(table.observe()) == {SKELETON, *SOME}, harm
    sh("nft flush chain inet nsbridge forwarding; nft delete set inet nsbridge icc")
    table.apply("change", [SKELETON])
    assert set(table.observe()) == {SKELETON, *SOME} - {SOME[2]}
    clear()
    table.apply("change", [SKELETON])
    assert table.observe() == (SKELETON,)


def test_a_picture_is_never_torn(table: Nft) -> None:
    """While another process swaps one element for another, exactly one of them is there in every picture."""
    stop = threading.Event()
    pair = [one("publish4", "tcp", port, data=(ip_address("10.0.0.2"), port)) for port in (1, 2)]
    table.apply("add", [pair[0]])

    def swap() -> None:
        while not stop.is_set():
            for old, new in ((1, 2), (2, 1)):
                sh(
                    f"nft 'delete element inet nsbridge publish4 {{ tcp . {old} }};"
                    f" add element inet nsbridge publish4 {{ tcp . {new} : 10.0.0.2 . {new} }}'"
                )
                stop.wait(0.02)  # on a busy machine no picture would be whole otherwise, and observe() says so

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(60):
            seen = table.observe()
            assert len(seen) == 2
            assert seen[1] in pair
    finally:
        stop.set()
        thread.join()


def test_a_swap_typed_by_hand_is_the_swap(table: Nft) -> None:
    host, everywhere = ip_network("10.9.0.2/32"), ip_network("0.0.0.0/0")
    old = one("out4_1", host, everywhere, "any", Span(0, 65535), data=("goto deny",))
    new = (one("out4_1", host, ip_network("10.9.0.3/32"), "tcp", 80, data=("goto allow",)), old.replace(set="out4_2"))
    table.apply("add", [old])
    (command,) = commands("swap", new, firewall, (old,))
    sh(command.text)
    assert set(table.observe()[1:]) == set(new)
