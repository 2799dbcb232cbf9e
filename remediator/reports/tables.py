"""A report as tables: the same for a terminal, a file and the page."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

from remediator.core.delays import Delays
from remediator.core.durations import humanize
from remediator.core.report import Figures, Report

UNKNOWN = "unknown"
_WAYS = {"cli": "command line", "link": "link in a notice", "page": "page"}
_UNDER = 0.05

Number = float | int


@dataclass(frozen=True, slots=True)
class Table:
    """One table; every column but the first holds numbers. ``note`` says what they mean."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Figure:
    """A line of the overview: what it is called, its value, and how that is written."""

    name: str
    value: Callable[[Figures], Number | None]
    written: Callable[[Number], str]


_ASSUMPTIONS = (
    "A GPU-hour is returned where a GPU was free because an idle container had been stopped: until"
    " its own max runtime, for 24 hours at most, and until the next stop on the same GPU.",
    "Energy not wasted is what the GPU drew right before the stop, held idle, by the driver's own"
    " meter, times the hours returned. It assumes that the container would have kept it at that"
    " draw; what a free GPU draws all the same is not taken off. Where nothing was measured (MIG"
    " devices, GPUs without a meter, stops by an older version) it is unknown, and left out.",
    "The time from alert to action begins with the alert's startsAt, by Prometheus's clock. A"
    " warning and an approval that come before are part of it.",
    "A month is one of UTC. What the journal has forgotten (keep_incidents) is not in it.",
)


def headline(report: Report) -> str:
    """Return what the report is about, in a line."""
    so_far = "" if report.finished else ", unfinished"
    return f"Remediator on {report.host}, {report.figures.month}{so_far}"


def remarks(report: Report) -> tuple[str, ...]:
    """Return what a reader must know before the numbers."""
    said = []
    if not report.finished:
        until = f"{report.until:%Y-%m-%d %H:%M}"
        said.append(f"The month is not over: this is what it brought until {until} UTC.")
    if report.is_partial:
        said.append(
            f"The journal goes back to {report.journal_since:%Y-%m-%d %H:%M} UTC: what was before"
            " is missing."
        )
    if report.previous is None:
        said.append("There is nothing to compare with: the journal lacks some of the month before.")
    elif not report.finished:
        said.append(f"It is compared with all of {report.previous.month}.")
    return tuple(said)


def assumptions() -> tuple[str, ...]:
    """Return what the figures mean and assume, in sentences."""
    return _ASSUMPTIONS


def tables(report: Report) -> tuple[Table, ...]:
    """Return everything but the days, in the order of reading; empty tables are left out."""
    return tuple(table for table in _tables(report) if table.rows)


def table_of_days(report: Report) -> Table:
    """Return the GPU-hours returned on each day."""
    rows = tuple((f"{day.day:%a %d %b}", _hours(day.gpu_hours)) for day in report.days)
    return Table("GPU-hours returned by day", ("day", "GPU-hours"), rows)


def _tables(report: Report) -> Iterator[Table]:
    yield _overview(report)
    yield Table(
        "GPU-hours returned by user",
        ("user", "GPU-hours", "kWh", "stops"),
        tuple(
            (who.owner, _hours(who.gpu_hours), _energy(who.energy_kilowatt_hours), f"{who.stops}")
            for who in report.owners
        ),
        "Whose containers had been stopped. Stops of the month before can give back in this one.",
    )
    yield Table(
        "From alert to action",
        ("until", "times", "median", "95 %", "longest"),
        tuple(_delays(report.figures)),
    )
    yield Table(
        "Actions",
        ("remediation", "succeeded", "failed", "refused"),
        tuple(
            (done.remediation, f"{done.succeeded}", f"{done.failed}", f"{done.refused}")
            for done in report.actions
        ),
        "Refused is what was called off before anything was changed.",
    )
    yield Table(
        "Held, by reason",
        ("reason", "holds", "incidents"),
        tuple((held.reason, f"{held.holds}", f"{held.incidents}") for held in report.held),
    )
    yield Table(
        "Warned, and extended then",
        ("user", "warnings", "then extended"),
        tuple((who.owner, f"{who.warnings}", f"{who.then_extended}") for who in report.warned),
        "A keep-alive file is no extension: what it kept is held as exempt.",
    )
    yield Table(
        "Extensions, by way",
        ("way", "extensions"),
        tuple((_WAYS.get(way.via, way.via), f"{way.extensions}") for way in report.extended),
    )


def _overview(report: Report) -> Table:
    now, before = report.figures, report.previous
    columns: tuple[str, ...] = ("figure", now.month)
    if before is not None:
        columns += (before.month, "change")
    rows = []
    for figure in _FIGURES:
        row: tuple[str, ...] = (figure.name, _written(figure, now))
        if before is not None:
            row += (_written(figure, before), _change(figure, now, before))
        rows.append(row)
    return Table("In short", columns, tuple(rows), _measured(now))


def _measured(figures: Figures) -> str:
    if figures.energy_kilowatt_hours is None:
        return "The energy is unknown: no GPU that was returned had been measured."
    if figures.gpu_hours - figures.energy_measured_gpu_hours > _UNDER:
        return (
            f"The energy is of the {_hours(figures.energy_measured_gpu_hours)} GPU-hours for which"
            " the draw had been measured."
        )
    return ""


def _written(figure: _Figure, figures: Figures) -> str:
    value = figure.value(figures)
    return UNKNOWN if value is None else figure.written(value)


def _change(figure: _Figure, now: Figures, before: Figures) -> str:
    new, old = figure.value(now), figure.value(before)
    if new is None or old is None:
        return UNKNOWN
    sign = "+" if new > old else "-" if new < old else ""
    share = f" ({sign}{abs(new - old) / old:.0%})" if old and sign else ""
    return f"{sign}{figure.written(abs(new - old))}{share}"


def _delays(figures: Figures) -> Iterator[tuple[str, ...]]:
    for until, delays in (
        ("begun", figures.alert_to_begun),
        ("proven", figures.alert_to_proven),
    ):
        if delays is not None:
            yield (
                until,
                f"{delays.times}",
                _span(delays.median_seconds),
                _span(delays.p95_seconds),
                _span(delays.longest_seconds),
            )


def _hours(hours: Number) -> str:
    return f"{hours:.1f}"


def _energy(kilowatt_hours: Number | None) -> str:
    return UNKNOWN if kilowatt_hours is None else f"{kilowatt_hours:.2f}"


def _span(seconds: Number) -> str:
    return humanize(timedelta(seconds=min(seconds, 1e9)))


def _median(delays: Delays | None) -> float | None:
    return None if delays is None else delays.median_seconds


_FIGURES = (
    _Figure("GPU-hours returned", lambda it: it.gpu_hours, _hours),
    _Figure("energy not wasted, kWh", lambda it: it.energy_kilowatt_hours, _energy),
    _Figure("alert to proven action, median", lambda it: _median(it.alert_to_proven), _span),
    _Figure("incidents opened", lambda it: it.incidents, str),
    _Figure("actions succeeded", lambda it: it.succeeded, str),
    _Figure("actions failed", lambda it: it.failed, str),
    _Figure("decisions to hold", lambda it: it.holds, str),
    _Figure("warnings", lambda it: it.warnings, str),
    _Figure("extensions", lambda it: it.extensions, str),
    _Figure("services restarted", lambda it: it.restarts, str),
    _Figure("effects put back", lambda it: it.put_back, str),
)
