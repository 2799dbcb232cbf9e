"""The measurements' own tools: a bench that measures nothing would look fast."""

import re

import pytest

from remediator.exporter.rendering import render
from tests.bench.parts import PARTS
from tests.bench.report import RESULTS, Amount, Table, Verdict, at_least, at_most, below, rendered
from tests.bench.synthetic import GPUS_PER_HOST, all_families, page_of
from tests.bench.timing import measure, percentile


@pytest.mark.parametrize("dcgm", [True, False])
def test_a_synthetic_host_serves_every_family_with_rows(dcgm: bool) -> None:
    body, _ = render(page_of(3, dcgm=dcgm)(), "")
    # Not by a parser: they give DCGM's counters a suffix that these do not have.
    series = [line for line in body.decode().splitlines() if line[0] != "#"]
    served = {re.split("[{ ]", line, maxsplit=1)[0] for line in series}

    assert served == {f.name for f in all_families() if f.name.startswith("DCGM_") == dcgm}


def test_a_synthetic_host_has_no_series_twice() -> None:
    body, _ = render(page_of(0, dcgm=True)(), "")
    series = [line.rpartition(" ")[0] for line in body.decode().splitlines() if line[0] != "#"]

    assert len(series) == len(set(series))
    utilisation = [one for one in series if one.startswith("DCGM_FI_DEV_GPU_UTIL")]
    assert len(utilisation) == GPUS_PER_HOST + 2 * (GPUS_PER_HOST // 4)


def test_two_hosts_share_no_gpu_and_no_container() -> None:
    pages = [render(page_of(host, dcgm=False)(), "")[0].decode() for host in (0, 1)]
    series = [
        {line for line in page.splitlines() if line.startswith("ds01_container_gpu{")}
        for page in pages
    ]

    assert series[0]
    assert series[0].isdisjoint(series[1])


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 51), (99, 100), (100, 100)])
def test_percentiles_are_numbers_that_occurred(percent: float, expected: float) -> None:
    assert percentile([float(number) for number in range(100, 0, -1)], percent) == expected


def test_what_is_measured_is_done_each_time_and_once_before() -> None:
    done = []
    timing = measure(lambda: done.append(1), rounds=3, times=4, pause=0)

    assert len(done) == 13
    assert 0 <= timing.median <= timing.p99


def test_a_table_is_markdown() -> None:
    table = Table("Title", ("a", "b"), [("1", "2")], ["A note."])

    assert table.markdown() == "## Title\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\nA note.\n"


@pytest.mark.parametrize(
    ("verdict", "reached"),
    [
        (at_least("speed", Amount(15, "/s"), Amount(10, "/s"), 1.5), True),
        (at_least("speed", Amount(14, "/s"), Amount(10, "/s"), 1.5), False),
        (at_most("time", Amount(3, "ms"), Amount(4, "ms"), 0.75), True),
        (at_most("time", Amount(3.1, "ms"), Amount(4, "ms"), 0.75), False),
        (below("time", Amount(10, "ms"), 10), True),
        (below("time", Amount(10.1, "ms"), 10), False),
    ],
)
def test_what_is_reached_is_told_from_what_is_not(verdict: Verdict, reached: bool) -> None:
    assert verdict.reached is reached


def test_results_say_what_was_measured_last() -> None:
    assert RESULTS.read_text() == rendered(list(PARTS))
