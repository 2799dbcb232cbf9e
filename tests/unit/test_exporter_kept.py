"""What the exporter shows of extensions, from the worker's journal."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from remediator.core.extensions import Keepable
from remediator.core.limits import LimitsBook
from remediator.core.targets import Container
from remediator.exporter.collectors import Collector, Scrape
from remediator.exporter.containers import collect_limits
from remediator.exporter.kept import Kept
from remediator.exporter.view import View, basis_of
from remediator.journal.extensions import Run
from remediator.journal.journal import FILE, Journal
from tests.builders import DAY, HOUR, MINUTE, NOON, TARGET, a_keepable, an_extension
from tests.eventually import eventually
from tests.fakes import HandClock
from tests.unit.test_limits_exporter import ALICES, a_view, values

RUN: Run = (TARGET.id, TARGET.started_at)
KEPT = "ds01_container_keep_alive_until_seconds"
ALICES_RUN: Run = (ALICES.facts.id, NOON)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal.for_worker(tmp_path)
    yield journal
    journal.close()


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path, HandClock(), every=MINUTE / 6000)


def keep(journal: Journal, hours: int = 1, kept: Keepable | None = None) -> None:
    journal.extensions.give(kept or a_keepable(), an_extension(NOON + hours * HOUR), "")


def test_without_a_journal_nobody_is_kept(kept: Kept) -> None:
    kept.look()

    assert kept.until == {}


def test_an_extension_is_seen_and_so_is_its_end(kept: Kept, journal: Journal) -> None:
    keep(journal)
    kept.look()
    assert kept.until == {RUN: NOON + HOUR}

    keep(journal, hours=0)
    kept.look()
    assert kept.until == {}


def test_while_nothing_changes_it_is_the_same_object(kept: Kept, journal: Journal) -> None:
    keep(journal)
    kept.look()
    before = kept.until
    journal.operations.pause("driver update", "bob", NOON)
    kept.look()

    assert kept.until is before


def test_an_old_run_is_not_this_one(kept: Kept, journal: Journal) -> None:
    keep(journal, kept=a_keepable(Container(TARGET.id, NOON)))
    kept.look()

    assert list(kept.until) == [(TARGET.id, NOON)]


def test_a_journal_that_cannot_be_read_takes_nothing_away(
    kept: Kept, journal: Journal, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep(journal)
    kept.look()
    journal.close()
    (tmp_path / FILE).write_bytes(b"no database" * 1000)
    for _ in range(3):
        kept.look()

    assert kept.until == {RUN: NOON + HOUR}
    assert caplog.text.count("extensions are not shown") == 1


def test_a_journal_that_is_gone_keeps_nobody(kept: Kept, journal: Journal, tmp_path: Path) -> None:
    keep(journal)
    kept.look()
    journal.close()
    (tmp_path / FILE).unlink()
    kept.look()

    assert kept.until == {}


def test_it_looks_by_itself(kept: Kept, journal: Journal) -> None:
    kept.start()
    try:
        keep(journal)
        eventually(lambda: RUN in kept.until, 5, "the extension to be seen")
    finally:
        kept.stop()


@pytest.mark.parametrize(
    ("touched", "extended", "until"),
    [
        pytest.param(None, None, None, id="neither"),
        pytest.param(None, NOON + HOUR, NOON + HOUR, id="extended"),
        pytest.param(NOON - HOUR, NOON + HOUR, NOON + 23 * HOUR, id="the file lasts longer"),
        pytest.param(NOON - DAY, NOON + HOUR, NOON + HOUR, id="the extension lasts longer"),
    ],
)
def test_what_lasts_longer_is_shown(touched, extended, until) -> None:  # type: ignore[no-untyped-def]
    view = a_view(LimitsBook())
    (alices,) = view.residents
    times = None if touched is None else (touched, touched)
    kept = {} if extended is None else {ALICES_RUN: extended}
    view = replace(view, residents=(replace(alices, keep_alive=times),), kept=kept)

    assert values(collect_limits(view)).get(KEPT) == (until and until.timestamp())


def test_an_extension_of_an_earlier_run_is_not_shown() -> None:
    view = replace(a_view(LimitsBook()), kept={(ALICES.facts.id, NOON - HOUR): NOON + HOUR})

    assert KEPT not in values(collect_limits(view))


def test_the_next_scrape_shows_it() -> None:
    """What depends on nothing else that changed is not collected anew."""
    view = a_view(LimitsBook())
    views: list[View] = [view, replace(view, kept={ALICES_RUN: NOON + HOUR})]
    scrape = Scrape([Collector("limits", collect_limits, basis_of)], lambda: views.pop(0))

    found = [values(iter(scrape.collect())).get(KEPT) for _ in range(2)]

    assert found == [None, (NOON + HOUR).timestamp()]
