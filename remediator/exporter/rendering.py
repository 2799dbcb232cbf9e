"""Metric families as the text that Prometheus reads.

prometheus_client's own encoder spends most of a scrape on making a dictionary of each sample's
labels and sorting it. Here every sample of a family has the same labels, so a line is one
template filled in, and a family that is served again unchanged keeps its lines.
"""

import math
from collections.abc import Iterable, Sequence

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Sample

_OPENMETRICS = "application/openmetrics-text"
_TOTAL = "_total"


class FilledFamily(Metric):
    """A metric family with its rows: for each series the values of *labels* and a number.

    *kind* is gauge or counter. To prometheus_client it is a metric like any other.
    """

    def __init__(
        self,
        name: str,
        documentation: str,
        kind: str,
        labels: Sequence[str],
        rows: Sequence[tuple[Sequence[str], float]],
    ) -> None:
        self._series = name
        self._labels = tuple(labels)
        self._rows = rows
        # At once, so that rows without sense are the trouble of the collector that made them.
        self._lines = _lines(name, self._labels, rows)
        base = name.removesuffix(_TOTAL) if kind == "counter" else name
        super().__init__(base, documentation, kind)

    @property
    def samples(self) -> list[Sample]:
        """The rows as prometheus_client has them, made anew for each who asks."""
        return [
            Sample(self._series, dict(zip(self._labels, values, strict=True)), number)
            for values, number in self._rows
        ]

    @samples.setter
    def samples(self, samples: list[Sample]) -> None:
        """Ignore the empty list that prometheus_client's constructor begins with."""

    def text(self, *, openmetrics: bool) -> str:
        """Return the family in Prometheus' text format, or in that of OpenMetrics."""
        # OpenMetrics speaks of a counter without the suffix that its series have.
        name = self.name if openmetrics else self._series
        help_text = self.documentation.replace("\\", r"\\").replace("\n", r"\n")
        if openmetrics:
            help_text = help_text.replace('"', r"\"")
        # Nor does it know counters whose series lack the suffix, as DCGM's do.
        is_known = not openmetrics or self.type != "counter" or self._series.endswith(_TOTAL)
        kind = self.type if is_known else "unknown"
        return f"# HELP {name} {help_text}\n# TYPE {name} {kind}\n{self._lines}"


def render(families: Iterable[FilledFamily], accept: str) -> tuple[bytes, str]:
    """Return *families* in the format that an ``Accept`` header asks for, and its content type."""
    _, content_type = choose_encoder(accept)
    openmetrics = content_type.startswith(_OPENMETRICS)
    parts = [family.text(openmetrics=openmetrics) for family in families]
    if openmetrics:
        parts.append("# EOF\n")
    # Half a character, which JSON can carry, must not cost everybody the whole answer.
    return "".join(parts).encode(errors="replace"), content_type


def _lines(name: str, labels: Sequence[str], rows: Iterable[tuple[Sequence[str], float]]) -> str:
    if not labels:
        return "".join([f"{name} {_number(number)}\n" for _, number in rows])
    pairs = ",".join(f'{label}="%s"' for label in labels)
    template = f"{name}{{{pairs}}} %s\n"
    return "".join(
        [template % (*map(_escaped, values), _number(number)) for values, number in rows]
    )


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    return value


def _number(number: float) -> str:
    if math.isfinite(number):
        return repr(float(number))
    if math.isnan(number):
        return "NaN"
    return "+Inf" if number > 0 else "-Inf"
