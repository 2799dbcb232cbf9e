"""What the pages say about limits and versions is so."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from tests.docs.blocks import blocks
from tests.docs.documents import ROOT, table

EXAMPLE: dict[str, Any] = yaml.safe_load((ROOT / "compose/limits.example.yaml").read_text())
OS = Path("/etc/os-release")
FLAG = {"ssh": "-V"}


def test_every_limit_of_the_example_is_explained_with_its_value() -> None:
    values = {**EXAMPLE["defaults"], **EXAMPLE["policies"]}

    assert {row[0]: row[1] for row in table("limits-keys")} == {
        f"`{name}`": f"`{value}`" for name, value in values.items()
    }


def test_the_expression_is_promql() -> None:
    (block,) = (b for b in blocks("text") if b.text.startswith("count_over_time"))

    assert promql_parser.parse(block.text)


def is_debian_12() -> bool:
    return OS.exists() and "VERSION_CODENAME=bookworm" in OS.read_text()


@pytest.mark.integration
@pytest.mark.skipif(not is_debian_12(), reason="the table is about Debian 12")
@pytest.mark.parametrize(("program", "version"), table("versions"))
def test_a_version_is_that_of_the_program_that_the_tests_run(
    program: str, version: str, require_tool: Callable[[str], str]
) -> None:
    name = program.strip("`")

    done = subprocess.run(
        [require_tool(name), FLAG.get(name, "--version")],
        capture_output=True,
        text=True,
        check=True,
    )

    found = re.search(r"\d+(?:\.\d+)*", done.stdout + done.stderr)
    assert found is not None
    assert f"{found[0]}.".startswith(f"{version}.")
