"""The other firewall: the same topologies, the same fate of every packet, with our rules in iptables.

Tests of other files are called with NSBRIDGE_FIREWALL set to each variant, a choice of them; with NSBRIDGE_TEST_ALL all
of these, and ``NSBRIDGE_FIREWALL=iptables-legacy make test-netns`` runs whole files so (but for what speaks nft(8)).
"""

from __future__ import annotations

import os
import re
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import rules
import test_concurrency
import test_firewalls
import test_policies
import test_publishing
import test_reach
import test_spoofing
from crash import child, picture, recover, root
from frames import EAR, town, up
from lab import HOST4, OUTSIDE, OUTSIDE4, FreshHost, Lab, sh
from test_policies import tell
from test_publishing import ours  # noqa: F401

from nsbridge.engine import doctor, endpoints, networks, topology
from nsbridge.engine.endpoints import Wish
from nsbridge.errors import InvalidIntent, Unsupported
from nsbridge.firewall.iptables_read import comment_in
from nsbridge.kernel import programs
from nsbridge.kernel.linux import LinuxKernel
from nsbridge.model.endpoint import PublishedPort
from nsbridge.model.names import MARK_BIT, TABLE
from nsbridge.model.network import Network, Subnet
from nsbridge.model.service import Attachment
from nsbridge.wiring import open_host

if TYPE_CHECKING:
    from collections.abc import Callable

    from commands import Command

    from nsbridge.engine.host import Host

pytestmark = [pytest.mark.netns, pytest.mark.proves("row 59")]

VARIANTS = NFT, LEGACY = "iptables-nft", "iptables-legacy"
ALL = bool(os.environ.get("NSBRIDGE_TEST_ALL"))


def on(*variants: str) -> Callable[[Any], Any]:
    """Say with which variants a test is run when not everything is."""

    def mark(function: Any) -> Any:
        function.variants = variants
        return function

    return mark


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    chosen = VARIANTS if ALL else getattr(metafunc.function, "variants", VARIANTS)
    metafunc.parametrize("firewall", chosen, indirect=True)


@pytest.fixture(autouse=True)
def firewall(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.setenv("NSBRIDGE_FIREWALL", request.param)
    monkeypatch.setenv("XTABLES_LOCKFILE", str(tmp_path / "lock"))
    return str(request.param)


# ------------------------------------------------------------------ the same fate


@pytest.mark.proves("S1", "S3", "S4", "S6", "S9", "S10", "S13")
@pytest.mark.parametrize("lab", test_reach.DROPPING if ALL else test_reach.DROPPING[-1:], indirect=True)
def test_every_path_and_no_attack(lab: Lab, tmp_path: Path) -> None:
    test_reach.test_every_path_under_every_forward_policy(lab, tmp_path)


@on(LEGACY)
def test_each_guard_matters(lab: Lab) -> None:
    test_reach.test_each_guard_matters(lab)


@on(NFT)
def test_each_translation_matters(lab: Lab) -> None:
    test_reach.test_each_translation_matters(lab)


@on(NFT)
def test_policies_of_files(lab: Lab, tmp_path: Path) -> None:
    test_policies.test_what_a_file_allows_passes_and_nothing_else(lab, tmp_path)


@on(LEGACY)
def test_policies_follow_services(lab: Lab, tmp_path: Path) -> None:
    test_policies.test_rules_follow_services_that_come_and_go(lab, tmp_path)


@on(LEGACY)
def test_an_internal_network(lab: Lab) -> None:
    test_policies.test_an_internal_networks_gateway_is_no_bridge_to_the_host(lab)


@on(NFT)
def test_gateway_modes(lab: Lab) -> None:
    test_policies.test_gateway_modes_and_trusted_interfaces(lab)


@on(LEGACY)
def test_shared_ports(lab: Lab, ours: Host) -> None:  # noqa: F811
    test_publishing.test_several_endpoints_share_a_port(lab, ours)


@on(NFT)
def test_ranges(lab: Lab, ours: Host) -> None:  # noqa: F811
    test_publishing.test_a_range_is_one_element_and_answers_everywhere(lab, ours)


@on(LEGACY)
def test_ports_on_interfaces(lab: Lab, ours: Host) -> None:  # noqa: F811
    test_publishing.test_on_an_interface_by_its_name(lab, ours)


@on(NFT)
def test_sources(lab: Lab, ours: Host) -> None:  # noqa: F811
    test_publishing.test_whose_address_leaves(lab, ours)


@pytest.mark.proves("S16")
@on(NFT)
@pytest.mark.parametrize("call", [0, 1])
def test_neighbours_that_may_not_talk(lab: Lab, call: int) -> None:
    """Frames stay with nf_tables; that the rules for packets mark what may pass is all they have in common."""
    test_spoofing.test_icc_false_keeps_neighbours_apart_but_not_from_published_ports(lab, call)


@pytest.mark.proves("S28", "S29", "row 54")
@pytest.mark.parametrize("names", test_firewalls.BOTH if ALL else test_firewalls.BOTH[:1])
def test_beside_others(lab: Lab, names: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They lose no rule, and what we close stays closed, though Docker puts its rules before all others in filter."""
    test_firewalls.test_they_were_there_before_us(lab, names, tmp_path, monkeypatch)


@pytest.mark.proves("S28", "row 54")
@on(NFT)
@pytest.mark.parametrize("names", test_firewalls.BOTH[:1])
def test_before_others(lab: Lab, names: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test_firewalls.test_they_come_after_us(lab, names, tmp_path, monkeypatch)


@pytest.mark.proves("S29")
@on(NFT)
def test_who_accepts_everything_after_us_opens_nothing(lab: Lab) -> None:
    """In table filter a rule above ours would: so ours stand in mangle."""
    ports = {"web": (PublishedPort(EAR, 9100, "udp"),)}
    with up(town("db", "web", ports=ports)):
        sh(f"{rules.backend()} -I FORWARD -j ACCEPT")
        sh(f"ip route replace 10.7.0.0/24 via {HOST4}", lab.ns(OUTSIDE))
        assert tell(lab, OUTSIDE, HOST4, "web", 9100)
        assert not tell(lab, OUTSIDE, "10.7.0.11", "web")


if ALL:

    @pytest.mark.proves("row 88")
    def test_many_at_once(host: FreshHost) -> None:
        test_concurrency.test_forty_connects_then_forty_changes(host)

    @pytest.mark.proves("row 88")
    def test_a_network_goes_while_others_come(host: FreshHost) -> None:
        test_concurrency.test_a_network_goes_while_others_come(host)


# ------------------------------------------------------------------ what it looks like


def test_nothing_of_others_changes_and_nothing_of_ours_stays(lab: Lab, firewall: str) -> None:
    for one in ("iptables-nft", "iptables-legacy"):
        sh(f"{one} -t mangle -A FORWARD -p tcp --syn -j TCPMSS --clamp-mss-to-pmtu; {one} -A INPUT -i eth9 -j DROP")
        sh(f"{one} -N theirs; {one} -A theirs -m comment --comment 'a \"quoted\" word' -j RETURN")
    before = sh("iptables-nft-save; iptables-legacy-save").out
    mine = [row for row in before.splitlines() if row.startswith(("-A", ":theirs"))]
    with up(town("db", "web")):
        assert rules.theirs().count("TCPMSS") == 2
        saved = sh(f"{firewall}-save").out
        (jump,) = [row for row in saved.splitlines() if row.endswith("-j NSB-forwarding")]
        assert saved.index(jump) < saved.index("TCPMSS")
        assert all(len(row.split()[1]) <= 28 for row in saved.splitlines() if row.startswith("-A"))
    after = sh("iptables-nft-save; iptables-legacy-save").out
    assert "NSB-" not in after
    assert "nsbridge" not in after
    assert [row for row in after.splitlines() if row.startswith(("-A", ":theirs"))] == mine


@pytest.mark.proves("row 57", "S28")
@on(LEGACY)
def test_the_administrators_rules_survive_us(lab: Lab, firewall: str) -> None:
    one = town("db", "web", ports={"web": (PublishedPort(EAR, 9100, "udp"),)})

    def mine() -> list[str]:
        return [row for row in sh(f"{firewall}-save -t mangle").out.splitlines() if row.startswith("-A NSB-admin")]

    with up(one) as host:
        assert tell(lab, OUTSIDE, HOST4, "web", 9100)
        sh(f"{firewall} -t mangle -A NSB-admin -s {OUTSIDE4} -m comment --comment mine -j DROP")
        written = mine()
        assert not tell(lab, OUTSIDE, HOST4, "web", 9100)
        assert not [finding for finding in doctor.examine(host) if finding.level == "error"]
        rules.remove("the way out")
        assert [finding for finding in doctor.examine(host) if finding.level == "error"]
        assert topology.up(host, one).changes[0].kind == "host"
        assert mine() == written
        topology.down(host, "town", grace_s=0.2)
        assert mine() == written
        assert not host.store.firewall()
        topology.up(host, one)
        assert not tell(lab, OUTSIDE, HOST4, "web", 9100)
        sh(f"{firewall} -t mangle -F NSB-admin")
        assert tell(lab, OUTSIDE, HOST4, "web", 9100)
    assert "NSB-" not in sh(f"{firewall}-save").out


@on(NFT)
def test_a_flushed_table_is_put_back(lab: Lab, firewall: str) -> None:
    """As firewalld or a careless script does: one table of iptables, with all chains in it."""
    one = town("db", "web", ports={"web": (PublishedPort(EAR, 9100, "udp"),)})
    with up(one) as host:
        whole = sorted(rules.listed().splitlines())
        for table in ("mangle", "nat"):
            sh(f"{firewall} -t {table} -F")
            assert topology.up(host, one).changes[0].kind == "host"
            assert sorted(rules.listed().splitlines()) == whole
            assert tell(lab, OUTSIDE, HOST4, "web", 9100)


# ------------------------------------------------------------------ which one


def test_it_is_chosen_once_and_remembered(host: FreshHost, nb: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = rules.backend()
    monkeypatch.delenv("NSBRIDGE_FIREWALL")
    assert "there is no firewall 'pf'" in nb.fails(2, "network", "create", "--firewall", "pf", "one")
    nb("network", "create", "--firewall", chosen, "one")
    assert (root() / "firewall").read_text() == f"{chosen}\n"
    assert "table inet nsbridge" not in sh("nft list tables").out
    nb("network", "create", "two")
    assert "[bridges] nsb-two" in sh(f"{chosen}-save").out
    said = nb.fails(2, "network", "create", "--firewall", "nftables", "three")
    assert f"(one, two) are in {chosen}" in said
    nb("network", "create", "--firewall", "iptables", "three")
    nb("network", "rm", "one", "two", "three")
    assert not (root() / "firewall").exists()
    nb("network", "create", "four")
    assert "table inet nsbridge" in sh("nft list tables").out
    with pytest.raises(InvalidIntent):
        open_host(firewall=chosen)
    nb("network", "rm", "four")


@on(LEGACY)
def test_a_missing_program_is_named_before_anything_changes(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, firewall: str
) -> None:
    before = lab.snapshot()
    monkeypatch.setattr(programs, "find", lambda name: None)
    with pytest.raises(Unsupported, match="isn't installed") as caught:
        networks.create(open_host(), Network("one"))
    assert caught.value.fix == "install the package iptables"
    monkeypatch.undo()
    assert test_reach.without_store(lab.snapshot()) == test_reach.without_store(before)
    chosen, *before = LinuxKernel().choose_firewall("iptables").splitlines()
    assert chosen == "iptables-nft"  # whichever the host's own command is
    assert "ip nat" not in before


@pytest.mark.proves("S28")
@on("iptables-nft")
def test_tables_that_came_with_us_go_with_us(lab: Lab, nb: Command, firewall: str) -> None:
    sh("iptables-nft -P FORWARD DROP; ip6tables-nft -t raw -S")
    before = sh("nft list ruleset").out
    nb("network", "create", "--firewall", "iptables-nft", "--ipv6", "one")
    assert "table ip mangle" in sh("nft list tables").out
    nb("network", "rm", "one")
    assert sh("nft list ruleset").out == before
    nb("network", "create", "--firewall", "iptables-nft", "one")
    sh("iptables-nft -t mangle -A OUTPUT -j MARK --set-mark 7")
    nb("network", "rm", "one")
    assert sh("nft list tables").out.split() == [*"table ip filter".split(), *"table ip mangle".split()]
    assert "mark set 0x7" in sh("nft list chain ip mangle OUTPUT").out


# ------------------------------------------------------------------ killed

WEB = Network("web", (Subnet(ip_network("10.9.0.0/24")), Subnet(ip_network("fd09::/64"))), bridge="web")
FIXED = Attachment("web", ip_address("10.9.0.7"), ip_address("fd09::7"))
PORTS = (PublishedPort(80, 8080), PublishedPort(90, 9090, count=4), PublishedPort(83, 8083, share=True))


def create(host: Host) -> object:
    return networks.create(host, WEB)


def remove(host: Host) -> object:
    return networks.remove(host, "web")


def connect(host: Host) -> object:
    return endpoints.connect(host, Wish("guest", "/run/netns/guest", FIXED, ports=PORTS))


def disconnect(host: Host) -> object:
    return endpoints.disconnect(host, "web", "guest")


_OF_NFT = re.compile(
    r"^(?:table ip6? |chain |type |\}|# |(?:counter|limit|jump|goto|[io]ifname|meta|mark|ip6?|ct|xt|fib|tcp|udp) )",
    re.M,
)


def seen() -> str:
    """All there is; rules as iptables lists them, in no order: an element's stand where they came.

    Without routes that the kernel makes by itself, for IPv6 a moment later.
    """
    rows = [
        row
        for row in picture("guest").splitlines()
        if row and not _OF_NFT.match(row.strip()) and " proto kernel " not in row
    ]
    return "\n".join([*rows, *sorted(rules.listed().splitlines())])


@pytest.mark.parametrize(
    ("work", "back", "before"),
    [(create, remove, ()), (connect, disconnect, (create,)), (disconnect, connect, (create, connect))],
    ids=["network create", "connect", "disconnect"],
)
@on(LEGACY)
def test_killed_around_every_program(host: FreshHost, work: Any, back: Any, before: tuple[Any, ...]) -> None:
    """Killed before or after runs of iptables (with NSBRIDGE_TEST_ALL: at every effect): the next command undoes it.

    Or finishes it, if it took something away; and the same command works again.
    """
    host.netns("guest")
    for one in before:
        child(one)
    start = seen()
    effects = child(work).seen
    end = seen()
    child(back)
    assert seen() == start
    spawns = [at for at, what in enumerate(effects) if what.startswith("posix_spawn")]
    assert len(spawns) >= 4
    chosen = range(len(effects)) if ALL else [at + number % 2 for number, at in enumerate(spawns) if number % 4 == 1]
    for at in chosen:
        assert child(work, at).killed or at > len(spawns)  # near its end it may take one effect less
        recover()
        found = seen()
        assert found in (start, end), f"killed at {at}: {effects[at]}\n{found}"
        if found == start:
            assert not child(work).error
            assert seen() == end
        child(back)
        assert seen() == start


# ------------------------------------------------------------------ each rule says what it is of


@on(LEGACY)
def test_every_rule_has_its_reason_or_its_element(lab: Lab, firewall: str) -> None:
    with up(town("db", "web", ports={"web": (PublishedPort(EAR, 9100, "udp"),)})) as host:
        rows = [row for row in sh(f"{firewall}-save").out.splitlines() if row.startswith("-A NSB-publish_in")]
        assert any("[publish4] udp 9100 -> 10.7.0.11 9000; ports published on" in comment_in(row) for row in rows)
        marks = [row for row in rules.listed().splitlines() if "-A NSB-allow " in row and "-j MARK" in row]
        assert len(marks) == 2
        assert all(f"{MARK_BIT:#x}/{MARK_BIT:#x}" in row for row in marks)
        held = host.kernel.elements(TABLE, "publish4")
        assert [(one.key, one.data) for one in held] == [(("udp", 9100), (ip_address("10.7.0.11"), EAR))]
