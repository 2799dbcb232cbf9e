"""Labels that a rule sets, which may take over labels of the series: ``{{ $labels.instance }}``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from remediator.backtest.compiling import UnsupportedError

_REFERENCE = re.compile(r"\{\{\s*\$labels\.([A-Za-z_]\w*)\s*\}\}")


@dataclass(frozen=True, slots=True)
class LabelTemplate:
    """A label and its text, with references to other labels."""

    name: str
    text: str

    @staticmethod
    def of(name: str, text: str) -> "LabelTemplate":
        """Return the template; UnsupportedError if it holds more than references to labels."""
        if "{{" in _REFERENCE.sub("", text):
            message = f'label "{name}" holds a template that cannot be backtested: only labels can'
            raise UnsupportedError("", message)
        return LabelTemplate(name, text)

    def value(self, labels: Mapping[str, str]) -> str:
        """Return what it is for a series with *labels*."""
        return _REFERENCE.sub(lambda found: labels.get(found[1], ""), self.text)
