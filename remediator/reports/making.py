"""Make the report of a month from the journal, or say why there is none."""

from dataclasses import replace
from datetime import datetime

from remediator.core import report as core
from remediator.core.months import Month, month_of
from remediator.core.notices import clean
from remediator.errors import ReportError
from remediator.journal.journal import Journal


def newest_whole_month(now: datetime) -> Month:
    """Return the last month that is over."""
    return month_of(now).previous


def make_report(journal: Journal, host: str, month: Month, now: datetime) -> core.Report:
    """Return the report of *month*, up to *now* if that is in it; ReportError says why not.

    Names that others chose are clean in it.
    """
    if month.begin > now:
        raise ReportError(f"{month} has not begun yet: the newest month is {month_of(now)}")
    since = journal.months.since()
    if since is None:
        raise ReportError("the journal has no incident yet: there is nothing to report")
    if month.end <= since:
        raise ReportError(f"the journal knows nothing of {month}: it goes back to {since:%Y-%m-%d}")
    material = _cleaned(journal.months.material(month))
    return core.Report(
        host=clean(host),
        since=month.begin,
        until=min(month.end, now),
        finished=month.end <= now,
        journal_since=since,
        figures=core.figures_of(month, material, now),
        previous=_figures_before(journal, month, since, now),
        days=core.days_of(month, material, now),
        owners=core.owners_of(month, material, now),
        actions=core.actions_of(material.attempts),
        held=core.held_of(material.holds),
        warned=core.warned_of(material.warnings, material.extensions),
        extended=core.ways_of(material.extensions),
    )


def _figures_before(
    journal: Journal, month: Month, since: datetime, now: datetime
) -> core.Figures | None:
    """Return the month before in numbers; None where some of it is missing."""
    before = month.previous
    if since > before.begin:
        return None
    return core.figures_of(before, journal.months.material(before), now)


def _cleaned(material: core.Material) -> core.Material:
    return replace(
        material,
        stops=[replace(stop, owner=clean(stop.owner)) for stop in material.stops],
        warnings=[replace(warned, owner=clean(warned.owner)) for warned in material.warnings],
    )
