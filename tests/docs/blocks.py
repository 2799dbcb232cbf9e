"""The fenced blocks of the documents, and the commands that they and the text around them name.

A block says by its language what it is, and so how it is tested:

- ``sh``: lines to type; each is run here (`test_commands`), or `registry` names the test that does.
- ``console``: a command after ``$``, with what it really prints; it is run and compared.
- ``yaml``: a part of a file, which the product's own readers take (`test_blocks`).
- ``text``, ``ini``: anything else; `registry` names the test that compares it.
"""

import re
import shlex
from dataclasses import dataclass
from textwrap import dedent

from tests.docs.documents import ROOT, documents

OTHERS = ("compose/systemd/README.md",)
LANGUAGES = ("sh", "console", "yaml", "text", "ini")
_FENCE = re.compile(r"^( *)```(.*)\n((?:.*\n)*?) *```$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block: where it begins, its language, and its text."""

    document: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def commands(self) -> list[str]:
        """The commands of a block to type, without comments."""
        bare = (re.sub(r"\s+# .*$|^# .*$", "", line) for line in self.text.splitlines())
        return [line for line in bare if line]


def texts() -> dict[str, str]:
    """Return all documents that have blocks: the README, the pages and the one of the units."""
    return {**documents(), **{path: (ROOT / path).read_text() for path in OTHERS}}


def blocks(*languages: str) -> list[Block]:
    """Return the blocks in *languages*, or all."""
    found = []
    for path, text in texts().items():
        for match in _FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(path, line, match[2], dedent(match[3])))
    return [block for block in found if not languages or block.language in languages]


def inline(*programs: str) -> dict[str, str]:
    """Return each command of *programs* that stands in backquotes in a line, with its document."""
    found = {}
    for path, text in texts().items():
        for code in re.findall(r"`([^`\n]+)`", _FENCE.sub("", text)):
            if code.partition(" ")[0] in programs and " " in code:
                found[code] = path
    return found


def words(command: str) -> list[str]:
    """Return the words of a command as a shell would make them, up to a redirection."""
    return shlex.split(command.partition(" > ")[0])
