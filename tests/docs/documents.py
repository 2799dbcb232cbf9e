"""The README and the pages that are shipped with the program, as one body of text.

The pages are found in the installed package, since CI tests the wheel in a checkout without the
sources. A table may stand in any of them, between markers, but in one of them only.
"""

import re
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = "README.md"
FOLDER = "remediator/docs"


def documents() -> dict[str, str]:
    """Return the text of each document by its path in the repository."""
    pages = sorted(resources.files("remediator.docs").iterdir(), key=lambda page: page.name)
    found = {f"{FOLDER}/{p.name}": p.read_text() for p in pages if p.name.endswith(".md")}
    return {README: (ROOT / README).read_text(), **found}


def part(name: str) -> str:
    """Return what stands between the markers *name*; there must be exactly one such part."""
    text = "\n".join(documents().values())
    found = re.findall(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
    assert len(found) == 1, f"there must be one part between <!-- {name} --> and <!-- /{name} -->"
    return str(found[0])


def rows(name: str) -> list[str]:
    """Return the first cells of the table rows that begin with a word in backquotes."""
    return re.findall(r"^\| `([^`]+)` \|", part(name), re.MULTILINE)


def table(name: str) -> list[list[str]]:
    """Return the cells of each row of a table, without its heading."""
    lines = [line for line in part(name).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def words(name: str) -> set[str]:
    """Return every word in backquotes, and the last part of a dotted one."""
    quoted = re.findall(r"`([^`\n]+)`", part(name))
    return {piece for text in quoted for piece in (text, text.rpartition(".")[2], text.rstrip(":"))}
