"""`nsbridge rules`: ours with reasons and counters that are the kernel's, others' apart, for all or for one thing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from lab import sh

if TYPE_CHECKING:
    from commands import Command
    from lab import Lab

pytestmark = pytest.mark.netns


def bring_up(nb: Command, lab: Lab) -> None:
    lab.ns("lab1")
    lab.ns("lab2")
    nb("network", "create", "--subnet", "10.20.0.0/24", "web")
    nb("network", "create", "--subnet", "10.21.0.0/24", "--internal", "db")
    nb("connect", "web", "lab1", "-p", "8080:80")
    nb("connect", "db", "lab2")


def take_down(nb: Command) -> None:
    nb("disconnect", "web", "lab1")
    nb("disconnect", "db", "lab2")
    nb("network", "rm", "web", "db")


def listed(family: str, name: str) -> list[dict[str, Any]]:
    """The rules of a table as nft has them."""
    found = json.loads(sh(f"nft -j list table {family} {name}").out)["nftables"]
    return [one["rule"] for one in found if "rule" in one]


@pytest.mark.parametrize("lab", ["iptables-nft"], indirect=True)
def test_every_rule_of_ours_with_the_kernels_counters(nb: Command, lab: Lab) -> None:
    bring_up(nb, lab)
    lab.sh("ping -c 3 -i 0.01 -W 0.1 10.21.0.2", "lab1", check=False)  # another network: dropped, and counted
    told = [one for one in nb.json("rules", "--json") if one["kind"] == "rule" and one["owner"] == "nsbridge"]
    theirs = [one for family in ("inet", "bridge") for one in listed(family, "nsbridge")]
    assert len(told) == len(theirs) > 70
    counted = {
        (one["family"], one["chain"], one.get("comment", "")): part["counter"]["packets"]
        for one in theirs
        for part in one["expr"]
        if isinstance(part, dict) and part.get("counter")
    }
    assert {
        (one["family"], one["chain"], one["why"]): one["packets"] for one in told if one["packets"] is not None
    } == counted
    assert counted["inet", "forwarding", "S10: no way into an internal network"] == 3
    assert all(
        one["why"] for one in told if one["chain"] not in ("deny", "deny_log", "refuse", "refuse_log", "allow_log")
    )
    typed = [one["command"] for one in told]
    take_down(nb)
    # What made them makes them: in an empty table with the same sets and chains.
    assert any(command.startswith("nft add rule inet nsbridge forwarding ") for command in typed)


@pytest.mark.parametrize("lab", ["iptables-nft"], indirect=True)
def test_what_is_about_one_thing_and_what_others_add(nb: Command, lab: Lab) -> None:
    sh("nft add table inet theirs; nft 'add chain inet theirs early { type filter hook forward priority -20; }'")
    sh("nft add rule inet theirs early ip saddr 203.0.113.9 counter drop comment '\"a person\"'")
    bring_up(nb, lab)
    everything, web, db = (nb.json("rules", "--json", *subject) for subject in ((), ("web",), ("lab2",)))
    assert {one["set"] for one in web if one["kind"] == "element"} >= {"bridges", "publish4", "hidden4", "macs"}
    assert not any("10.21." in one["text"] for one in web)
    assert {one["set"] for one in db if one["kind"] == "element"} >= {"internal", "hosts4"}
    assert [one["text"] for one in db if one["chain"] == "publish_in"] == []
    assert "iifname @internal iifname . oifname != @icc counter drop" in [one["text"] for one in db]
    foreign = [(one["table"], one["chain"]) for one in everything if one["owner"] != "nsbridge"]
    assert foreign[:2] == [("theirs", "early"), ("filter", "FORWARD")], "in the order in which a packet meets them"
    port = nb("rules", "8080").out
    assert "tcp . 8080 : 10.20.0.2 . 80  # 0.0.0.0:8080->80/tcp of 'lab1'" in port
    assert "gateway" not in port
    assert (
        "nft add element inet nsbridge publish4 '{ tcp . 8080 : 10.20.0.2 . 80 }'"
        in nb("rules", "--commands", "8080").out
    )
    assert "inet nsbridge forwarding: forward, priority -10" in nb("rules", "--chain").out
    assert "no network or endpoint 'nobody'" in nb.fails(4, "rules", "nobody")
    assert "port 81/tcp isn't published" in nb.fails(4, "rules", "81")
    take_down(nb)
    sh("nft delete table inet theirs")


def test_a_host_without_any(nb: Command, lab: Lab) -> None:
    assert nb.json("rules", "--json") == []
