"""No text is ever handed to a shell, and no program is named by a text that is taken apart."""

import ast
import re

import pytest

from tests.security.sources import calls, modules

# What runs a shell by itself, or evaluates a text.
FORBIDDEN = re.compile(
    r"(os\.(system|popen|spawn\w+|exec[lv]\w*)|(subprocess\.)?getoutput|getstatusoutput"
    r"|pty\.spawn|eval|exec|compile|pickle\.\w+|marshal\.loads?|yaml\.(unsafe_)?load(_all)?"
    r"|asyncio\.create_subprocess_shell|__import__)"
)
RUNS = re.compile(r"(subprocess\.)?(run|call|check_call|check_output|Popen)")


def _shells(tree: ast.AST) -> list[str]:
    """Return the calls in *tree* that a shell could hide in."""
    found = []
    for name, call in calls(tree):
        if FORBIDDEN.fullmatch(name):
            found.append(name)
        if any(word.arg == "shell" for word in call.keywords):
            found.append(f"{name}(shell=)")
        first = call.args[0] if call.args else None
        is_text = isinstance(first, ast.JoinedStr | ast.Constant | ast.BinOp)
        if RUNS.fullmatch(name) and name.startswith("subprocess") and is_text:
            found.append(f"{name}(a text)")
    return found


def test_nothing_of_the_product_runs_a_shell() -> None:
    found = {name: bad for name, tree in modules() if (bad := _shells(tree))}

    assert found == {}


def test_programs_are_run_in_few_places_all_of_which_are_known() -> None:
    runs = {
        name
        for name, tree in modules()
        if any(re.fullmatch(r"subprocess\.(run|Popen|call|check_\w+)", n) for n, _ in calls(tree))
    }

    assert runs == {
        "actuators/nvidia_smi.py",
        "actuators/power.py",
        "notifiers/wall.py",
        "quiesce/foreground.py",
        "stack.py",
        "wiring/all_in_one.py",
    }


@pytest.mark.parametrize(
    "source",
    [
        "os.system(x)",
        "subprocess.run(x, shell=True)",
        "subprocess.run(f'ls {x}')",
        "subprocess.Popen('ls ' + x)",
        "yaml.load(x)",
        "pickle.loads(x)",
        "eval(x)",
    ],
)
def test_a_shell_would_be_found(source: str) -> None:
    assert _shells(ast.parse(source)) != []
