"""Label matchers as Alertmanager means them: ``name="value"``, ``!=``, ``=~``, ``!~``.

A label that is absent counts as empty, and a regular expression must match the whole value.
Source: https://prometheus.io/docs/alerting/latest/configuration/#matcher
"""

import functools
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# Label names are wider than Prometheus's own, since Docker's labels have dots and dashes.
_SHAPE = re.compile(
    r'\s*([A-Za-z_][\w.\-/]*)\s*(=~|!~|!=|=)\s*(?:"((?:[^"\\]|\\.)*)"|([^\s"{},]+))\s*', re.ASCII
)
_ESCAPES = {"n": "\n", '"': '"', "\\": "\\"}


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label."""

    label: str
    operator: str
    value: str

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether *labels* meet the condition."""
        actual = labels.get(self.label, "")
        if self.operator == "=":
            return actual == self.value
        if self.operator == "!=":
            return actual != self.value
        found = _compiled(self.value).fullmatch(actual) is not None
        return found == (self.operator == "=~")

    def __str__(self) -> str:
        value = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.label}{self.operator}"{value}"'


def parse_matcher(text: str) -> Matcher:
    """Return the matcher that *text* stands for; ValueError says what is wrong with it."""
    found = _SHAPE.fullmatch(text)
    if found is None:
        raise ValueError(f'not a matcher such as alertname="DS01ContainerIdle": {text[:80]!r}')
    label, operator, quoted, bare = found.groups()
    value = bare if quoted is None else re.sub(r"\\(.)", _unescape, quoted, flags=re.DOTALL)
    if operator in {"=~", "!~"}:
        try:
            with warnings.catch_warnings():
                # Python warns of what means something else in RE2, such as [[:alpha:]].
                warnings.simplefilter("error")
                re.compile(value)
        except (re.error, RecursionError, OverflowError, Warning) as error:
            raise ValueError(f"not a regular expression: {value[:80]!r}: {error}") from None
    return Matcher(label, operator, value)


@functools.lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    # `re` keeps fewer itself, makes all of a longer policy's anew, and is slower to find one.
    return re.compile(pattern, re.DOTALL)


def all_match(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Tell whether every matcher accepts *labels*."""
    # A generator takes as long as its matchers, for each rule and some times in each decision.
    for matcher in matchers:  # noqa: SIM110
        if not matcher.matches(labels):
            return False
    return True


def _unescape(found: re.Match[str]) -> str:
    return _ESCAPES.get(found[1], "\\" + found[1])
