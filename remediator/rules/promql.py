"""Parsing PromQL, and saying where an expression breaks.

The parser says what is wrong but not where. A scan of the words finds the place: brackets that
do not pair, and two operands or two operators in a row.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import promql_parser as pql

_TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)
    |(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`[^`]*`)
    |(?P<number>(?:\d[\w.]*(?:(?<=[eE])[+-]\d+)?|\.\d+))
    |(?P<word>[A-Za-z_:][\w:]*)
    |(?P<operator>==|!=|<=|>=|=~|!~|[-+*/%^<>=@,])
    |(?P<bracket>[()\[\]{}])
    |(?P<other>.)""",
    re.VERBOSE,
)
_PAIRS = {")": "(", "]": "[", "}": "{"}
_INFIX = frozenset({"and", "or", "unless", "atan2"})
_MODIFIERS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
_SIGNS = frozenset("+-")
# The parser gives up its stack at some depth, and each level is copied once for each above it.
_DEEPEST = 100
_MOST_OPERATORS = 300
_TOO_MUCH = "too long or too deep to be checked: record a part of it by a rule of its own"
_NAMED = re.compile(r"name '([^']*)'|for (\S+)$|syntax: (\S+)|function '([^']*)'")


class PromqlError(ValueError):
    """An expression that is none; ``offset`` is where it breaks."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


def parse(text: str) -> pql.Expr:
    """Return the expression that *text* stands for; PromqlError if it is none."""
    offset = _too_much(text)
    if offset is not None:
        raise PromqlError(_TOO_MUCH, offset)
    try:
        return pql.parse(text)
    except ValueError as error:
        message, offset = _explain(text, str(error))
        raise PromqlError(message, offset) from None


def walk(expr: pql.Expr) -> Iterator[pql.Expr]:
    """Yield *expr* and everything in it, from the outside in."""
    found: list[pql.Expr] = []

    def visit(node: pql.Expr) -> bool:
        found.append(node)
        return True

    pql.walk(expr, pre_visit=visit)
    yield from found


def selectors(expr: pql.Expr) -> Iterator[pql.VectorSelector]:
    """Yield every selector of series in *expr*, those with a range included."""
    for node in walk(expr):
        if isinstance(node, pql.VectorSelector):
            yield node
        elif isinstance(node, pql.MatrixSelector):
            yield node.vector_selector


def metric_of(selector: pql.VectorSelector) -> str:
    """Return the metric that *selector* names, nothing if it may be any."""
    if selector.name:
        return selector.name
    for matcher in selector.matchers.matchers:
        if matcher.name == "__name__" and matcher.op == pql.MatchOp.Equal:
            return matcher.value
    return ""


def offset_of(text: str, word: str) -> int:
    """Return where *word* first stands in *text* by itself, 0 if it does not."""
    found = re.search(rf"(?<![\w:]){re.escape(word)}(?![\w:])", text)
    return found.start() if found else 0


def _too_much(text: str) -> int | None:
    """Return where *text* goes beyond what can be read in good time, None if it does not."""
    depth = operators = 0
    for found in _TOKEN.finditer(text):
        kind, word = found.lastgroup, found[0]
        depth += (word in _PAIRS.values()) - (word in _PAIRS) if kind == "bracket" else 0
        operators += kind == "operator" or word.lower() in _INFIX
        if depth > _DEEPEST or operators > _MOST_OPERATORS:
            return found.start()
    return None


def _explain(text: str, message: str) -> tuple[str, int]:
    if not text.strip():
        return "an expression is missing", 0
    broken = _broken(text)
    if broken is not None:
        return f"not PromQL: {broken[0]}", broken[1]
    named = _NAMED.search(message)
    word = next((part for part in named.groups() if part), "") if named else ""
    return f"not PromQL: {message}", max(text.find(word), 0) if word else 0


def _broken(text: str) -> tuple[str, int] | None:
    """Return what is wrong with the order of the words and where, None if that is fine."""
    scan = _Scan()
    for found in _TOKEN.finditer(text):
        if found.lastgroup == "space":
            continue
        wrong = scan.take(str(found.lastgroup), found[0], found.start())
        if wrong is not None:
            return wrong, found.start()
    return scan.end(len(text))


@dataclass(frozen=True, slots=True)
class _Open:
    """A bracket that is open: a list of labels is no operand, so what was before counts."""

    bracket: str
    offset: int
    is_list: bool
    had_operand: bool


class _Scan:
    """Whether an operand or an operator may come next, and which brackets are open."""

    def __init__(self) -> None:
        self._open: list[_Open] = []
        self._has_operand = False
        self._last = ""

    def take(self, kind: str, word: str, offset: int) -> str | None:
        """Take one word; return what is wrong with it here, if anything is."""
        last, self._last = self._last, word
        if kind == "other":
            return f'unexpected "{word}"'
        if word in _PAIRS:
            return self._close(word)
        if kind == "bracket":
            is_list = word != "(" or last.lower() in _MODIFIERS
            self._open.append(_Open(word, offset, is_list, self._has_operand or word != "("))
            self._has_operand = False
            return None
        if (self._open and self._open[-1].is_list) or word.lower() in {*_MODIFIERS, "bool"}:
            return None
        if word == ",":
            self._has_operand = False
            return None
        return self._plain(kind, word, last)

    def end(self, offset: int) -> tuple[str, int] | None:
        """Return what is wrong with an end at *offset*, if anything is."""
        if self._open:
            return f'"{self._open[-1].bracket}" is never closed', self._open[-1].offset
        if not self._has_operand:
            return f'something is missing after "{self._last}"', offset
        return None

    def _close(self, word: str) -> str | None:
        if not self._open or self._open[-1].bracket != _PAIRS[word]:
            return f'unexpected "{word}"'
        opened = self._open.pop()
        self._has_operand = opened.had_operand if opened.is_list else True
        return None

    def _plain(self, kind: str, word: str, last: str) -> str | None:
        if kind == "operator" or word.lower() in _INFIX:
            missing = not self._has_operand and word not in _SIGNS
            self._has_operand = False
            return f'something is missing before "{word}"' if missing else None
        if word.lower() == "offset":
            return None
        missing = self._has_operand and last.lower() != "offset"
        self._has_operand = True
        return f'an operator is missing before "{word}"' if missing else None
