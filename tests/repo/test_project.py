"""The repository around the code: commands, pages, version, and what has no place in it."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest
from source import ROOT, tracked

import nsbridge

HERE = "tests/repo/test_project.py"


def read(path: str) -> str:
    return (ROOT / path).read_text()


def readme_commands() -> list[str]:
    """What .ci/run counts: lines that begin with ``make`` inside the README's ``sh`` blocks."""
    commands, on = [], False
    for line in read("README.md").splitlines():
        if line.startswith("```"):
            on = line == "```sh"
        elif on and line.startswith("make "):
            commands.append(line)
    return commands


def found(pattern: str, *, spared: tuple[str, ...] = ()) -> list[str]:
    """Places in the repository's text files that match."""
    places = []
    for path in tracked():
        name = path.relative_to(ROOT).as_posix()
        if name not in (HERE, *spared):
            text = path.read_text(errors="replace")
            places += [f"{name}:{text[: m.start()].count(chr(10)) + 1}: {m[0]}" for m in re.finditer(pattern, text)]
    return places


def test_the_readme_begins_with_the_two_commands() -> None:
    assert readme_commands()[:2] == ["make demo", "make test"]


def test_every_make_target_that_pages_name_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.M))
    assert {"demo", "test", "check", "bench", "docs", "clean", "help"} <= targets
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for name in re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", page.read_text(), re.M):
            assert "".join(name) in targets, f"{page.name} names `make {''.join(name)}`"


def test_make_alone_lists_the_targets() -> None:
    shown = subprocess.run(["make", "-C", str(ROOT), "-s"], capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "check", "bench", "docs"):
        assert f"make {target}" in shown


def test_continuous_integration_reads_the_readme() -> None:
    script = read(".ci/run")
    assert "README.md" in script
    assert not re.search(r"^\s*make ", script, re.M), "a command of its own would drift from the README"


@pytest.mark.parametrize("script", [".ci/run", "tools/bootstrap", "tools/oracles"])
def test_scripts_can_be_run(script: str) -> None:
    assert (ROOT / script).stat().st_mode & 0o111
    shell = "bash" if script == ".ci/run" else "sh"
    subprocess.run([shell, "-n", str(ROOT / script)], check=True)


def test_the_version_stands_in_one_place() -> None:
    project = tomllib.loads(read("pyproject.toml"))
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "nsbridge.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", nsbridge.__version__)


def test_the_changelog_knows_the_version() -> None:
    headings = re.findall(r"^## (.*)", read("CHANGELOG.md"), re.M)
    assert headings
    assert "Unreleased" in headings[0] or nsbridge.__version__ in headings[0]
    assert nsbridge.__version__ in read("CHANGELOG.md")


def test_every_decision_is_listed() -> None:
    pages = sorted(path.name for path in (ROOT / "docs/adr").glob("[0-9]*.md"))
    assert [name[:4] for name in pages] == [f"{number:04}" for number in range(1, len(pages) + 1)]
    listed = re.findall(r"^\| \[\d{4}\]\(([^)]+)\)", read("docs/adr/README.md"), re.M)
    assert listed == pages
    for name in pages:
        title = read(f"docs/adr/{name}").splitlines()[0]
        assert title.startswith(f"# {name[:4]} "), f"{name} begins with {title!r}"


def test_links_between_pages_lead_somewhere() -> None:
    dead = []
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                dead.append(f"{page.relative_to(ROOT)}: {target}")
    assert not dead, "\n".join(dead)


def test_nothing_knows_the_machine_it_was_written_on() -> None:
    assert not found(r"(?<![\w.}<>-])/(?:work/|root\b)")


def test_only_the_public_index_is_named() -> None:
    registries = (
        r"pythonhosted\.org|pypi\.org|npmjs|deb\.debian\.org|ghcr\.io|quay\.io|registry-1\.docker|proxy\.golang"
    )
    places = found(registries)
    assert [place.partition(":")[0] for place in places] == ["tools/bootstrap.py"], places
    assert "https://pypi.org/simple" in read("tools/bootstrap.py")


def test_nothing_is_left_for_later() -> None:
    assert not found(r"\b(TODO|FIXME|XXX)\b")


def test_the_licence() -> None:
    assert read("LICENSE").startswith("MIT License")
    assert "nsbridge contributors" in read("LICENSE")


def test_the_example_of_the_demo_is_the_package_data() -> None:
    inside = ROOT / "src/nsbridge/examples/docker-bridge.yaml"
    assert read("examples/docker-bridge.yaml") == inside.read_text()
    shipped = tomllib.loads(read("pyproject.toml"))["tool"]["setuptools"]["package-data"]["nsbridge"]
    assert {"examples/*.yaml", "lessons/*.md"} <= set(shipped)
