"""docs/files.md tells every field, and what it shows is true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nsbridge import files
from nsbridge.errors import InvalidFile
from nsbridge.files.fields import IGNORED, UNSUPPORTED
from nsbridge.files.parts import short_ports
from nsbridge.files.reference import refreshed, tables
from nsbridge.files.shape import shapes

PAGE = Path(__file__).parents[2] / "docs" / "files.md"


def test_the_tables_are_up_to_date():
    page = PAGE.read_text()
    assert refreshed(page) == page, "run: python -m nsbridge.files.reference docs/files.md"


def test_every_table_and_every_field_is_on_the_page():
    page = PAGE.read_text()
    for name in tables():
        assert f"<!-- table: {name} -->" in page
    for shape in shapes():
        for field in shape.names():
            assert f"| `{field}` |" in page


def test_no_field_is_both_done_and_not_done():
    for shape in shapes():
        kinds = [set(shape.names()), set(UNSUPPORTED.get(shape.kind, ())), set(IGNORED.get(shape.kind, ()))]
        assert sum(map(len, kinds)) == len(set.union(*kinds)), shape.kind
    assert {*UNSUPPORTED, *IGNORED} <= {shape.kind for shape in shapes()}


@pytest.mark.parametrize(
    ("kind", "before"),
    [
        ("topology", ""),
        ("service", "services:\n a:\n  "),
        ("network of a service", "services:\n a:\n  networks:\n   default:\n    "),
        ("network", "networks:\n n:\n  "),
        ("ipam", "networks:\n n:\n  ipam:\n   "),
    ],
)
def test_each_unsupported_field_is_one_fault_with_its_hint(tmp_path, kind, before):
    for field, hint in UNSUPPORTED[kind].items():
        path = tmp_path / "f.yaml"
        path.write_text(f"{before}{field}: something\n")
        with pytest.raises(InvalidFile) as caught:
            files.read(path, environ={})
        (fault,) = caught.value.faults
        assert (fault.message, fault.hint) == ("is not supported by nsbridge", hint)
        path.write_text(f"{before}{field}: false\n")
        assert files.read(path, environ={}).warnings == ()


def test_each_ignored_field_is_one_warning(tmp_path):
    for field in IGNORED["service"]:
        path = tmp_path / "f.yaml"
        path.write_text(f"services:\n a:\n  {field}: something\n")
        (warning,) = files.read(path, environ={}).warnings
        assert f"f.yaml:3:3: services.a.{field}: is ignored (" in warning


def test_the_example_of_the_page_reads(tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "f.yaml").write_text(example)
    assert [service.name for service in files.read(tmp_path / "f.yaml", environ={}).services] == ["web", "shell"]


def test_the_ports_of_the_page_read():
    section = PAGE.read_text().split("### Ports")[1].split("The long form")[0]
    found = re.findall(r"^\| `\"?([^`\"]+)\"?` \|", section, re.MULTILINE)
    assert [len(short_ports(written)) for written in found] == [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]


def test_the_page_shows_messages_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("nsbridge.yaml").write_text(
        "services:\n\n  web:\n    image: nginx\n\n\n\n\n    networks:   [frnt]\nnetworks:\n  front:\n"
    )
    with pytest.raises(InvalidFile) as caught:
        files.read("nsbridge.yaml", environ={})
    page = PAGE.read_text()
    assert all(str(fault) in page for fault in caught.value.faults)
    assert len(caught.value.faults) == 2
