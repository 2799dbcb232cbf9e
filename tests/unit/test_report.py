"""What a month's report says of what the journal kept."""

from dataclasses import replace
from datetime import timedelta

import pytest

from remediator.core.attempts import AttemptState
from remediator.core.delays import Delays
from remediator.core.months import Month
from remediator.core.report import (
    DayHours,
    Ended,
    Extended,
    Held,
    Material,
    Outcomes,
    OwnerReturns,
    OwnerWarnings,
    Report,
    Warned,
    Ways,
    actions_of,
    days_of,
    figures_of,
    held_of,
    owners_of,
    warned_of,
    ways_of,
)
from remediator.core.returned import Stop
from tests.builders import DAY, HOUR, MINUTE, NOON

MARCH = Month(2026, 3)
AFTER = MARCH.end + DAY


def ended(
    state: AttemptState = AttemptState.SUCCEEDED,
    remediation: str = "stop-container",
    *,
    after: timedelta | None = 6 * MINUTE,
    took: timedelta = MINUTE,
    acts: bool = True,
) -> Ended:
    """Return an attempt that began some time *after* its alert, and ended a while later."""
    started = None if after is None else NOON + after
    return Ended(remediation, state, NOON, started, (started or NOON) + took, acts)


def test_hours_of_other_months_are_not_in_it() -> None:
    """A stop an hour before the month still gives back in it; one at its end does so after it."""
    early = Stop(MARCH.begin - HOUR, "alice", {"0": 1.0}, None, {"0": 100.0})
    late = Stop(MARCH.end - HOUR, "bob", {"1": 1.0}, None, {"1": 50.0})
    material = Material(stops=[early, late])

    figures = figures_of(MARCH, material, AFTER)

    assert figures.gpu_hours == 24
    assert figures.energy_kilowatt_hours == 2.35
    assert figures.energy_measured_gpu_hours == 24
    assert owners_of(MARCH, material, AFTER) == (
        OwnerReturns("alice", 23.0, 2.3, 0),
        OwnerReturns("bob", 1.0, 0.05, 1),
    )


def test_what_was_not_measured_is_unknown_and_nothing_needs_no_measure() -> None:
    unmeasured = Material(stops=[Stop(NOON, "alice", {"0": 1.0})])

    assert figures_of(MARCH, unmeasured, AFTER).energy_kilowatt_hours is None
    assert owners_of(MARCH, unmeasured, AFTER)[0].energy_kilowatt_hours is None
    assert figures_of(MARCH, Material(), AFTER).energy_kilowatt_hours == 0


def test_a_month_that_is_not_over_is_counted_up_to_now() -> None:
    material = Material(stops=[Stop(NOON, "alice", {"0": 1.0})])
    now = NOON + 2 * HOUR

    assert figures_of(MARCH, material, now).gpu_hours == 2
    assert days_of(MARCH, material, now) == (DayHours(NOON.date(), 2.0),)
    assert len(days_of(MARCH, material, AFTER)) == 31


def test_the_time_to_act_is_of_what_acted_and_to_its_proof_of_what_was_proven() -> None:
    material = Material(
        attempts=[
            ended(),
            ended(after=10 * MINUTE, took=5 * MINUTE),
            ended(AttemptState.FAILED, after=20 * MINUTE),
            ended(AttemptState.REFUSED, after=HOUR),
            ended(after=None, took=2 * HOUR),
            ended(remediation="notify-only", after=9 * HOUR, acts=False),
            replace(ended(after=9 * HOUR), alert_at=None),
        ]
    )

    figures = figures_of(MARCH, material, AFTER)

    assert figures.alert_to_begun == Delays(3, 600, 1200, 1200)
    assert figures.alert_to_proven == Delays(3, 900, 7200, 7200)
    assert (figures.succeeded, figures.failed) == (4, 1)


def test_restarts_are_told_apart_and_everything_is_counted() -> None:
    material = Material(
        attempts=[
            ended(remediation="restart-dcgm"),
            ended(remediation="restart-service"),
            ended(AttemptState.FAILED, "restart-dcgm"),
        ],
        holds={"warned": (4, 2), "exempt": (1, 1)},
        warnings=[Warned("alice", "container:c", NOON)],
        extensions=[Extended("c", "link", NOON)],
        incidents=7,
        put_back=3,
    )

    figures = figures_of(MARCH, material, AFTER)

    assert (figures.restarts, figures.holds, figures.put_back) == (2, 5, 3)
    assert (figures.warnings, figures.extensions, figures.incidents) == (1, 1, 7)
    assert figures.alert_to_begun == Delays(3, 360, 360, 360)


def test_actions_are_counted_by_how_they_ended() -> None:
    attempts = [
        ended(),
        ended(),
        ended(AttemptState.REFUSED),
        ended(AttemptState.FAILED, "kill-orphan"),
    ]

    assert actions_of(attempts) == (
        Outcomes("kill-orphan", 0, 1, 0),
        Outcomes("stop-container", 2, 0, 1),
    )


def test_the_commonest_reason_to_hold_comes_first() -> None:
    held = held_of({"warned": (2, 2), "paused": (9, 1), "exempt": (2, 1)})

    assert held == (Held("paused", 9, 1), Held("exempt", 2, 1), Held("warned", 2, 2))


def test_an_extension_follows_a_warning_about_the_same_container() -> None:
    warnings = [
        Warned("alice", "container:a", NOON),
        Warned("alice", "container:b", NOON),
        Warned("", "gpu:GPU-0", NOON),
    ]
    extensions = [
        Extended("a", "link", NOON + MINUTE),
        Extended("b", "cli", NOON - MINUTE),
        Extended("GPU-0", "cli", NOON + MINUTE),
    ]

    assert warned_of(warnings, extensions) == (
        OwnerWarnings("alice", 2, 1),
        OwnerWarnings("unknown", 1, 0),
    )
    assert ways_of(extensions) == (Ways("cli", 2), Ways("link", 1))


@pytest.mark.parametrize(
    ("began", "partial"), [(MARCH.begin, False), (MARCH.begin - DAY, False), (NOON, True)]
)
def test_a_month_before_the_journal_began_is_partial(began: object, partial: bool) -> None:
    report = Report(
        host="gpu1",
        since=MARCH.begin,
        until=MARCH.end,
        finished=True,
        journal_since=began,  # type: ignore[arg-type]
        figures=figures_of(MARCH, Material(), AFTER),
        previous=None,
        days=(),
        owners=(),
        actions=(),
        held=(),
        warned=(),
        extended=(),
    )

    assert report.is_partial is partial
