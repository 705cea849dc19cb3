"""Rules of a file: how they are read, which meet, and where they stand."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from nsbridge import files
from nsbridge.desired.policy import levels, policy_elements
from nsbridge.errors import InvalidFile

if TYPE_CHECKING:
    from pathlib import Path

    from nsbridge.model.policy import Party, PolicyRule

HEAD = "name: p\nservices: { web: { networks: [front, back] }, db: { networks: [back] } }\n"
HEAD += "networks: { front: {}, back: {} }\npolicy:\n"


def read(folder: Path, *lines: str) -> tuple[PolicyRule, ...]:
    file = folder / "nsbridge.yaml"
    file.write_text(HEAD + "".join(f"  - {{ {line} }}\n" for line in lines))
    return files.read(file).policy


def test_what_is_written_is_what_is_meant(tmp_path: Path) -> None:
    rules = read(
        tmp_path,
        "allow: 'web -> db:5432/tcp'",
        "deny: 'web -> 10.0.0.0/8:80,8000-8010', log: true",
        "reject: 'back -> [2001:db8::/32]:443'",
        "deny: '* -> *'",
        "deny: 'world -> web/icmp'",
    )
    assert [str(rule) for rule in rules] == [
        "allow: web -> db:5432/tcp",
        "deny: web -> 10.0.0.0/8:80,8000-8010 (logged)",
        "reject: p_back -> [2001:db8::/32]:443",
        "deny: p_front -> *",
        "deny: p_back -> *",
        "deny: * -> web/icmp",
    ]
    assert [rule.way for rule in rules] == ["out"] * 5 + ["in"]
    assert levels(rules) == (1, 1, 1, 2, 2, 1)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("allow: 'web db'", "5:14: policy[0].allow: is no rule: 'web db' (write SOURCE -> TARGET"),
        ("allow: 'wbe -> db'", "policy[0].allow: there is no service or network 'wbe' (did you mean 'web'?)"),
        ("allow: 'web -> db:http'", "policy[0].allow: has ports that can't be read: 'http' (write them like 80"),
        ("allow: 'web -> db:90-80'", "policy[0].allow: ports are 90-80"),
        ("allow: 'web -> db/ipip'", "policy[0].allow: has a protocol 'ipip'"),
        ("allow: 'web -> db:1/icmp'", "policy[0].allow: ICMP has no ports"),
        ("allow: 'web -> 10.0.0.1/8'", "policy[0].allow: has no address or subnet: '10.0.0.1/8'"),
        ("allow: 'web -> fd00::/8'", "policy[0].allow: has a target that can't be read: 'fd00::/8'"),
        ("allow: '10.0.0.0/8 -> 11.0.0.0/8'", "policy[0].allow: neither side is a service or network of the file"),
        ("allow: 'web -> db', deny: 'web -> db'", "policy[0]: has allow and deny (write one of them a rule)"),
        ("log: true", "policy[0]: says neither allow, deny nor reject"),
    ],
)
def test_faults_stand_at_their_rule(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(InvalidFile) as found:
        read(tmp_path, line)
    assert said in str(found.value)


def test_more_rules_that_overlap_than_there_are_levels(tmp_path: Path) -> None:
    lines = [f"allow: 'web -> 10.0.0.0/{8 + number}'" for number in range(6)]
    with pytest.raises(InvalidFile, match=r"policy\[5\].allow: rule .* overlaps 5 others"):
        read(tmp_path, *lines)


def test_within_a_level_nothing_overlaps(tmp_path: Path) -> None:
    rules = read(tmp_path, "allow: 'web -> db:80,443'", "allow: 'db -> web'", "deny: 'web -> *'", "reject: '* -> *'")
    where = {"web": "10.1.0.2/32", "db": "10.1.0.3/32", "p_front": "10.2.0.0/24", "p_back": "10.1.0.0/24"}

    def resolve(party: Party) -> tuple[object, ...]:
        return party.nets or (ip_network(where[party.name]),)

    found = policy_elements(rules, resolve)
    for one in found:
        for other in found:
            if one is not other and one.set == other.set:
                same = one.key[0].overlaps(other.key[0]) and one.key[1].overlaps(other.key[1])
                assert not (same and one.key[2] == other.key[2] and str(one.key[3]) == str(other.key[3]))
    assert {one.data[0] for one in found} == {"goto allow", "goto deny", "goto refuse"}
