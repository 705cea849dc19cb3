"""Sizes and docstrings. What ruff checks (names, unused things, line length) isn't repeated here."""

from __future__ import annotations

import ast

import pytest
from source import Module, ids, modules, size

MOST_LINES = 400
MOST_CODE = 40
Function = ast.FunctionDef | ast.AsyncFunctionDef


@pytest.mark.parametrize("module", modules(), ids=ids)
def test_a_module_fits_in_the_head(module: Module) -> None:
    lines = module.text.count("\n")
    assert lines <= MOST_LINES, f"{lines} lines: make it two"


@pytest.mark.parametrize("module", modules(), ids=ids)
def test_a_function_fits_on_the_screen(module: Module) -> None:
    """Lines of code: blank lines, comments and the docstring don't count, functions inside it do."""
    functions = [node for node in ast.walk(module.tree) if isinstance(node, Function)]
    long = {
        f"{node.name} (line {node.lineno})": lines for node in functions if (lines := size(module, node)) > MOST_CODE
    }
    assert not long


@pytest.mark.parametrize("module", modules(), ids=ids)
def test_what_is_public_says_what_it_means(module: Module) -> None:
    assert ast.get_docstring(module.tree), "the module has no docstring"
    silent = []

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function | ast.ClassDef):
                if child.name.startswith("_") or "overload" in map(ast.unparse, child.decorator_list):
                    continue
                if not ast.get_docstring(child):
                    silent.append(f"line {child.lineno}: {child.name}")
                if isinstance(child, Function):
                    continue  # what a function keeps inside isn't public
            visit(child)

    visit(module.tree)
    assert not silent, "\n".join(silent)
