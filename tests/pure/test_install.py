"""`nsbridge install`: what it writes starts, says the same as the sources, and goes again without a trace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import CodeType
from typing import TYPE_CHECKING

import pytest

import nsbridge
from nsbridge.frontends.cli import archive, slim

if TYPE_CHECKING:
    from collections.abc import Iterator

SRC = Path(nsbridge.__file__).parents[1]


def run(*argv: str | Path, code: int = 0, **environ: str) -> str:
    environ = {**os.environ, "PYTHONPATH": str(SRC), **environ}
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == code, done.stderr
    return done.stdout if not code else done.stderr


def nsb(*words: str | Path, code: int = 0) -> str:
    return run(sys.executable, "-m", "nsbridge", *words, code=code)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def sources_read(command: Path) -> set[str]:
    """Which modules a launcher's process had from files of their own."""
    done = subprocess.run(
        [sys.executable, "-v", "-IS", command, "--version"], capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("# code object from")]
    return {line.split("/nsbridge/")[1].rstrip("'\"") for line in lines if "/nsbridge/" in line}


def test_installed_it_starts_without_reading_our_files(tmp_path: Path) -> None:
    command = tmp_path / "bin/nsbridge"
    assert nsb("install", "--prefix", tmp_path).strip() == str(command)
    assert files(tmp_path) == ["bin/nsbridge", f"lib/nsbridge/{sys.implementation.cache_tag}.code"]
    assert run(command, "version") == nsb("version")
    assert run(command, "connect", "--help") == nsb("connect", "--help")
    assert run(command, "conect", code=2) == nsb("conect", code=2)
    assert not sources_read(command)


HOT_LINE = """
import marshal, sys
file = open({code!r}, "rb", buffering=0)
head = file.read({size})
sys.argv = ["nsbridge", "connect"]
sys.path.append({src!r})
there = {{}}
run, *rest = marshal.loads(head)
exec(run, there)
there["use"](file.fileno(), {size}, *rest)
"""
"""What the launcher does for a hot verb, up to where its modules are there."""


def loaded_ahead(tmp_path: Path, program: str) -> str:
    """Run a program after what the launcher does first for a hot verb."""
    nsb("install", "--prefix", tmp_path)
    (code,) = tmp_path.glob("lib/nsbridge/*.code")
    size = int((tmp_path / "bin/nsbridge").read_text().split("O_CLOEXEC), ")[1].split(")")[0])
    return run(sys.executable, "-IS", "-c", HOT_LINE.format(code=str(code), size=size, src=str(SRC)) + program)


def test_a_hot_verb_has_its_modules_ahead_and_as_from_their_sources(tmp_path: Path) -> None:
    said = loaded_ahead(
        tmp_path,
        "before = set(sys.modules)\n"
        "import nsbridge.frontends.cli.endpoints, nsbridge.wiring, nsbridge.kernel.nftnetlink\n"
        "from nsbridge.kernel import apply\n"
        "from nsbridge.values import REGISTRY\n"
        "assert nsbridge.kernel.apply is apply is sys.modules['nsbridge.kernel.apply']\n"
        "print(len(set(sys.modules) - before), 'Endpoint' in REGISTRY, *{'functools', 'os'} & set(sys.modules))",
    )
    assert said.split() == ["0", "True"]


def functions(code: CodeType) -> Iterator[CodeType]:
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from [each, *functions(each)]


def test_bodies_that_were_left_out_are_in_the_whole_module() -> None:
    """None is called, so every body that can be left out is."""
    modules = [
        (slim.whole(source), slim.hot(source, frozenset()))
        for name in archive.called_by_hot_verbs()
        if (source := SRC.joinpath(*name.split(".")).with_suffix(".py")).exists()
    ]
    addresses = slim.addresses(frozenset())
    asked = 0
    for whole, thin in [*modules, *([addresses[1:]] if addresses else [])]:
        for asking in [each for each in functions(thin) if "__loader__" in each.co_names]:
            found = whole
            for part in asking.co_qualname.split("."):
                found = next(each for each in found.co_consts if getattr(each, "co_name", "") == part)
            assert (found.co_qualname, found.co_freevars) == (asking.co_qualname, ())
            given = found.co_argcount + found.co_kwonlyargcount
            assert found.co_varnames[:given] == asking.co_varnames[:given]
            asked += 1
    assert asked > 400


CALLED = """
from nsbridge.model.network import Network, Subnet
from nsbridge.errors import InvalidIntent
from nsbridge.frontends.cli import parse
from ipaddress import ip_network
try:
    Network("a b", ())
except InvalidIntent as err:
    print(err)
print(repr(Subnet(ip_network("10.0.0.0/24"))), parse.environment(["A=b", "C="]))
try:
    parse.subnet("--subnet", "10.1.0.1/16")
except InvalidIntent as err:
    print(err)
"""


def test_a_function_without_its_body_does_what_it_does(tmp_path: Path) -> None:
    said = run(sys.executable, "-IS", "-c", f"import sys\nsys.path.append({str(SRC)!r})\n{CALLED}")
    assert loaded_ahead(tmp_path, f"{CALLED}assert len(sys.meta_path[0]._bodies) > 2") == said


def test_the_list_of_hot_functions_names_what_there_is() -> None:
    for module, functions in archive.called_by_hot_verbs().items():
        if module.startswith("nsbridge."):
            place = SRC.joinpath(*module.split("."))
            source = place.with_suffix(".py") if place.with_suffix(".py").exists() else place / "__init__.py"
            missing = [name for name in functions if f"def {name.rpartition('.')[2]}(" not in source.read_text()]
            assert not missing, f"{module}: `python -m tools.hot` writes frontends/cli/hot.txt"


QUESTIONS = """
import ipaddress as i
texts = "10.0.0.1 127.0.0.1 0.0.0.0 169.254.1.1 224.0.0.1 192.0.0.9 240.0.0.1 8.8.8.8 :: ::1 fe80::1 fd00::2 ff02::1 "
texts += "2001:db8::1 ::ffff:10.0.0.1 64:ff9b::1 2001:4860::8888"
found = [i.ip_address(text) for text in texts.split()]
found += [i.ip_interface(f"{one}/{one.max_prefixlen - 8}") for one in found] + [
    i.ip_network(f"{one}/{one.max_prefixlen // 2}", strict=False) for one in found
]
ways = [way for way in "private global loopback link_local multicast reserved unspecified".split()]
print([[getattr(one, "is_" + way) for way in ways] + [str(one), hash(one) % 1] for one in found])
print([[op(one, two) for op in (one.__class__.__lt__, one.__class__.__le__, one.__class__.__gt__, one.__class__.__ge__)]
    for one in found for two in found if type(one) is type(two) and one.version == two.version])
print([str(one.ip) for one in found if hasattr(one, "network") and one in one.network], found[0] < found[1])
"""


def test_addresses_without_functools_are_those_of_the_interpreter(tmp_path: Path) -> None:
    assert loaded_ahead(tmp_path, QUESTIONS) == run(sys.executable, "-IS", "-c", QUESTIONS)


ASKED_OF_OS = """
paths = ["/", "/proc", "/proc/self", "/proc/self/exe", "/none/at/all", "", "a", "a/", "/a/b", "x\\0y"]
print([[getattr(os.path, way)(path) for way in ("exists", "isdir", "basename", "islink", "dirname")] for path in paths])
print(os.SEEK_SET, os.devnull, os.O_CLOEXEC, os.environ.get("PYTHONPATH"), os.environ.get("NO_SUCH"), os.geteuid())
print(os.fsencode("a"), os.sep, os.path.join("a", "b"), os.strerror(2), os.listdir("/proc/self/task") != [])
print(hasattr(os, "no_such"), hasattr(os.path, "no_such"))
"""


def test_what_is_asked_of_os_is_what_it_says(tmp_path: Path) -> None:
    """By what the launcher has in its place, which asks the real one for the rest."""
    program = "from nsbridge.store.files import os\nassert os.__name__ == 'nsbridge.frontends.cli.fewos'\n"
    expected = run(sys.executable, "-IS", "-c", "import os" + ASKED_OF_OS)
    assert loaded_ahead(tmp_path, program + ASKED_OF_OS) == expected


def test_again_is_the_same_and_uninstall_leaves_nothing(tmp_path: Path) -> None:
    nsb("install", "--prefix", tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}
    run(tmp_path / "bin/nsbridge", "install", "--prefix", tmp_path)  # by itself, too
    assert {name: (tmp_path / name).read_bytes() for name in files(tmp_path)}.keys() == before.keys()
    assert run(tmp_path / "bin/nsbridge", "version") == nsb("version")
    nsb("uninstall", "--prefix", tmp_path)
    assert files(tmp_path) == []
    assert not (tmp_path / "lib/nsbridge").exists()
    nsb("uninstall", "--prefix", tmp_path)


def test_a_command_of_somebody_else_stays(tmp_path: Path) -> None:
    command = tmp_path / "bin/nsbridge"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\necho mine\n")
    assert "didn't write it" in nsb("install", "--prefix", tmp_path, code=5)
    assert "making" in nsb("uninstall", "--prefix", tmp_path, code=5)
    assert files(tmp_path) == ["bin/nsbridge"]
    assert command.read_text() == "#!/bin/sh\necho mine\n"


@pytest.fixture
def copied(tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the package, and a launcher for it."""
    package = tmp_path / "src"
    shutil.copytree(SRC / "nsbridge", package / "nsbridge", ignore=shutil.ignore_patterns("__pycache__"))
    environ = {**os.environ, "PYTHONPATH": str(package)}
    argv = [sys.executable, "-m", "nsbridge", "install", "--prefix", str(tmp_path)]
    subprocess.run(argv, check=True, env=environ, stdout=subprocess.DEVNULL, cwd=tmp_path)
    return package / "nsbridge", tmp_path / "bin/nsbridge"


def test_what_was_changed_since_is_what_runs(copied: tuple[Path, Path]) -> None:
    package, command = copied
    module = package / "frontends/cli/main.py"
    module.write_text(module.read_text().replace('"""Entry point', 'print("edited")\n    """Entry point'))
    assert run(command, "--version").startswith("edited\n")
    assert sources_read(command) == {f"frontends/cli/__pycache__/main.{sys.implementation.cache_tag}.pyc"}


def test_without_its_file_of_code_it_starts_all_the_same(copied: tuple[Path, Path]) -> None:
    package, command = copied
    (code,) = command.parents[1].glob("lib/nsbridge/*.code")
    whole = code.read_bytes()
    for text in (b"", b"not code", whole[:5000], whole[:-5000]):
        code.write_bytes(text)
        assert run(command, "version") == nsb("version")
    code.unlink()
    assert run(command, "version") == nsb("version")
    assert package.is_dir()


def test_a_hot_module_that_was_changed_is_what_runs(copied: tuple[Path, Path]) -> None:
    package, command = copied
    module = package / "frontends/cli/plain.py"
    module.write_text(module.read_text() + "\nprint('edited')\n")
    assert run(command, "connect", "--help").startswith("edited\n")


def test_an_error_still_shows_where_it_happened(copied: tuple[Path, Path]) -> None:
    package, command = copied
    said = run(command, "--debug", "install", "--prefix", "/dev/null", code=1)
    assert str(package / "frontends/cli/launcher.py") in said
    assert "path.parent.mkdir(parents=True, exist_ok=True)" in said
