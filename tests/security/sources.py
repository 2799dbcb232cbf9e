"""The product's own source, as it is installed."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import remediator

PACKAGE = Path(remediator.__file__).parent


@functools.cache
def modules() -> tuple[tuple[str, ast.Module], ...]:
    """Return every module of the product: its path from the package, and its syntax tree."""
    return tuple(
        (str(path.relative_to(PACKAGE)), ast.parse(path.read_text(encoding="utf-8")))
        for path in sorted(PACKAGE.rglob("*.py"))
    )


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call with the dotted name of what is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node
