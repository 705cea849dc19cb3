"""What is in the launcher's file of code, in the order in which `cached` reads it.

First the head, which every command reads: the code of `cached` itself and the modules of hot verbs, in the order in
which they are done loading. Then their code, without the bodies of functions that hot verbs don't call (hot.txt has
those they do, and tools/hot.py writes it); the places of all modules; and, last, all modules whole.
"""

from __future__ import annotations

import ast
import marshal
import subprocess
import sys
from pathlib import Path

import nsbridge
from nsbridge.frontends.cli import cached, slim

HERE = Path(__file__).parent

COLD = (
    "nsbridge.api",
    "nsbridge.files",
    "nsbridge.kernel.sandbox",
    "nsbridge.kernel.shim",
    "nsbridge.kernel.throwaway",
)
"""What no hot verb imports, and so isn't in the file."""

ROOTS = (
    "nsbridge.frontends.cli.main",
    "nsbridge.frontends.cli.words",
    "nsbridge.frontends.cli.endpoints",
    "nsbridge.wiring",
    "nsbridge.kernel.apply",
    "nsbridge.kernel.nftnetlink",
)
"""What hot verbs import, with all that these import: the modules that are loaded ahead."""

_IN_ORDER = """
import sys
sys.path += {paths!r}
done = []
class Watch:
    def find_spec(self, name, path=None, target=None):
        for finder in sys.meta_path[1:]:
            if (spec := finder.find_spec(name, path, target)) is None:
                continue
            if hasattr(spec.loader, "exec_module") and spec.origin and spec.origin.endswith(".py"):
                run = spec.loader.exec_module
                spec.loader.exec_module = lambda module: (run(module), done.append((module.__name__, spec.origin)))
            return spec
sys.meta_path.insert(0, Watch())
for name in {roots!r}:
    __import__(name)
print(done)
"""


_WRITTEN = """
import sys
sys.path[:0] = {paths!r}
from nsbridge.frontends.cli import archive
sys.stdout.buffer.write(archive.marshal.dumps(archive.archive()))
"""


def written() -> tuple[bytes, bytes]:
    """Return what `archive` does, by a Python that compiles without columns: they are a third of the code."""
    program = _WRITTEN.format(paths=[str(Path(nsbridge.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-I", "-X", "no_debug_ranges", "-c", program], stdout=subprocess.PIPE, check=True
    )
    head, rest = marshal.loads(done.stdout)
    return head, rest


def archive() -> tuple[bytes, bytes]:
    """Return the compiled modules as `cached` reads them: the head, and what follows."""
    called = called_by_hot_verbs()
    root = Path(nsbridge.__file__).parent
    whole: dict[str, tuple[Path, bytes]] = {}
    for source in sorted(root.rglob("*.py")):
        name = ".".join(source.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
        if not name.startswith(COLD):
            whole[name] = source, marshal.dumps(slim.whole(source))
    found = slim.addresses(called.get("ipaddress", frozenset()))
    if found is not None:
        whole["ipaddress"] = found[0], marshal.dumps(found[1])
    index, body = _places(whole)
    thin: dict[str, bytes] = {}
    for name in _in_order((slim.FEW, slim.FEW_OS, *ROOTS) if found else (slim.FEW_OS, *ROOTS)):
        if found is not None and name == "ipaddress":
            thin[name] = marshal.dumps(found[2])
        elif name in whole:
            thin[name] = marshal.dumps(slim.hot(whole[name][0], called.get(name, frozenset())))
    places = marshal.dumps(index)
    rest = b"".join(thin.values()) + places + body
    hot = {name: (len(code), *index[name]) for name, code in thin.items()}
    return marshal.dumps((slim.whole(Path(cached.__file__)), hot, len(places), len(rest))), rest


def _places(whole: dict[str, tuple[Path, bytes]]) -> tuple[dict[str, cached.Entry], bytes]:
    """Return where each module is, counted from the end, so that it doesn't depend on what comes before; and all."""
    body = b"".join([code for _, code in whole.values()])
    start = -len(body)
    index: dict[str, cached.Entry] = {}
    for name, (source, code) in whole.items():
        found = source.stat()
        index[name] = start, len(code), str(source), source.stem == "__init__", found.st_size, found.st_mtime_ns
        start += len(code)
    return index, body


def _in_order(roots: tuple[str, ...]) -> list[str]:
    """Return what hot verbs import, each after what it imports itself, as a bare interpreter does it."""
    program = _IN_ORDER.format(paths=[str(Path(nsbridge.__file__).parents[1])], roots=roots)
    done = subprocess.run([sys.executable, "-IS", "-c", program], capture_output=True, text=True, check=True)
    return [name for name, _ in ast.literal_eval(done.stdout)]


def called_by_hot_verbs() -> dict[str, frozenset[str]]:
    """Return the functions that hot verbs call, by module, as `hot.txt` has them: a line each, the module first.

    The list costs time where it is wrong, and nothing else.
    """
    lines = [line.split() for line in (HERE / "hot.txt").read_text().splitlines()]
    return {module: frozenset(names) for module, *names in lines}
