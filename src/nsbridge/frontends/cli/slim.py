"""Modules compiled for the launcher's file of code: the same doings, less to read (docs/adr/0009).

Left out are docstrings, annotations of functions and what stands under TYPE_CHECKING; from modules of hot verbs the
bodies of the functions that those don't call, too. Lines keep their numbers.
"""

from __future__ import annotations
import __future__

import ast
from pathlib import Path
from typing import Any

FEW, FEW_OS = "nsbridge.frontends.cli.fewtools", "nsbridge.frontends.cli.fewos"
"""What modules find in the place of ``functools`` and ``os``."""

SMALL = 30
"""Nodes of syntax up to which a body is left where it is: what stands in its place is no smaller."""


def whole(source: Path) -> Any:
    """Compile a module with all its functions."""
    return _code(_Slim({}).visit(_parsed(source)), source)


def hot(source: Path, called: frozenset[str]) -> Any:
    """Compile a module that hot verbs import, with less than all of ``os``, and the bodies of what is called alone."""
    if source.stem in (FEW.rpartition(".")[2], FEW_OS.rpartition(".")[2]):
        return whole(source)  # nobody calls these but by the launcher
    return _code(_without(_Slim({"os": FEW_OS}).visit(_parsed(source)), called), source)


def addresses(called: frozenset[str]) -> tuple[Path, Any, Any] | None:
    """Return where the interpreter's own `ipaddress` is, and its code without `functools`: whole, and for hot verbs.

    None if it uses more of ``functools`` than we have. The special networks it knows are made when one is asked for:
    some forty objects that no hot verb looks at.
    """
    import ipaddress

    source = Path(ipaddress.__file__)
    tree = _parsed(source)
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "functools"
    }
    if not used <= {"total_ordering", "lru_cache", "cached_property"}:
        return None
    tree = _Slim({"functools": FEW}).visit(_Later().visit(tree))
    all_of_it = _code(tree, source)
    return source, all_of_it, _code(_without(tree, called), source)


def _parsed(source: Path) -> ast.Module:
    return ast.parse(source.read_bytes(), str(source))


def _code(tree: ast.Module, source: Path) -> Any:
    # The flag is what the import of annotations that was taken out stood for.
    return compile(tree, str(source), "exec", flags=__future__.annotations.compiler_flag, dont_inherit=True)


class _Slim(ast.NodeTransformer):
    """Takes out docstrings, ``if TYPE_CHECKING``, the import of annotations, and the annotations of functions.

    Those of classes stay: they declare the fields of a `Value`. instead: what to import in the place of other modules.
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


# ------------------------------------------------------------------ bodies left out


def _without(tree: ast.Module, called: frozenset[str]) -> ast.Module:
    """Have functions that nobody calls ask for their body when somebody does (`cached.Cached.body`)."""
    _thin(tree.body, "", called)
    return tree


def _thin(block: list[ast.stmt], prefix: str, called: frozenset[str]) -> None:
    names = [node.name for node in block if isinstance(node, ast.FunctionDef)]
    for node in block:
        if isinstance(node, ast.ClassDef):
            _thin(node.body, f"{prefix}{node.name}.", called)
        elif isinstance(node, ast.FunctionDef):
            name = prefix + node.name
            # Two of one name can't be told apart (a property and its setter), and ``super`` needs its class.
            if name not in called and names.count(node.name) == 1 and not _small(node) and not _asks_its_class(node):
                node.body = [_asking(node, name)]


def _small(node: ast.FunctionDef) -> bool:
    return sum(1 for part in node.body for _ in ast.walk(part)) <= SMALL


def _asks_its_class(node: ast.FunctionDef) -> bool:
    return any(isinstance(part, ast.Name) and part.id in ("super", "__class__") for part in ast.walk(node))


def _asking(node: ast.FunctionDef, name: str) -> ast.stmt:
    """Return the statement that calls the body with what the function was given."""
    given = [arg.arg for arg in (*node.args.posonlyargs, *node.args.args)]
    given += [f"*{node.args.vararg.arg}"] if node.args.vararg else []
    given += [f"{arg.arg}={arg.arg}" for arg in node.args.kwonlyargs]
    given += [f"**{node.args.kwarg.arg}"] if node.args.kwarg else []
    (asking,) = ast.parse(f"return __loader__.body(__name__, {name!r})({', '.join(given)})").body
    for part in ast.walk(asking):
        if isinstance(part, (ast.expr, ast.stmt)):
            part.lineno = part.end_lineno = node.lineno
    return asking
