"""The measurements at a glance: they work, and they measure what they say."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from remediator.inbox.store import Inbox
from remediator.journal.journal import Journal
from tests.bench import report, scale
from tests.bench.__main__ import main
from tests.bench.backtest import bench_backtest
from tests.bench.commits import bench_commits
from tests.bench.crowded import bench_crowded
from tests.bench.deciding import bench_deciding
from tests.bench.intake import bench_intake
from tests.bench.kept import seed
from tests.bench.pace import A_GLANCE
from tests.bench.parts import PARTS
from tests.bench.peers import delivery
from tests.bench.programs import cpu_seconds, family_of, memory_mib
from tests.bench.report import Result
from tests.bench.restarts import bench_restarts
from tests.peers.receiver import Receiver
from tests.peers.stage import Stage

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    ("part", "verdicts"),
    [
        pytest.param(bench_intake, 7, id="intake"),
        pytest.param(bench_crowded, 4, id="crowded"),
        pytest.param(bench_commits, 1, id="commits"),
        pytest.param(bench_restarts, 1, id="restarts"),
        pytest.param(bench_deciding, 1, id="deciding"),
        pytest.param(bench_backtest, 1, id="backtest"),
    ],
)
def test_a_part_measures_all_its_rows(
    stage: Stage, part: Callable[..., Result], verdicts: int
) -> None:
    result = part(stage, A_GLANCE)

    assert len(result.verdicts) == verdicts
    assert all(verdict.value > 0 for verdict in result.verdicts)
    assert all(len(row) == len(table.head) for table in result.tables for row in table.rows)


def test_the_command_writes_what_it_measured(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("RESULTS", "DATA"):
        copy = folder / getattr(report, name).name
        copy.write_bytes(getattr(report, name).read_bytes())
        monkeypatch.setattr(report, name, copy)
    page = folder / "SCALE.md"
    page.write_bytes(scale.PAGE.read_bytes())
    monkeypatch.setattr(scale, "PAGE", page)
    before = json.loads(report.DATA.read_text())["parts"]

    main(["deciding"], A_GLANCE)

    after = json.loads(report.DATA.read_text())["parts"]
    assert [name for name in after if after[name] != before[name]] == ["deciding"]
    assert report.RESULTS.read_text() == report.rendered(list(PARTS))
    assert "`decide`, the dearest case" in capsys.readouterr().out


def test_what_is_seeded_is_what_the_programs_read(stage: Stage) -> None:
    state = stage.folder / "state"
    seed(state, deliveries=50, incidents=20)

    inbox, journal = Inbox.for_worker(state / "inbox"), Journal.for_reading(state)
    assert inbox.newest() == journal.intake.mark().last_delivery == 50
    assert inbox.after(49)[0].body == delivery(1)
    assert journal.intake.mark().inbox == inbox.identity()
    newest = journal.incidents.latest(100)
    assert len(newest) == 20
    assert journal.incidents.firings(newest[0].id)[0].alert.name == "DS01ContainerIdle"
    assert newest[0].opened_at <= datetime.now(UTC)
    inbox.close()
    journal.close()


def test_a_programs_cost_is_that_of_all_its_processes(stage: Stage) -> None:
    receiver = Receiver(stage.folder / "receiver")
    receiver.start()
    try:
        family = family_of(receiver.daemon.pid)
        parts = [cpu_seconds(pid) for pid in family]

        assert len(family) == 2
        assert memory_mib(receiver.daemon.pid) > memory_mib(family[1]) > 1
        assert cpu_seconds(receiver.daemon.pid) > parts[1] > 0
    finally:
        receiver.stop()


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda journal: journal.attempts.unsettled(), id="unsettled attempts"),
        pytest.param(lambda journal: journal.incidents.due(datetime.now(UTC)), id="due incidents"),
        pytest.param(lambda journal: journal.notices.waiting(), id="waiting notices"),
        pytest.param(lambda journal: journal.incidents.latest(25), id="the newest incidents"),
    ],
)
def test_what_is_asked_at_each_round_does_not_look_through_what_is_over(
    stage: Stage, ask: Callable[[Journal], object]
) -> None:
    state = stage.folder / "state"
    seed(state, deliveries=1, incidents=5000)
    journal = Journal.for_reading(state)
    hundreds = []
    journal._database._connection.set_progress_handler(lambda: hundreds.append(1), 100)

    ask(journal)

    # Of SQLite's instructions, of which each row that is looked at takes several.
    assert len(hundreds) < 20
    journal.close()
