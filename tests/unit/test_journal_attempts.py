import contextlib
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.core.attempts import LEGAL_MOVES, AttemptState, PastAttempt, Task
from remediator.core.budgets import Quota
from remediator.core.policy import Limit
from remediator.core.targets import (
    Named,
    PhysicalGpu,
    Process,
    Service,
    Subject,
    Target,
    UnstartedContainer,
)
from remediator.errors import JournalError
from remediator.journal.attempts import AttemptRecord, Need, StepRecord
from remediator.journal.journal import FILE, Journal
from tests.builders import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    OTHER_TARGET,
    TARGET,
    a_plan,
    a_task,
    an_alert,
)

# The shortest way to each state.
WAYS = {
    AttemptState.PLANNED: [],
    AttemptState.RUNNING: [AttemptState.RUNNING],
    AttemptState.SUCCEEDED: [AttemptState.RUNNING, AttemptState.SUCCEEDED],
    AttemptState.FAILED: [AttemptState.RUNNING, AttemptState.FAILED],
    AttemptState.REFUSED: [AttemptState.REFUSED],
    AttemptState.UNKNOWN: [AttemptState.RUNNING, AttemptState.UNKNOWN],
}


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    opened = Journal.for_worker(folder)
    opened.incidents.attach(
        an_alert(), subject="container:c", fault="f", delivery=1, at=NOON, receiver="r"
    )
    yield opened
    opened.close()


def planned(journal: Journal, target: Target = TARGET, at: timedelta = timedelta()) -> int:
    attempt = journal.attempts.plan(1, a_plan(target, NOON + at), a_task(target))
    assert attempt is not None
    return attempt


def brought_to(journal: Journal, state: AttemptState, target: Target = TARGET) -> int:
    attempt = planned(journal, target)
    for step in WAYS[state]:
        assert journal.attempts.move(attempt, step, "on its way", NOON + MINUTE)
    return attempt


def record(journal: Journal, attempt: int) -> AttemptRecord:
    found = journal.attempts.attempt(attempt)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "task",
    [
        Task(TARGET),
        Task(Named(Subject("host", "n:9100"))),
        Task(Process(4711, 123456, "b00t"), options={"wait": timedelta(seconds=10)}),
        Task(UnstartedContainer("c1", NOON)),
        Task(PhysicalGpu("GPU-1"), options={"limit": 70}),
        Task(Service("dcgm.service", "gpu1"), options={"unit": "10m", "none": None}),
        Task(
            TARGET,
            timeout=timedelta(minutes=3, milliseconds=5),
            verify_within=timedelta(0),
            options={"grace": timedelta(seconds=90), "remove": True, "other": None},
            context={"name": "größe\n'\"", "n": 3, "x": 0.5, "yes": False, "nothing": None},
            seen_at=NOON,
        ),
    ],
    ids=["container", "named", "process", "unstarted", "gpu", "service", "everything"],
)
def test_a_plan_is_read_back_as_it_was_made(journal: Journal, task: Task) -> None:
    attempt = journal.attempts.plan(1, a_plan(task.target), task)

    assert attempt is not None
    assert record(journal, attempt) == AttemptRecord(
        id=attempt,
        incident=1,
        policy_rule="idle container",
        rung=0,
        remediation="stop-container",
        target_key=task.target.key,
        task=task,
        state=AttemptState.PLANNED,
        planned_at=NOON,
        started_at=None,
        ended_at=None,
        message=None,
    )
    assert record(journal, attempt).task.target.key == task.target.key


def test_an_attempt_belongs_to_an_incident(journal: Journal) -> None:
    with pytest.raises(JournalError, match="FOREIGN KEY constraint failed"):
        journal.attempts.plan(99, a_plan(), a_task())


@pytest.mark.parametrize("state", AttemptState)
def test_there_is_never_a_second_attempt_in_progress_on_a_target(
    journal: Journal, state: AttemptState
) -> None:
    brought_to(journal, state)

    second = journal.attempts.plan(1, a_plan(), a_task())
    elsewhere = journal.attempts.plan(1, a_plan(OTHER_TARGET), a_task(OTHER_TARGET))

    in_progress = {AttemptState.PLANNED, AttemptState.RUNNING, AttemptState.UNKNOWN}
    assert (second is None) is (state in in_progress)
    assert elsewhere is not None


def test_a_planned_attempt_is_claimed_once(journal: Journal) -> None:
    attempt = planned(journal)

    assert journal.attempts.claim(attempt, NOON + MINUTE)
    assert not journal.attempts.claim(attempt, NOON + 2 * MINUTE)

    assert record(journal, attempt).state is AttemptState.RUNNING
    assert record(journal, attempt).started_at == NOON + MINUTE


@pytest.mark.parametrize("state", [state for state in AttemptState if state.name != "PLANNED"])
def test_only_what_is_planned_can_be_claimed(journal: Journal, state: AttemptState) -> None:
    assert not journal.attempts.claim(brought_to(journal, state), NOON)


def test_what_is_not_there_can_neither_be_claimed_nor_moved(journal: Journal) -> None:
    assert not journal.attempts.claim(7, NOON)
    assert not journal.attempts.move(7, AttemptState.FAILED, "x", NOON)
    assert journal.attempts.attempt(7) is None


@pytest.mark.parametrize("state", AttemptState)
@pytest.mark.parametrize("wanted", AttemptState)
def test_only_legal_moves_are_made(
    journal: Journal, state: AttemptState, wanted: AttemptState
) -> None:
    attempt = brought_to(journal, state)
    before = record(journal, attempt)

    moved = journal.attempts.move(attempt, wanted, "moved", NOON + HOUR)

    after = record(journal, attempt)
    assert moved is (wanted in LEGAL_MOVES[state])
    if moved:
        assert (after.state, after.message) == (wanted, "moved")
        is_over = not LEGAL_MOVES[wanted]
        assert after.ended_at == (NOON + HOUR if is_over else None)
    else:
        assert after == before


def test_attempts_that_may_still_change_something_are_unsettled(journal: Journal) -> None:
    targets = [Named(Subject("host", state.value)) for state in AttemptState]
    for state, target in zip(AttemptState, targets, strict=True):
        brought_to(journal, state, target)

    unsettled = [attempt.state for attempt in journal.attempts.unsettled()]

    assert unsettled == [AttemptState.PLANNED, AttemptState.RUNNING, AttemptState.UNKNOWN]


def test_an_incidents_attempts_are_told_in_order(journal: Journal) -> None:
    first = brought_to(journal, AttemptState.FAILED)
    second = planned(journal)

    assert [attempt.id for attempt in journal.attempts.of_incident(1)] == [first, second]
    assert journal.attempts.of_incident(2) == []


def past(
    journal: Journal, *quotas: Quota, target: Target | None = TARGET, without: int | None = None
) -> list[tuple[str, AttemptState]]:
    """What a decision about *target* reads at NOON, in order."""
    need = Need(target.key if target else None, quotas)
    found = journal.attempts.past(need, NOON, without)
    return [(attempt.target_key, attempt.state) for attempt in found]


def test_the_past_is_what_counts_on_the_target_and_all_that_is_in_progress(
    journal: Journal,
) -> None:
    refused = planned(journal)
    journal.attempts.move(refused, AttemptState.REFUSED, "x", NOON)
    for at in (-32 * DAY, -30 * DAY):
        attempt = planned(journal, at=at)
        journal.attempts.claim(attempt, NOON)
        journal.attempts.move(attempt, AttemptState.FAILED, "x", NOON)
    hanging = planned(journal, OTHER_TARGET, at=-40 * DAY)
    journal.attempts.claim(hanging, NOON)

    failed, running = (
        (TARGET.key, AttemptState.FAILED),
        (OTHER_TARGET.key, AttemptState.RUNNING),
    )
    assert past(journal) == [failed, running]
    assert past(journal, without=hanging) == [failed]
    assert past(journal, target=None) == [running]


def test_of_a_quota_the_newest_are_read_that_fill_it(journal: Journal) -> None:
    for at in (-3 * HOUR, -2 * HOUR, -HOUR):
        attempt = planned(journal, OTHER_TARGET, at=at)
        journal.attempts.claim(attempt, NOON)
        journal.attempts.move(attempt, AttemptState.SUCCEEDED, "x", NOON)

    def read(limit: Limit, *, after: timedelta = -9 * HOUR, name: str = "stop-container") -> int:
        return len(past(journal, Quota(frozenset({name}), (limit,), NOON + after)))

    assert read(Limit(1, DAY)) == 1
    assert read(Limit(2, DAY)) == 2
    assert read(Limit(4, DAY)) == 0
    assert read(Limit(3, 3 * HOUR)) == 0
    assert read(Limit(3, DAY), after=-3 * HOUR) == 3
    assert read(Limit(3, DAY), after=timedelta.resolution - 3 * HOUR) == 0
    assert read(Limit(1, DAY), name="notify-only") == 0


def test_the_past_knows_when_an_attempt_ended(journal: Journal) -> None:
    brought_to(journal, AttemptState.SUCCEEDED)

    assert journal.attempts.past(Need(TARGET.key, ()), NOON) == (
        PastAttempt(
            TARGET.key,
            "idle container",
            0,
            "stop-container",
            AttemptState.SUCCEEDED,
            NOON,
            NOON + MINUTE,
        ),
    )


def test_a_step_is_written_before_it_is_done_and_settled_after(journal: Journal) -> None:
    attempt = planned(journal)
    first = journal.attempts.begin_step(attempt, "stop", "with 60 s of grace", NOON)
    journal.attempts.end_step(first, "exit code 0", NOON + MINUTE)
    journal.attempts.begin_step(attempt, "remove", "with its volumes", NOON + MINUTE)

    assert journal.attempts.steps(attempt) == [
        StepRecord("stop", "with 60 s of grace", NOON, NOON + MINUTE, "exit code 0"),
        StepRecord("remove", "with its volumes", NOON + MINUTE, None, None),
    ]
    assert journal.attempts.steps(attempt + 1) == []


def test_the_database_itself_refuses_a_second_attempt_in_progress(
    journal: Journal, folder: Path
) -> None:
    planned(journal)
    copy = (
        "INSERT INTO attempt (incident, policy_rule, rung, remediation, target, task, state,"
        " planned_at) SELECT incident, policy_rule, rung, remediation, target, task, 'unknown',"
        " planned_at FROM attempt"
    )

    with contextlib.closing(sqlite3.connect(folder / FILE)) as raw:  # noqa: SIM117
        with pytest.raises(sqlite3.IntegrityError):
            raw.execute(copy)
