"""The verbs `install` and `uninstall`: a command `nsbridge` that starts sooner than the one pip writes.

pip's script has the interpreter look for packages, and reads each module from a file of its own: 9 ms of a command
that takes 33 (docs/adr/0009). The launcher names the interpreter with ``-IS`` and says where packages are; most of
what a hot verb imports it has from one file of compiled code (`cached`).
"""

from __future__ import annotations
import __future__

import ast
import marshal
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nsbridge
from nsbridge.errors import NoPermission, NsbridgeError, Taken, Unsupported
from nsbridge.frontends.cli import cached, output

MARK = "# Written by `nsbridge install`; `nsbridge uninstall` takes it away."

TEXT = """#!{python} -IS
{mark}
import gc, sys
gc.disable()  # until nsbridge says when to look for garbage
sys.path += {paths!r}
try:
    from marshal import loads
    from posix import O_CLOEXEC, close, open, read
    head = read(fd := open({code!r}, O_CLOEXEC), {head})
    there = {{}}
    run, *rest = loads(head)
    exec(run, there)
    there["use"]({code!r}, fd, head, *rest)
    close(fd)
except Exception:  # another Python, or no such file: then modules come from their own
    pass
from nsbridge.frontends.cli.main import script
script()
"""

LONGEST = 255 - len("#! -IS")
"""Bytes of the interpreter's path: the first line ends at 256 (BINPRM_BUF_SIZE, <linux/binfmts.h>; execve(2))."""

COLD = (
    "nsbridge.api",
    "nsbridge.files",
    "nsbridge.kernel.sandbox",
    "nsbridge.kernel.shim",
    "nsbridge.kernel.throwaway",
)
"""What no hot verb imports, and so isn't in the file."""


def install(args: Any) -> None:
    """Write the launcher and its file of code, or write them anew."""
    python = sys.executable  # not what it links to: where it stands tells it the packages of its environment
    if len(python.encode()) > LONGEST or " " in python:
        raise Unsupported(
            f"the kernel runs no script for {python!r}", fix="give Python a path without spaces, or a shorter one"
        )
    command, code = _places(args.prefix)
    if command.exists() and not _ours(command):
        raise Taken(
            f"{command} is there, and nsbridge install didn't write it",
            fix="give --prefix DIR, with DIR/bin before it on PATH",
        )
    packages = [str(Path(nsbridge.__file__).parents[1])]
    packages += [
        path for path in sys.path if path.endswith(("site-packages", "dist-packages")) and path not in packages
    ]
    try:
        head, body = _written()
        text = TEXT.format(python=python, mark=MARK, paths=packages, code=str(code), head=len(head))
        _put(code, head + body, 0o644)
        _put(command, text.encode(), 0o755)
    except PermissionError as err:
        raise NoPermission(f"{err.filename} can't be written", fix="run it as root, or give --prefix DIR") from err
    except OSError as err:
        raise NsbridgeError(f"{err.filename} can't be written: {err.strerror}", fix="give --prefix DIR") from err
    output.line(f"{command}")


def uninstall(args: Any) -> None:
    """Take away what `install` wrote, and nothing else."""
    command, code = _places(args.prefix)
    if command.exists() and not _ours(command):
        raise Taken(f"{command} isn't of nsbridge install's making", fix="give the --prefix that it was installed with")
    try:
        for path in (command, *code.parent.glob("*.code")):
            path.unlink(missing_ok=True)
        if code.parent.is_dir() and not any(code.parent.iterdir()):
            code.parent.rmdir()
    except PermissionError as err:
        raise NoPermission(f"{err.filename} can't be removed", fix="run it as root") from err


def _places(prefix: str) -> tuple[Path, Path]:
    """Return where the launcher goes, and its code: one file for each version of Python, as its bytecode differs."""
    root = Path(prefix).absolute()
    return root / "bin/nsbridge", root / f"lib/nsbridge/{sys.implementation.cache_tag}.code"


def _ours(command: Path) -> bool:
    return command.is_file() and MARK.encode() in command.read_bytes()[:1024].splitlines()


def _put(path: Path, text: bytes, mode: int) -> None:
    """Write a file whole or not at all, for commands may be starting from it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(text)
    draft.chmod(mode)
    draft.rename(path)


# ------------------------------------------------------------------ the code


ROOTS = (
    "nsbridge.frontends.cli.main",
    "nsbridge.frontends.cli.words",
    "nsbridge.frontends.cli.endpoints",
    "nsbridge.wiring",
    "nsbridge.kernel.apply",
    "nsbridge.kernel.conntrack",
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
from nsbridge.frontends.cli import launcher
sys.stdout.buffer.write(launcher.marshal.dumps(launcher.archive()))
"""


def _written() -> tuple[bytes, bytes]:
    """Return what `archive` does, by a Python that compiles without columns: they are a third of the code."""
    program = _WRITTEN.format(paths=[str(Path(nsbridge.__file__).parents[1])])
    done = subprocess.run(
        [sys.executable, "-I", "-X", "no_debug_ranges", "-c", program], stdout=subprocess.PIPE, check=True
    )
    head, body = marshal.loads(done.stdout)
    return head, body


def archive() -> tuple[bytes, bytes]:
    """Return the compiled modules as `cached` reads them, head and body."""
    root = Path(nsbridge.__file__).parent
    index: dict[str, cached.Entry] = {}
    codes: dict[str, Any] = {}
    body = b""
    for source in sorted(root.rglob("*.py")):
        name = ".".join(source.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
        if name.startswith(COLD):
            continue
        codes[name] = _compiled(source)
        code = marshal.dumps(codes[name])
        index[name] = _entry(source, len(body), len(code))
        body += code
    found = _addresses()
    if found is not None:
        source, codes["ipaddress"] = found
        code = marshal.dumps(codes["ipaddress"])
        index["ipaddress"] = _entry(source, len(body), len(code))
        body += code
    # From the end, so that a place doesn't depend on how long the index is that tells it.
    index = {name: (entry[0] - len(body), *entry[1:]) for name, entry in index.items()}
    hot = tuple([name for name in _in_order((FEW, FEW_OS, *ROOTS) if found else (FEW_OS, *ROOTS)) if name in codes])
    parts = [marshal.dumps(codes[name] if name == "ipaddress" else _hot(Path(index[name][2]))) for name in hot]
    sizes = tuple([(name, len(part)) for name, part in zip(hot, parts, strict=True)])
    run = _compiled(Path(cached.__file__))
    rest = b"".join(parts) + body
    return marshal.dumps((run, index, sizes, len(rest))), rest


def _entry(source: Path, start: int, size: int) -> cached.Entry:
    found = source.stat()
    return start, size, str(source), source.stem == "__init__", found.st_size, found.st_mtime_ns


def _in_order(roots: tuple[str, ...]) -> list[str]:
    """Return what hot verbs import, each after what it imports itself, as a bare interpreter does it."""
    program = _IN_ORDER.format(paths=[str(Path(nsbridge.__file__).parents[1])], roots=roots)
    done = subprocess.run([sys.executable, "-IS", "-c", program], capture_output=True, text=True, check=True)
    return [name for name, _ in ast.literal_eval(done.stdout)]


FEW, FEW_OS = "nsbridge.frontends.cli.fewtools", "nsbridge.frontends.cli.fewos"


def _addresses() -> tuple[Path, Any] | None:
    """Return the interpreter's own `ipaddress` and its code without `functools`, None if it uses more of that.

    The special networks it knows are made when one is asked for: some forty objects that no hot verb looks at.
    """
    import ipaddress

    source = Path(ipaddress.__file__)
    tree = ast.parse(source.read_bytes())
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "functools"
    }
    if not used <= {"total_ordering", "lru_cache", "cached_property"}:
        return None
    return source, _code(_Later().visit(tree), source, {"functools": FEW})


class _Later(ast.NodeTransformer):
    """Has ``class _IPv4Constants`` made by a function of that name, and `fewtools.later` call it."""

    def __init__(self) -> None:
        self._made: set[str] = set()

    def visit_ClassDef(self, node: ast.ClassDef) -> Any:
        """Put the class into a function."""
        if not (node.name.startswith("_") and node.name.endswith("Constants")):
            return node
        self._made.add(node.name)
        (made,) = ast.parse(f"@functools.lru_cache()\ndef {node.name}():\n    return {node.name}").body
        assert isinstance(made, ast.FunctionDef)
        made.body.insert(0, node)
        return ast.fix_missing_locations(ast.copy_location(made, node))

    def visit_Assign(self, node: ast.Assign) -> Any:
        """Where the class was given to another, give what makes it."""
        if isinstance(node.value, ast.Name) and node.value.id in self._made:
            node.value = ast.parse(f"functools.later({node.value.id})", mode="eval").body
            return ast.fix_missing_locations(node)
        return node


def _compiled(source: Path) -> Any:
    return _code(ast.parse(source.read_bytes(), str(source)), source, {})


def _hot(source: Path) -> Any:
    """Compile a module that hot verbs import, with less than all of ``os``."""
    instead = {} if source.stem == FEW_OS.rpartition(".")[2] else {"os": FEW_OS}
    return _code(ast.parse(source.read_bytes(), str(source)), source, instead)


def _code(tree: ast.Module, source: Path, instead: dict[str, str]) -> Any:
    """Compile a module without docstrings and without what only type checkers read: a sixth less to load.

    instead: what to import in the place of other modules.
    """
    tree = _Slim(instead).visit(tree)
    # The flag is what the import of annotations that was taken out stood for.
    return compile(tree, str(source), "exec", flags=__future__.annotations.compiler_flag, dont_inherit=True)


class _Slim(ast.NodeTransformer):
    """Takes out docstrings, ``if TYPE_CHECKING``, the import of annotations, and the annotations of functions.

    Those of classes stay: they declare the fields of a `Value`.
    """

    def __init__(self, instead: dict[str, str]) -> None:
        self._instead = instead

    def _block(self, node: Any) -> Any:
        self.generic_visit(node)
        node.body = [each for each in node.body if not _is_text(each)] or [ast.Pass(lineno=1, col_offset=0)]
        return ast.fix_missing_locations(node)

    visit_Module = visit_ClassDef = _block

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        """Drop what says types."""
        node.returns = None
        for one in ast.walk(node.args):
            if isinstance(one, ast.arg):
                one.annotation = None
        return self._block(node)

    def visit_If(self, node: ast.If) -> Any:
        """Keep the branch that runs."""
        self.generic_visit(node)
        return node.orelse if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING" else node

    def visit_Import(self, node: ast.Import) -> Any:
        """Import another module under the name, where that was asked for."""
        name = node.names[0].name
        if name not in self._instead:
            return node
        package, _, module = self._instead[name].rpartition(".")
        return ast.copy_location(ast.ImportFrom(package, [ast.alias(module, asname=name)], 0), node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> Any:
        """Drop the import whose only effect is the compiler's flag."""
        return None if node.module == "__future__" else node


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
