"""The table of verbs: every verb has help, examples that parse, and a place in every shell's completions."""

from __future__ import annotations

import importlib
import inspect
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from nsbridge.frontends.cli import main as cli
from nsbridge.frontends.cli.parser import Usage, group_help, help_text, overview, parser_for
from nsbridge.frontends.cli.table import find, verbs
from nsbridge.frontends.cli.verb import GROUPS, Verb

SRC = Path(cli.__file__).parents[3]


def named(verb: Verb) -> str:
    return verb.name


def run(*argv: str, python: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *python, "-m", "nsbridge", *argv]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(SRC)}, timeout=30
    )


@pytest.mark.parametrize("verb", verbs(), ids=named)
def test_every_verb_has_help_with_an_example(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    if verb.name != "demo":
        assert cli.main([*verb.name.split(), "--help"]) == 0
        shown = capsys.readouterr()
        assert shown.out.startswith(f"usage: nsbridge {verb.name}")
        assert verb.summary in shown.out
        assert not shown.err
    assert cli.main(["help", *verb.name.split()]) == 0
    helped = capsys.readouterr().out
    assert verb.examples
    for example in verb.examples:
        assert f"  nsbridge {example}" in helped
    for name, meaning in verb.fields:
        assert name in helped
        assert meaning in helped


@pytest.mark.parametrize("verb", verbs(), ids=named)
def test_examples_parse(verb: Verb) -> None:
    for example in verb.examples:
        words = shlex.split(example.partition(" > ")[0].partition(" && ")[0])
        found = find(words)
        assert found is not None
        assert found[0].name == verb.name
        parser_for(verb).parse_args(words[found[1] :])


@pytest.mark.parametrize("verb", verbs(), ids=named)
def test_a_verb_leads_to_a_function_that_takes_what_it_is_given(verb: Verb) -> None:
    module, _, name = verb.run.partition(":")
    if module == "demo" and not (Path(cli.__file__).parent / "demo.py").exists():
        pytest.skip("the demo is a page of its own")
    function = getattr(importlib.import_module(f"nsbridge.frontends.cli.{module}"), name)
    assert len(inspect.signature(function).parameters) >= (2 if verb.host else 1)
    assert verb.group in GROUPS


@pytest.mark.parametrize("verb", verbs(), ids=named)
def test_json_is_documented_where_it_is_offered(verb: Verb) -> None:
    if any("--json" in one.flags for one in verb.arguments) and verb.name not in ("gc", "mend"):
        assert verb.fields


def test_the_overview_has_every_verb_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == cli.main(["--help"]) == cli.main(["help"]) == 0
    out = capsys.readouterr().out
    assert out == overview() * 3
    for verb in verbs():
        assert f"  {verb.name:16}  {verb.summary}\n" in out
    assert [line[:-1] for line in overview().splitlines() if line.rstrip(":") in GROUPS] == list(GROUPS)


def test_a_group_of_verbs_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["network"], ["network", "--help"], ["help", "network"]):
        assert cli.main(argv) == 0
        assert capsys.readouterr().out == group_help("network")
    assert "network create" in group_help("network")
    assert group_help("nope") == ""


def test_no_two_verbs_share_a_name() -> None:
    every = [name for verb in verbs() for name in (verb.name, *verb.aliases)]
    assert len(every) == len(set(every))


@pytest.mark.parametrize(
    ("argv", "message", "fix"),
    [
        (["pss"], "there is no verb 'pss'", "did you mean `nsbridge ps`?"),
        (["network", "crate"], "there is no verb 'network crate'", "did you mean `nsbridge network create`?"),
        (["network", "zzz"], "there is no verb 'network zzz'", "see `nsbridge --help`"),
        (["zzz"], "there is no verb 'zzz'", "see `nsbridge --help`"),
        (["help", "runn"], "there is no verb 'runn'", "did you mean `nsbridge run`?"),
        (["ps", "--al"], "unrecognized arguments: --al", "see `nsbridge ps --help`"),
        (["stop"], "the following arguments are required: NAME", "see `nsbridge stop --help`"),
        (
            ["stop", "-t", "soon", "x"],
            "argument -t/--timeout/--time: invalid float value: 'soon'",
            "see `nsbridge stop",
        ),
        (["-f", "x.yaml", "ps"], "`nsbridge ps` takes no --file=x.yaml", "see `nsbridge ps --help`"),
    ],
)
def test_what_cannot_be_understood(argv: list[str], message: str, fix: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    first, second = shown.err.splitlines()
    assert first == f"nsbridge: {message}"
    assert second.startswith(f"  fix: {fix}")


def test_unknown_verbs_are_usage_errors() -> None:
    with pytest.raises(Usage):
        help_text(["network", "nope"])


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_completions_know_every_verb(shell: str) -> None:
    shtab = pytest.importorskip("shtab")
    done = run("completion", shell)
    if shell not in shtab.SUPPORTED_SHELLS:
        assert done.returncode == 3
        return
    assert done.returncode == 0, done.stderr
    for word in {word for verb in verbs() for word in verb.name.split()}:
        assert word in done.stdout
    assert "--remove-orphans" in done.stdout or "remove-orphans" in done.stdout


def test_bash_takes_the_completions() -> None:
    done = run("completion", "bash")
    checked = subprocess.run(["bash", "-n"], input=done.stdout, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_versions() -> None:
    import nsbridge

    assert run("--version").stdout == f"nsbridge {nsbridge.__version__}\n"
    assert run("version").stdout.startswith(f"nsbridge {nsbridge.__version__} (Python 3.")


def test_the_schema_is_json() -> None:
    import json

    assert "services" in json.loads(run("schema").stdout)["properties"]


HOT = ("connect", "disconnect", "publish", "unpublish")
HEAVY = ("rich", "pydantic", "ruamel", "json", "dataclasses", "shtab", "subprocess", "socket", "logging", "threading")


@pytest.mark.parametrize("name", HOT)
def test_quick_verbs_load_nothing_heavy(name: str) -> None:
    """What a verb imports before it acts: the parser of the verb, its module, and the wiring."""
    code = f"""
import sys
from nsbridge.frontends.cli import main, parser, table
verb, _ = table.find([{name!r}])
parser.parser_for(verb)
__import__("nsbridge.frontends.cli." + verb.run.partition(":")[0])
import nsbridge.wiring
print(*[name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-IS", "-c", f"import sys; sys.path.insert(0, {str(SRC)!r})\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{shlex.quote(sys.executable)} -m nsbridge schema | head -1"
    done = subprocess.run(
        ["bash", "-c", f"{command}; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(SRC)},
    )
    assert done.stdout.splitlines()[0] == "{"
    assert done.stdout.splitlines()[1] in ("0", "141")
    assert done.stderr == ""
