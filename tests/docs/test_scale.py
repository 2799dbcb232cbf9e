"""The page about scale says what the model says, from what was measured last."""

import pytest

from tests.bench import scale
from tests.bench.report import facts

MEASURED = {
    "intake_1_per_s": 1000.0,
    "intake_1_cpu_ms": 0.2,
    "decided_per_s": 250.0,
    "delivery_row_bytes": 1500.0,
    "incident_rows_bytes": 3000.0,
    "memory_receiver_mib": 50.0,
    "memory_worker_mib": 45.0,
    "memory_exporter_mib": 29.0,
    "rules_8_ms": 10.0,
    "rules_64_ms": 66.0,
    "rules_512_ms": 514.0,
    "series_8": 1000.0,
    "series_64": 8000.0,
    "series_512": 64000.0,
}


def test_the_page_has_the_tables_of_the_model() -> None:
    text = scale.PAGE.read_text()

    assert scale.tables(facts()) in text
    assert scale.page(text) == text


def test_a_fleet_costs_what_its_hosts_cost() -> None:
    one, many = scale.fleet(MEASURED, 8), scale.fleet(MEASURED, 10_000)

    assert (one.hosts, many.hosts) == (1, 1250)
    assert many.rows_kept == 1250 * one.rows_kept
    assert many.deliveries_per_second == pytest.approx(1250 * 480 / 86_400)
    assert one.memory_gib == 124 / 1024


def test_a_storm_is_stored_and_decided_about() -> None:
    assert scale.storm_seconds(MEASURED, 10_000) == 10 + 40


@pytest.mark.parametrize(
    ("gpus", "expected"), [(8, 10), (36, 38), (64, 66), (512, 514), (1000, 1002)]
)
def test_rules_are_on_the_line_through_the_nearest_two(gpus: int, expected: float) -> None:
    assert scale.interpolated(MEASURED, "rules_{}_ms", gpus) == pytest.approx(expected)
