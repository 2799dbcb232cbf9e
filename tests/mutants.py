"""Break each guard of the decision in turn, and see a test fail: `make mutants`.

    python -m tests.mutants [MODULE...]

Each mutant changes one comparison, one boolean or one returned value of `remediator.core`. It is
run by the tests of the decision in a process of its own; one that survives is printed, and the
exit status is 1 unless it is known to be equivalent.
"""

import ast
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "remediator" / "core"
MODULES = ("guards", "decision", "proposal", "budgets", "policy", "case", "approvals")
KILLERS = tuple(f"tests/unit/test_{name}.py" for name in ("decision", "budgets", "policy_values"))

# Survivors that no test can kill, and why. The text is that of the mutated line.
EQUIVALENT: dict[str, str] = {}

_SWAPS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}


@dataclass(frozen=True)
class Mutant:
    """One changed module; *before* and *after* are the changed piece of code."""

    module: str
    line: int
    before: str
    after: str
    tree: ast.Module

    def __str__(self) -> str:
        return f"{self.module}.py:{self.line}: {self.before}  ->  {self.after}"


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """Return what *node* may be changed to."""
    if isinstance(node, ast.Compare):
        yield from _other_comparisons(node)
    elif isinstance(node, ast.BoolOp):
        changed_bool = copy.deepcopy(node)
        changed_bool.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield changed_bool
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield node.operand
    elif isinstance(node, ast.Return) and not _is_nothing(node.value):
        yield ast.Return(ast.Constant(None))
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        changed_sum = copy.deepcopy(node)
        changed_sum.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        yield changed_sum


def _other_comparisons(node: ast.Compare) -> Iterator[ast.AST]:
    for number, operator in enumerate(node.ops):
        for other in _SWAPS.get(type(operator), ()):
            changed = copy.deepcopy(node)
            changed.ops[number] = other()
            yield changed
        if type(operator) not in _SWAPS:
            # in, and its opposite
            yield ast.UnaryOp(ast.Not(), node)


def _is_nothing(value: ast.expr | None) -> bool:
    return value is None or (isinstance(value, ast.Constant) and value.value is None)


def mutants(module: str) -> Iterator[Mutant]:
    """Return every mutant of *module*."""
    tree = ast.parse((CORE / f"{module}.py").read_text())
    for number, node in enumerate(ast.walk(tree)):
        for change in changes(node):
            mutated = copy.deepcopy(tree)
            _Replace(list(ast.walk(mutated))[number], change).visit(mutated)
            line = getattr(node, "lineno", 0)
            before, after = ast.unparse(node), ast.unparse(change)
            yield Mutant(module, line, before, after, ast.fix_missing_locations(mutated))


class _Replace(ast.NodeTransformer):
    def __init__(self, node: ast.AST, by: ast.AST) -> None:
        self._node, self._by = node, by

    def visit(self, node: ast.AST) -> ast.AST:
        """Return the change in the place of the node."""
        return self._by if node is self._node else self.generic_visit(node)


class _Mutated(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a changed tree."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, name: str, path: object, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return that it is ours."""
        del path, target
        if name != f"remediator.core.{self._mutant.module}":
            return None
        return importlib.util.spec_from_loader(name, self)

    def exec_module(self, module: ModuleType) -> None:
        """Run the changed code."""
        exec(compile(self._mutant.tree, f"<{self._mutant.module}>", "exec"), module.__dict__)  # noqa: S102


def survives(mutant: Mutant | None) -> bool:
    """Tell whether the tests pass with *mutant*; without one, with the code as it is."""
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        if mutant is not None:
            sys.meta_path.insert(0, _Mutated(mutant))
        options = ["-x", "-q", "-p", "no:cacheprovider", "--no-header"]
        os._exit(int(pytest.main([*options, *KILLERS])) & 0xFF)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def main(modules: Sequence[str]) -> int:
    """Try all mutants of *modules*; return the exit status."""
    os.chdir(ROOT)
    loaded = [name for name in sys.modules if name.startswith("remediator")]
    assert not loaded, f"what is imported already cannot be changed: {loaded}"
    assert survives(None), "the tests fail without any change"
    tried, unknown = 0, 0
    for mutant in (mutant for module in modules for mutant in mutants(module)):
        tried += 1
        if survives(mutant):
            why = EQUIVALENT.get(f"{mutant.before} -> {mutant.after}")
            unknown += why is None
            print(f"{mutant}  ({why or 'SURVIVES'})", flush=True)
    print(f"{tried} mutants tried, {unknown} of them survive unexplained")
    return int(unknown > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or MODULES))
