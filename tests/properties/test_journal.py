"""What the journal on disk keeps true whatever is asked of it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from remediator.core.alerts import Status
from remediator.core.attempts import IN_PROGRESS, LEGAL_MOVES, AttemptState
from remediator.journal.attempts import Need
from remediator.journal.journal import Journal
from tests.builders import NOON, OTHER_TARGET, SECOND, TARGET, a_plan, a_task, an_alert

TARGETS = [TARGET, OTHER_TARGET]
states = st.sampled_from(AttemptState)


@contextmanager
def a_journal() -> Iterator[Journal]:
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal.for_worker(Path(folder))
        journal.incidents.attach(
            an_alert(), subject="s", fault="f", delivery=1, at=NOON, receiver="r"
        )
        try:
            yield journal
        finally:
            journal.close()


@settings(max_examples=30, deadline=None)
@given(st.lists(states, max_size=12))
def test_no_sequence_of_moves_leaves_an_end_state(wanted: list[AttemptState]) -> None:
    with a_journal() as journal:
        attempt = journal.attempts.plan(1, a_plan(), a_task())
        assert attempt is not None
        expected = AttemptState.PLANNED
        for number, state in enumerate(wanted):
            moved = journal.attempts.move(attempt, state, state.value, NOON + number * SECOND)
            assert moved is (state in LEGAL_MOVES[expected])
            expected = state if moved else expected
            record = journal.attempts.attempt(attempt)
            assert record is not None
            assert record.state is expected
            assert (record.ended_at is None) is (expected in IN_PROGRESS)


plans = st.tuples(st.just("plan"), st.sampled_from(TARGETS), states)
moves = st.tuples(st.just("move"), st.integers(1, 8), states)
claims = st.tuples(st.just("claim"), st.integers(1, 8), states)


@settings(max_examples=30, deadline=None)
@given(st.lists(plans | moves | claims, max_size=25))
def test_never_are_two_attempts_in_progress_on_one_target(
    steps: list[tuple[str, object, AttemptState]],
) -> None:
    with a_journal() as journal:
        for what, which, state in steps:
            if what == "plan":
                assert which in TARGETS
                target = TARGETS[TARGETS.index(which)]  # type: ignore[arg-type]
                journal.attempts.plan(1, a_plan(target), a_task(target))
            elif what == "move":
                journal.attempts.move(int(str(which)), state, "", NOON)
            else:
                journal.attempts.claim(int(str(which)), NOON)
            keys = [record.target_key for record in journal.attempts.unsettled()]
            assert len(keys) == len(set(keys))
            past = journal.attempts.past(Need(None, ()), NOON)
            assert [attempt.target_key for attempt in past] == keys


deliveries = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([TARGET.id, OTHER_TARGET.id]),
        st.sampled_from(Status),
        st.booleans(),
    ),
    max_size=25,
)


@settings(max_examples=30, deadline=None)
@given(deliveries)
def test_every_firing_that_still_fires_belongs_to_an_open_incident(
    sequence: list[tuple[str, str, Status, bool]],
) -> None:
    """However deliveries and closings mix: what fires is looked at, and each subject once."""
    with a_journal() as journal:
        for number, (fingerprint, subject, status, close) in enumerate(sequence, start=2):
            incident = journal.incidents.attach(
                an_alert(fingerprint=fingerprint, status=status),
                subject=subject,
                fault="f",
                delivery=number,
                at=NOON + timedelta(seconds=number),
                receiver="r",
            )
            firing = status is Status.FIRING
            assert incident is not None or not firing
            if incident is not None:
                found = journal.incidents.incident(incident)
                assert found is not None
                assert found.closed_at is None or not firing
                assert incident in journal.incidents.due(NOON + timedelta(days=1)) or not firing
            if close and incident is not None:
                journal.incidents.close(incident, NOON, "x")
            opened = [i.subject for i in journal.incidents.latest(99, only_open=True)]
            assert len(opened) == len(set(opened))
