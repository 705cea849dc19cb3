"""What a one-shot command pays for: modules of the hot path load nothing beyond an allow-list (docs/adr/0002)."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from source import SRC, Module, ids, imports, modules

# Modules of the standard library that the hot path may name. ipaddress is the one that costs (4.4 ms), and carries our
# meaning; the others are C, or loaded by every interpreter.
ALLOWED = frozenset(
    "ipaddress errno os posix sys _thread _socket _struct _json _ctypes _blake2 fcntl marshal time _signal select "
    "_posixsubprocess _operator gc array itertools termios resource".split()
)
NEVER = frozenset(
    "dataclasses enum typing abc re json socket subprocess logging pathlib contextlib functools collections ctypes "
    "struct signal threading hashlib tempfile shutil argparse".split()
)
HOT = tuple(
    f"nsbridge.{room}"
    for room in "values codec errors model state firewall desired plan kernel store engine wiring".split()
)
# They serve other processes than the one that attaches an endpoint, or none but a demonstration.
COLD = ("nsbridge.kernel.sandbox", "nsbridge.kernel.shim", "nsbridge.kernel.throwaway")

HOT_MODULES = [
    module
    for module in modules()
    if module.name not in COLD and any(module.name == room or module.name.startswith(room + ".") for room in HOT)
]

LOADED = """
import sys
sys.path.insert(0, sys.argv[1])
for name in sys.argv[2:]:
    __import__(name)
print(*sys.modules)
"""


def loaded(*wanted: str) -> set[str]:
    """Names in sys.modules of a bare interpreter after importing these."""
    command = [sys.executable, "-IS", "-c", LOADED, str(SRC), *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_hot_modules_load_nothing_else() -> None:
    available = [name for name in sorted(ALLOWED) if name != "sys"]
    # `__future__` is in every module of ours; what the allowed ones load themselves comes with them.
    expected = loaded("__future__", *available)
    extra = loaded(*[module.name for module in HOT_MODULES]) - expected
    assert not {name for name in extra if name.split(".")[0] != "nsbridge"}
    cold = {name for name in extra if name in COLD or name.startswith(("nsbridge.frontends", "nsbridge.files"))}
    assert not cold, "the hot path loads what it has no use for"


@pytest.mark.parametrize("module", HOT_MODULES, ids=ids)
def test_a_hot_module_loads_nothing_else_alone(module: Module) -> None:
    """AST, so that an import which another module happens to have paid for is seen too."""
    wrong = [
        f"line {found.line}: {found.module}"
        for found in imports(module)
        if found.top
        and not found.typing_only
        and not found.fallback
        and found.module.split(".")[0] not in ALLOWED | {"nsbridge", "__future__"}
    ]
    assert not wrong, "\n".join(wrong)


def test_the_allow_list_is_cheap() -> None:
    """None of the expensive modules comes in by the back door of an allowed one."""
    available = [name for name in sorted(ALLOWED) if name != "sys"]
    dear = NEVER - {"abc", "functools", "collections"}  # `io` has abc in every interpreter; ipaddress the other two
    assert not loaded(*available) & dear


def test_the_test_would_notice() -> None:
    assert "typing" in loaded("dataclasses", "typing")
    assert json.dumps(sorted(loaded("nsbridge.values"))).count("nsbridge") == 2


HOT_VERBS = {"connect": "nsbridge.frontends.cli.endpoints"}
HOT_VERBS |= dict.fromkeys(("disconnect", "publish", "unpublish"), HOT_VERBS["connect"])
HOT_VERBS |= dict.fromkeys(("port", "ps"), "nsbridge.frontends.cli.looking")
"""The one-shot verbs that are called for every endpoint or port, and where they are done."""

EXPLAINING = tuple(
    f"nsbridge.{name}"
    for name in "firewall.seen firewall.evaluate firewall.words firewall.planned firewall.tracing kernel.fw kernel.xt "
    "kernel.tracer kernel.sendprobe".split()
)
"""How modules begin that read and follow other people's rules."""

HOT_LINES = (
    "connect lab ns1 --name web -p 8088:80 -p 53:53/udp --alias www",
    "connect -p 8088:80 lab ns1",
    "disconnect lab ns1",
    "publish web 8088:80 8089:81",
    "unpublish web 8088:80 --net lab",
    "port web",
    "port web 80/tcp",
    "ps --all",
)

DISPATCHED = """
import sys
sys.path.insert(0, sys.argv[1])
from nsbridge.frontends.cli import main, parse, plain
from nsbridge.frontends.cli.table import find
words = sys.argv[2].split()
verb, length = find(words)
args = plain.arguments(verb, words[length:])
assert args is not None, "argparse would be asked"
parse.ports("-p", getattr(args, "publish", None) or getattr(args, "ports", ()))
if getattr(args, "port", ""):
    parse.inner_port(args.port)
__import__(sys.argv[3])
__import__("nsbridge.wiring")
print(*sys.modules)
"""


@pytest.mark.parametrize("line", HOT_LINES)
def test_a_hot_verb_loads_nothing_else(line: str) -> None:
    """From the words of its command line to the engine: no argparse, no parsers of files."""
    command = [sys.executable, "-IS", "-c", DISPATCHED, str(SRC), line, HOT_VERBS[line.split()[0]]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = loaded("__future__", *[name for name in sorted(ALLOWED) if name != "sys"])
    extra = set(done.stdout.split()) - expected
    assert not {name for name in extra if not name.startswith("nsbridge")}
    assert not {name for name in extra if name in COLD or name.startswith("nsbridge.files")}
    assert not {name for name in extra if name.startswith(EXPLAINING)}
