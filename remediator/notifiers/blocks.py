"""Tell the paragraphs, lists and commands of a notice's plain text apart, for its HTML.

The HTML is made of the plain text, so that a site which rewrites the one has rewritten both.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

_SIGNATURE = "-- "


@dataclass(frozen=True, slots=True)
class Block:
    """Lines that belong together; ``kind`` is ``text``, ``list`` or ``command``."""

    kind: str
    lines: tuple[str, ...]
    leads_to_list: bool = False


def blocks(body: str) -> tuple[Block, ...]:
    """Return the parts of a plain text in order, without its signature.

    A line that is indented by four spaces is a command, and one that begins with ``  - `` is an
    item of a list; texts of labels cannot do either, since they never start a line.
    """
    return tuple(_blocks(body))


def _blocks(body: str) -> Iterator[Block]:
    words = body.split(f"\n{_SIGNATURE}\n", maxsplit=1)[0]
    for paragraph in re.split(r"\n\s*\n", words):
        lines = [line for line in paragraph.splitlines() if line.strip()]
        groups = [(kind, tuple(found)) for kind, found in groupby(lines, _kind)]
        for number, (kind, found) in enumerate(groups):
            following = groups[number + 1][0] if number + 1 < len(groups) else ""
            stripped = tuple(line.strip().removeprefix("- ") for line in found)
            kept = stripped if kind == "list" else tuple(line.strip() for line in found)
            yield Block(kind, kept, leads_to_list=following == "list")


def _kind(line: str) -> str:
    if line.startswith("  - "):
        return "list"
    return "command" if line.startswith("    ") else "text"
