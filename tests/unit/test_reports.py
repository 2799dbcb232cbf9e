"""A month's report: from the journal to a terminal, to JSON and to one HTML file."""

import json
import os
import re
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from remediator.clock import SystemClock
from remediator.core.alerts import Status
from remediator.core.attempts import AttemptState, Task
from remediator.core.case import Remediate
from remediator.core.months import Month, month_of
from remediator.core.observation import Fact
from remediator.core.report import Report
from remediator.database import Database
from remediator.errors import JournalError, ReportError
from remediator.journal.journal import FILE, Journal
from remediator.reports.file import html_of
from remediator.reports.making import make_report, newest_whole_month
from remediator.reports.tables import assumptions, remarks, tables
from tests.builders import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    RULE,
    TARGET,
    a_keepable,
    a_plan,
    a_rung,
    an_alert,
    an_extension,
    an_observation,
)
from tests.unit.engine_site import EngineSite
from tests.unit.stories import write_a_story
from tests.unit.test_cli import Done, remediator

MARCH = Month(2026, 3)
AFTER = MARCH.end + DAY
HOSTILE = "[red]<script>alert(1)</script>\x1b[2J\u202eeve\n" + "x" * 100_000
FIGURES = "GPU-hours returned"


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal.for_worker(tmp_path)
    yield journal
    journal.close()


def a_stop(
    journal: Journal, at: datetime, owner: str = "alice", fingerprint: str = "s", **context: Fact
) -> None:
    """Write a stop that ended at *at*, of an alert that began six minutes before."""
    begun = at - 6 * MINUTE
    alert = an_alert(fingerprint=fingerprint, starts_at=begun.isoformat())
    incident = journal.incidents.attach(
        alert, subject=f"container:{TARGET.id}", fault=RULE, delivery=1, at=begun, receiver="r"
    )
    assert incident is not None
    journal.incidents.name(incident, "train", owner)
    journal.decisions.warn(incident, alert.firing, TARGET.key, RULE, begun)
    act = Remediate(RULE, 0, a_rung())
    journal.decisions.decided(incident, alert, act, an_observation(), at - MINUTE, RULE)
    given = context or {"gpus": "0", "gpu_shares": "1", "gpu_watts": "50"}
    attempt = journal.attempts.plan(
        incident, a_plan(planned_at=at - MINUTE), Task(TARGET, context=given)
    )
    assert attempt is not None
    journal.attempts.claim(attempt, at - MINUTE)
    journal.attempts.move(attempt, AttemptState.SUCCEEDED, "it is gone", at)


def cell(report: Report, figure: str, column: int = 1) -> str:
    """Return what the table in short says of one figure."""
    [row] = [row for row in tables(report)[0].rows if row[0] == figure]
    return row[column]


def test_the_month_of_a_stop_is_told_in_figures(journal: Journal) -> None:
    a_stop(journal, NOON)
    journal.extensions.give(a_keepable(), an_extension(), "a demo")

    report = make_report(journal, "gpu1", MARCH, AFTER)

    assert report.finished
    assert report.figures.gpu_hours == 24
    assert report.figures.energy_kilowatt_hours == 1.2
    assert report.figures.alert_to_begun is not None
    assert report.figures.alert_to_begun.median_seconds == 300
    assert report.figures.alert_to_proven is not None
    assert report.figures.alert_to_proven.median_seconds == 360
    assert [(who.owner, who.warnings, who.then_extended) for who in report.warned] == [
        ("alice", 1, 1)
    ]
    assert [day.gpu_hours for day in report.days[:3]] == [12.0, 12.0, 0.0]
    assert cell(report, "energy not wasted, kWh") == "1.20"
    assert cell(report, "alert to proven action, median") == "6 min"


def test_an_extension_that_ends_one_is_none(journal: Journal) -> None:
    a_stop(journal, NOON)
    journal.extensions.give(a_keepable(), an_extension(until=NOON - HOUR), "taken back")

    assert make_report(journal, "gpu1", MARCH, AFTER).extended == ()


def test_a_month_is_compared_with_the_one_before(journal: Journal) -> None:
    a_stop(journal, datetime.fromisoformat("2026-01-31T12:00:00+00:00"), fingerprint="0")
    a_stop(journal, NOON - 3 * DAY, fingerprint="1")
    a_stop(journal, NOON, fingerprint="2")
    a_stop(journal, NOON + DAY, fingerprint="3", gpus="1", gpu_shares="0.5")

    report = make_report(journal, "gpu1", MARCH, AFTER)

    assert tables(report)[0].columns == ("figure", "2026-03", "2026-02", "change")
    assert cell(report, FIGURES, 3) == "0.0"
    assert cell(report, "actions succeeded", 3) == "+1 (+100%)"
    assert report.previous is not None
    assert report.previous.gpu_hours == 36
    assert cell(report, FIGURES, 2) == "36.0"
    assert "The energy is of the 24.0 GPU-hours" in tables(report)[0].note


def test_what_the_journal_lacks_is_not_compared_with(journal: Journal) -> None:
    a_stop(journal, NOON)

    report = make_report(journal, "gpu1", MARCH, NOON + 2 * HOUR)

    assert report.previous is None
    assert [remark.split(":")[0] for remark in remarks(report)] == [
        "The month is not over",
        "The journal goes back to 2026-03-01 11",
        "There is nothing to compare with",
    ]
    assert len(report.days) == 1


def test_what_was_not_measured_is_called_unknown(journal: Journal) -> None:
    a_stop(journal, NOON, gpus="0", gpu_shares="1")

    report = make_report(journal, "gpu1", MARCH, AFTER)

    assert cell(report, "energy not wasted, kWh") == "unknown"
    assert "no GPU that was returned had been measured" in tables(report)[0].note


def test_forgotten_incidents_move_the_journals_beginning(journal: Journal) -> None:
    for number, month in ((1, 1), (2, 2), (3, 3)):
        at = datetime.fromisoformat(f"2026-0{month}-10T12:00:00+00:00")
        a_stop(journal, at, fingerprint=str(number))
        journal.incidents.close(number, at + HOUR, "over")
    journal.forget(datetime.fromisoformat("2026-02-01T00:00:00+00:00"), 10)

    report = make_report(journal, "gpu1", Month(2026, 2), AFTER)

    assert report.is_partial
    assert f"{report.journal_since:%Y-%m-%d %H}" == "2026-02-10 13"
    with pytest.raises(ReportError, match="knows nothing of 2026-01: it goes back to 2026-02-10"):
        make_report(journal, "gpu1", Month(2026, 1), AFTER)


def test_a_month_that_has_not_begun_is_refused(journal: Journal) -> None:
    write_a_story(journal)

    with pytest.raises(ReportError, match="2026-04 has not begun yet: the newest month is 2026-03"):
        make_report(journal, "gpu1", MARCH.next, NOON)


def test_an_empty_journal_is_told_apart_from_a_quiet_month(journal: Journal) -> None:
    with pytest.raises(ReportError, match="no incident yet"):
        make_report(journal, "gpu1", MARCH, AFTER)
    write_a_story(journal)

    quiet = make_report(journal, "gpu1", MARCH.next, MARCH.next.end)

    assert quiet.figures.gpu_hours == 0
    assert cell(quiet, "energy not wasted, kWh") == "0.00"
    assert cell(quiet, "alert to proven action, median") == "unknown"
    assert len(tables(quiet)) == 1


class Fetched(HTMLParser):
    """What a browser would fetch, run or obey in a file."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "img", "link", "iframe", "object", "form", "base", "a"}:
            self.found.append(tag)
        self.found += [name for name, _ in attrs if name.startswith("on") or name == "src"]


def test_the_file_holds_everything_and_fetches_nothing(journal: Journal) -> None:
    a_stop(journal, NOON, owner=HOSTILE)

    html = html_of(make_report(journal, f"gpu1{HOSTILE}", MARCH, AFTER))

    fetched = Fetched()
    fetched.feed(html)
    assert fetched.found == []
    assert "url(" not in html
    assert "@import" not in html
    assert "&lt;script&gt;alert(1)" in html
    assert "\x1b" not in html
    assert "\u202e" not in html
    assert len(html) < 40_000
    assert "prefers-color-scheme: dark" in html
    for sentence in assumptions():
        assert sentence.replace("'", "&#39;") in html


def this_month(folder: Path, owner: str = "alice") -> Month:
    """Write a stop of an hour ago, by the clock that the command reads; return its month."""
    journal = Journal.for_worker(folder)
    at = SystemClock().now() - HOUR
    a_stop(journal, at, owner)
    journal.close()
    return month_of(at)


def report(folder: Path, *arguments: str) -> Done:
    return remediator(["report", *arguments], REMEDIATOR_STATE_DIR=str(folder))


def test_the_command_prints_tables(tmp_path: Path) -> None:
    month = this_month(tmp_path, HOSTILE)

    done = report(tmp_path, "--month", str(month))

    assert (done.code, done.err) == (0, "")
    assert re.search(r"GPU-hours returned +\d+\.\d", done.out)
    assert "[red]<script>alert(1)</script>[2Jeve" in done.out
    assert not re.search("[\x1b\u202e]", done.out)
    assert max(map(len, done.out.splitlines())) <= 260


def test_the_command_prints_json(tmp_path: Path) -> None:
    month = this_month(tmp_path, HOSTILE)

    done = report(tmp_path, "--month", str(month), "--json")

    found: dict[str, Any] = json.loads(done.out)
    assert found["figures"]["month"] == str(month)
    assert found["figures"]["alert_to_begun"]["median_seconds"] == 300
    assert found["figures"]["energy_kilowatt_hours"] >= 0
    assert found["previous"] is None
    assert len(found["owners"][0]["owner"]) == 200


def test_the_command_writes_a_file_in_place_of_the_last(tmp_path: Path) -> None:
    month = this_month(tmp_path)
    file = tmp_path / "month.html"
    file.write_text("of last month")
    file.chmod(0o640)

    done = report(tmp_path, "--month", str(month), "--html", str(file))

    assert (done.code, done.out, done.err) == (0, "", "")
    assert file.read_text().startswith("<!doctype html>")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [path.name for path in tmp_path.glob("*.html*")] == ["month.html"]


def test_what_is_no_plain_file_is_written_to_and_stays(tmp_path: Path) -> None:
    month = this_month(tmp_path)

    done = report(tmp_path, "--month", str(month), "--html", os.devnull)

    assert done.code == 0
    assert Path(os.devnull).is_char_device()
    assert report(tmp_path, "--month", str(month), "--html", "-").out.startswith("<!doctype html>")


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    month = this_month(tmp_path)
    file = tmp_path / "missing" / "month.html"

    done = report(tmp_path, "--month", str(month), "--html", str(file))

    assert (done.code, done.out) == (1, "")
    assert done.err == f"remediator: cannot write {file}: No such file or directory\n"


@pytest.mark.parametrize("month", ["2026-13", "october", ""])
def test_what_is_no_month_is_wrong_usage(tmp_path: Path, month: str) -> None:
    done = report(tmp_path, "--month", month)

    assert done.code == 2
    assert f'"{month}" is not a month such as 2026-10' in done.err


def test_without_a_month_it_is_the_last_that_is_over(tmp_path: Path) -> None:
    this_month(tmp_path)
    last = newest_whole_month(SystemClock().now())

    done = report(tmp_path)

    assert done.code == 1
    assert f"the journal knows nothing of {last}" in done.err


def test_the_report_is_made_while_the_worker_works(tmp_path: Path) -> None:
    """A worker that writes is waited for by nobody, and finds its journal as it left it."""
    site = EngineSite(tmp_path, clock=SystemClock())
    with site.working():
        for number in range(20):
            site.deliver(an_alert({"container_id": "c" * 64}, fingerprint=f"{number:016}"))
            site.deliver(
                an_alert(
                    {"container_id": "c" * 64},
                    fingerprint=f"{number:016}",
                    status=Status.RESOLVED,
                )
            )
            done = report(tmp_path, "--month", str(month_of(SystemClock().now())), "--json")
            assert done.code == 0
            assert json.loads(done.out)["figures"]["incidents"] > number // 20

    assert site.ask("PRAGMA integrity_check") == [("ok",)]
    site.close()


def test_a_long_history_costs_a_month_only_its_own(tmp_path: Path) -> None:
    """Whatever a report asks goes through an index, also where incidents have been forgotten."""
    journal = Journal.for_worker(tmp_path)
    for number in (1, 2):
        a_stop(journal, NOON, fingerprint=str(number))
        journal.incidents.close(number, NOON + number * HOUR, "over")
    journal.forget(NOON + 90 * MINUTE, 10)
    asked: list[str] = []
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.row_factory = sqlite3.Row
        connection.set_trace_callback(asked.append)
        make_report(
            Journal(Database(connection, JournalError, tmp_path / FILE)), "gpu1", MARCH, AFTER
        )
        connection.set_trace_callback(None)
        plans = [connection.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall() for sql in asked]
    journal.close()

    assert len(asked) > 7
    assert [row["detail"] for plan in plans for row in plan if row["detail"][:4] == "SCAN"] == []


def test_days_are_those_of_utc(journal: Journal) -> None:
    a_stop(journal, MARCH.begin + timedelta(hours=1))

    days = make_report(journal, "gpu1", MARCH, AFTER).days

    assert [day.gpu_hours for day in days[:3]] == [23.0, 1.0, 0.0]
