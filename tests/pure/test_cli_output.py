"""What the command line writes: columns, words for things, errors with their exit status."""

from __future__ import annotations

import errno
import io
import os
import sys
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsbridge.errors import InvalidFile, KernelError, NotFound, PortTaken
from nsbridge.firewall.ruleset import Element, Table
from nsbridge.frontends.cli import output, trouble, words
from nsbridge.model.endpoint import Endpoint, PublishedPort
from nsbridge.state.things import Address, ForeignAccept, Link, Netns, Route, Sysctl

CELLS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Z")), max_size=12)


@given(st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(CELLS, min_size=n, max_size=n), min_size=1, max_size=6)))
def test_columns_stand_below_one_another(rows: list[list[str]]) -> None:
    lines = output.columns(rows[0], rows[1:]).split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(rows)
    at = 0
    for place in range(len(rows[0])):
        width = max(len(row[place]) for row in rows)
        for row, line in zip(rows, lines, strict=True):
            assert line[at : at + width] == row[place].ljust(width)[: len(line[at : at + width])]
            assert line == line.rstrip()
        at += width + 2


def test_columns() -> None:
    assert output.columns(("NAME", "STATE"), [("web", "running 3m"), ("database", "")]) == (
        "NAME      STATE\nweb       running 3m\ndatabase\n"
    )


def test_tables_are_plain_where_no_terminal_is(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("A", "B"), [("1", "2")])
    assert capsys.readouterr().out == "A  B\n1  2\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "colours"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colours_only_where_they_are_wanted(
    environment: dict[str, str], colours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert output.paint(Terminal(), output.RED, "x") == (f"{output.RED}x{output.RESET}" if colours else "x")
    assert output.paint(io.StringIO(), output.RED, "x") == "x"


def test_a_terminal_gets_a_table_of_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    output.table(("NAME", "COMMAND"), [("web", "x" * 100), ("[red]", "")], shrinks="COMMAND")
    lines = terminal.getvalue().splitlines()
    assert len(lines) == 3  # cut short, not folded
    assert "…" in lines[1]
    assert "[red]" in lines[2]


def test_only_a_terminal_is_too_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    wide, fits = [("web", "x" * 76)], [("web", "x" * 75)]
    assert output.too_narrow(("A", "B"), wide) == 0
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert (output.too_narrow(("A", "B"), wide), output.too_narrow(("A", "B"), fits)) == (80, 0)


def test_ages() -> None:
    told = [words.ago(seconds) for seconds in (-1, 0, 59.9, 60, 3599, 3600, 86399, 86400, 864000)]
    assert told == ["0s", "0s", "59s", "1m", "59m", "1h", "23h", "1d", "10d"]


def endpoint(*addresses: str, ports: tuple[PublishedPort, ...] = ()) -> Endpoint:
    return Endpoint("lab", "web", "/run/netns/web", addresses=tuple(map(ip_interface, addresses)), ports=ports)


def test_where_a_port_is_published() -> None:
    port = PublishedPort(80, 8088)
    assert words.host_places(port, endpoint("10.0.0.2/24")) == ("0.0.0.0:8088",)
    assert words.host_places(port, endpoint("10.0.0.2/24", "fd00::2/64")) == ("0.0.0.0:8088", "[::]:8088")
    bound = port.replace(host_ip=ip_address("::1"))
    assert words.host_places(bound, endpoint("fd00::2/64")) == ("[::1]:8088",)
    both = endpoint("10.0.0.2/24", "fd00::2/64", ports=(port, PublishedPort(53, 53, "udp", ip_address("127.0.0.1"))))
    assert words.ports_text((both,)) == "0.0.0.0:8088->80/tcp, [::]:8088->80/tcp, 127.0.0.1:53->53/udp"
    assert words.networks_text((both, both.replace(network="db", addresses=()))) == "lab 10.0.0.2 fd00::2, db"


def test_things_in_words() -> None:
    space = "/run/netns/web"
    told = {
        Netns(space): "namespace web",
        Link(
            "", "nsb-lab", "bridge", mac="02:00:00:00:00:01", mtu=1500
        ): "bridge nsb-lab mac 02:00:00:00:00:01 mtu 1500",
        Link("", "nsb1", "veth", master="nsb-lab", peer_netns=space, peer_name="eth0"): (
            "veth nsb1 (other end: eth0 in web) on bridge nsb-lab"
        ),
        Address(space, "eth0", ip_interface("10.0.0.2/24")): "address 10.0.0.2/24 dev eth0 in web",
        Route(space, ip_network("0.0.0.0/0"), "eth0", via=ip_address("10.0.0.1")): (
            "route default via 10.0.0.1 dev eth0 in web"
        ),
        Route("", ip_network("10.0.0.0/24"), "nsb-lab"): "route 10.0.0.0/24 dev nsb-lab",
        Sysctl("", "net/ipv4/ip_forward", "1", was="0"): "setting net.ipv4.ip_forward=1 (was 0)",
        ForeignAccept("iptables-nft"): "rule in chain iptables-nft FORWARD: accept what carries our mark",
        ForeignAccept("nft", "inet", "theirs", "fwd"): ("rule in chain inet theirs fwd: accept what carries our mark"),
        Table("inet", "nsbridge", (), ()): "table inet nsbridge (0 sets, 0 chains)",
        Element(("inet", "nsbridge"), "publish4", ("tcp", 8088), (ip_address("10.0.0.2"), 80)): (
            "element { tcp . 8088 : 10.0.0.2 . 80 } of publish4"
        ),
        Element(("inet", "nsbridge"), "bridges", ("nsb-lab",)): "element { nsb-lab } of bridges",
    }
    assert [words.thing_text(thing) for thing in told] == list(told.values())


# errors


def told(err: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = trouble.report(err)
    shown = capsys.readouterr()
    assert shown.out == ""
    return code, shown.err


def test_an_error_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(NotFound("there is no x", fix="make one"), capsys) == (4, "nsbridge: there is no x\n  fix: make one\n")
    assert told(PortTaken("taken"), capsys) == (5, "nsbridge: taken\n")


def test_every_fault_of_a_file_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    err = InvalidFile("x.yaml has 2 faults:\nx.yaml:1:1: a\nx.yaml:2:3: b")
    assert told(err, capsys) == (2, "nsbridge: x.yaml has 2 faults:\n  x.yaml:1:1: a\n  x.yaml:2:3: b\n")


@pytest.mark.parametrize(
    "err",
    [
        KernelError("the kernel refused", errno=errno.EPERM),
        PermissionError(errno.EACCES, "Permission denied", "/var/lib/nsbridge"),
        PermissionError(errno.EPERM, "Operation not permitted"),
    ],
)
@pytest.mark.parametrize("uid", [0, 1000])
def test_missing_rights(
    err: Exception, uid: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    code, text = told(err, capsys)
    assert code == 77
    assert "CAP_NET_ADMIN" in text
    assert "`nsbridge demo`" in text
    assert ("sudo" in text) == (uid != 0)


def test_the_ends_of_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(KeyboardInterrupt(), capsys) == (130, "nsbridge: interrupted\n")
    assert told(trouble.Ended(15), capsys) == (143, "nsbridge: ended by signal 15\n")
    assert told(BrokenPipeError(), capsys) == (141, "")
    assert told(trouble.Failed(6), capsys) == (6, "")
    assert told(OSError(errno.ENOSPC, "No space left on device", "/run/x"), capsys)[1].startswith(
        "nsbridge: /run/x: No space left on device\n  fix: make room"
    )


def test_what_nobody_foresaw_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        raise ValueError("odd")
    except ValueError as err:
        code, text = told(err, capsys)
        assert code == 1
        assert text.startswith(f"nsbridge: unexpected ValueError: odd ({__name__}:")
        assert "please report it" in text
        assert "Traceback" not in text
        trouble.report(err, debug=True)
    assert "Traceback" in capsys.readouterr().err


def test_one_failure_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    done = []

    def do(name: str) -> None:
        if name in "bc":
            raise NotFound(f"no {name}") if name == "b" else PortTaken("taken")
        done.append(name)

    with pytest.raises(trouble.Failed) as caught:
        trouble.each("abcd", do, finally_=lambda: done.append("end"))
    assert done == ["a", "d", "end"]
    assert caught.value.code == 4
    assert capsys.readouterr().err == "nsbridge: no b\nnsbridge: taken\n"
