"""Our text against prometheus_client's own encoders, read back by its parsers."""

import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text
from prometheus_client.registry import Collector, CollectorRegistry

from remediator.exporter.families import Family, Row
from remediator.exporter.rendering import FilledFamily, render

TEXT = "text/plain;version=0.0.4"
OPENMETRICS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"
READERS = {TEXT: read_text, OPENMETRICS: read_openmetrics}
HOSTILE = 'a"b\\c\nd\\n{e="f",} 1\r\t# é\u2028'
GAUGE = Family("gauge_total", 'A "gauge"\nof \\ everything.', ("b", "a", "UUID"))
COUNTER = Family("seconds_total", "A counter.", ("b", "a", "UUID"), counter=True)

# Half characters cannot be written as UTF-8, by prometheus_client neither.
labels = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.just(HOSTILE)
numbers = st.floats() | st.integers(-(2**70), 2**70) | st.sampled_from([math.inf, -math.inf, 1e21])


class Served(Collector):
    """Families as a registry wants them."""

    def __init__(self, families: Iterable[FilledFamily]) -> None:
        self._families = tuple(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def encoded(families: Iterable[FilledFamily], accept: str) -> tuple[bytes, str]:
    """Return what prometheus_client itself would answer."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Served(families))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


def parsed(body: bytes, accept: str) -> list[tuple[str, str, str, list[tuple[object, ...]]]]:
    return [
        (
            metric.name,
            metric.type,
            metric.documentation,
            # NaN is equal to nothing, its text is.
            [(s.name, tuple(sorted(s.labels.items())), repr(s.value)) for s in metric.samples],
        )
        for metric in READERS[accept](body.decode())
    ]


def unique(rows: list[tuple[tuple[str, str, str], float]]) -> list[Row]:
    """Drop rows with the labels of an earlier one: a parser may refuse those."""
    return list({values: (values, number) for values, number in rows}.values())


@pytest.mark.parametrize("accept", READERS)
@given(rows=st.lists(st.tuples(st.tuples(labels, labels, labels), numbers), max_size=5))
def test_any_labels_and_numbers_read_as_prometheus_client_would_write_them(
    accept: str, rows: list[tuple[tuple[str, str, str], float]]
) -> None:
    counts = [(values, abs(n)) for values, n in rows if not math.isnan(n)]
    families = [
        GAUGE.of(unique(rows)),
        COUNTER.of(unique(counts)),
        Family("bare", "No labels.").of([((), 1.5)]),
        Family("empty", "No rows.", ("a",)).of([]),
    ]

    body, content_type = render(families, accept)

    expected, expected_type = encoded(families, accept)
    assert content_type == expected_type
    assert parsed(body, accept) == parsed(expected, accept)


@pytest.mark.parametrize(
    ("accept", "counter"),
    [
        (TEXT, "# TYPE seconds_total counter\n"),
        ("", "# TYPE seconds_total counter\n"),
        (OPENMETRICS, "# TYPE seconds counter\n"),
    ],
)
def test_each_dialect_has_its_own_head_and_end(accept: str, counter: str) -> None:
    body, content_type = render([COUNTER.of([(("x", "y", "z"), 1)])], accept)

    text = body.decode()
    assert counter in text
    assert 'seconds_total{b="x",a="y",UUID="z"} 1.0\n' in text
    assert text.endswith("# EOF\n") == content_type.startswith("application/openmetrics-text")


@pytest.mark.parametrize(
    ("number", "text"),
    [(math.nan, "NaN"), (math.inf, "+Inf"), (-math.inf, "-Inf"), (3, "3.0"), (1e300, "1e+300")],
)
def test_numbers_are_written_as_prometheus_reads_them(number: float, text: str) -> None:
    body, _ = render([Family("number", "A number.").of([((), number)])], TEXT)

    assert body.decode().splitlines()[-1] == f"number {text}"


def test_half_a_character_costs_only_itself() -> None:
    body, _ = render([GAUGE.of([(("\ud800", "b", "c"), 1)])], TEXT)

    assert 'gauge_total{b="?",a="b",UUID="c"} 1.0\n' in body.decode()


@pytest.mark.parametrize("values", [("a", "b"), ("a", "b", "c", "d"), ("a", "b", None)])
def test_rows_without_sense_are_refused_where_they_are_made(values: tuple[str, ...]) -> None:
    with pytest.raises(TypeError):
        GAUGE.of([(values, 1)])
