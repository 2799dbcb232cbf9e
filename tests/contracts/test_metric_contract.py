"""The exporter's families and the contract name the same, both ways."""

import pytest

from remediator.exporter import families
from remediator.exporter.families import Family
from tests.contracts.exporter_metrics import EXPORTER_METRICS, Row

FAMILIES = {family.name: family for family in vars(families).values() if isinstance(family, Family)}


def test_each_family_has_one_row() -> None:
    names = [row.name for row in EXPORTER_METRICS]

    assert sorted(names) == sorted(set(names))
    assert sorted(names) == sorted(FAMILIES)


@pytest.mark.parametrize("row", EXPORTER_METRICS, ids=lambda row: row.name)
def test_a_family_is_what_its_row_says(row: Row) -> None:
    metric = FAMILIES[row.name].of([])

    assert (metric.type, FAMILIES[row.name].labels) == (row.kind, row.labels)
    assert f"# TYPE {row.name} {row.kind}\n" in metric.text(openmetrics=False)


@pytest.mark.parametrize("row", EXPORTER_METRICS, ids=lambda row: row.name)
def test_a_row_says_something_of_itself(row: Row) -> None:
    help_text = FAMILIES[row.name].help

    assert help_text.endswith(".")
    assert len(help_text) > 10
