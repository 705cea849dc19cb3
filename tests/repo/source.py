"""The package's source as syntax trees: what the repository's own tests look at.

Modules are found by walking, so a new one is judged from its first commit.
"""

from __future__ import annotations

import ast
import io
import subprocess
import tokenize
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src"


class Module(NamedTuple):
    name: str
    path: Path
    text: str
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"


class Import(NamedTuple):
    module: str  # absolute; for `from a import b` both "a" and, if that is a module of ours, "a.b"
    line: int
    typing_only: bool  # under `if TYPE_CHECKING`
    fallback: bool  # in the handler of an ImportError
    top: bool  # runs when the module is imported, not when a function is called


@cache
def modules() -> tuple[Module, ...]:
    found = []
    for path in sorted((SRC / "nsbridge").rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text()
        found.append(Module(name, path, text, ast.parse(text, str(path))))
    return tuple(found)


@cache
def names() -> frozenset[str]:
    return frozenset(module.name for module in modules())


def ids(module: Module) -> str:
    return module.name


@cache
def imports(module: Module) -> tuple[Import, ...]:
    """Every import of a module, wherever it stands."""
    found: list[Import] = []

    def targets(node: ast.Import | ast.ImportFrom) -> list[str]:
        if isinstance(node, ast.Import):
            return [alias.name for alias in node.names]
        package = node.module or ""
        if node.level:
            base = module.name.split(".") if module.is_package else module.name.split(".")[:-1]
            base = base[: len(base) - node.level + 1]
            package = ".".join([*base, *filter(None, [node.module])])
        inner = [f"{package}.{alias.name}" for alias in node.names]
        # `from nsbridge.model import network` imports a module; `from nsbridge.values import Value` doesn't.
        found_modules = [name for name in inner if name in names()]
        return found_modules if len(found_modules) == len(inner) else [package, *found_modules]

    def visit(node: ast.AST, typing_only: bool, fallback: bool, top: bool) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.extend(Import(name, node.lineno, typing_only, fallback, top) for name in targets(node))
            return
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                visit(child, True, fallback, top)
            for child in node.orelse:
                visit(child, typing_only, fallback, top)
            return
        if isinstance(node, ast.ExceptHandler) and node.type and "ImportError" in ast.unparse(node.type):
            fallback = True
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            top = False
        for child in ast.iter_child_nodes(node):
            visit(child, typing_only, fallback, top)

    visit(module.tree, False, False, True)
    return tuple(found)


@cache
def code_lines(text: str) -> frozenset[int]:
    """Lines with code on them: not blank, not only a comment. Lines of a docstring count, see `size`."""
    skip = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skip:
            lines.update(range(token.start[0], token.end[0] + 1))
    return frozenset(lines)


def size(module: Module, function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of code from ``def`` to the end: blank lines, comments and the docstring don't count, nested ones do."""
    lines = code_lines(module.text) & set(range(function.lineno, (function.end_lineno or 0) + 1))
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= set(range(first.lineno, (first.end_lineno or 0) + 1))
    return len(lines)


@cache
def tracked() -> tuple[Path, ...]:
    """Text files of the repository: what git tracks or would track."""
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard", "-z"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    paths = [ROOT / name for name in listing.split("\0") if name]
    return tuple(path for path in paths if path.is_file() and b"\0" not in path.read_bytes())
