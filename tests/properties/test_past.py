"""A decision reads few of the attempts there were, and is the same as if it read them all."""

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remediator.core.attempts import AttemptState, PastAttempt
from remediator.core.budgets import quotas_of
from remediator.core.case import Breaker, Case, History
from remediator.core.decision import decide, explain
from remediator.core.policy import Limit, Policy
from remediator.database import maybe, moment, stamp
from remediator.journal.attempts import Need
from remediator.journal.journal import FILE, Journal
from tests.builders import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    OTHER_TARGET,
    RULE,
    TARGET,
    a_policy,
    a_rule,
    a_rung,
    an_alert,
    an_observation,
)

REMEDIATIONS = ["stop-container", "restart-dcgm", "reset-gpu", "notify-only"]
MEMORY = timedelta(days=31)


@contextmanager
def a_journal() -> Iterator[tuple[Journal, Path]]:
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal.for_worker(Path(folder))
        journal.incidents.attach(
            an_alert(), subject="s", fault="f", delivery=1, at=NOON, receiver="r"
        )
        try:
            yield journal, Path(folder)
        finally:
            journal.close()


def write(folder: Path, attempts: list[PastAttempt]) -> None:
    """Put *attempts* into the journal as they are, whatever way led there."""
    connection = sqlite3.connect(folder / FILE)
    connection.executemany(
        "INSERT OR IGNORE INTO attempt (incident, policy_rule, rung, remediation, target, task,"
        " state, planned_at, ended_at) VALUES (1, ?, ?, ?, ?, '{}', ?, ?, ?)",
        [
            (
                attempt.policy_rule,
                attempt.rung,
                attempt.remediation,
                attempt.target_key,
                attempt.state.value,
                stamp(attempt.planned_at),
                stamp(attempt.ended_at) if attempt.ended_at else None,
            )
            for attempt in attempts
        ],
    )
    connection.commit()
    connection.close()


def all_there_is(folder: Path, now: datetime, without: int | None) -> tuple[PastAttempt, ...]:
    """Return what was read for a decision before it was made cheap: everything."""
    connection = sqlite3.connect(folder / FILE)
    connection.row_factory = sqlite3.Row
    rows = connection.execute(
        "SELECT * FROM attempt WHERE (planned_at > ? OR state IN ('planned', 'running', 'unknown'))"
        " AND id IS NOT ? ORDER BY id",
        (stamp(now - MEMORY), without),
    ).fetchall()
    connection.close()
    return tuple(
        PastAttempt(
            row["target"],
            row["policy_rule"],
            row["rung"],
            row["remediation"],
            AttemptState(row["state"]),
            moment(row["planned_at"]),
            maybe(moment, row["ended_at"]),
        )
        for row in rows
    )


def read(journal: Journal, case: Case, without: int | None = None) -> tuple[PastAttempt, ...]:
    """Return what the worker reads for a decision now."""
    rule = case.policy.rule_for(case.alert.labels)
    assert rule is not None
    quotas = quotas_of(case.policy, rule, case.history.breaker, case.now)
    return journal.attempts.past(Need(TARGET.key, quotas), case.now, without)


# Whole minutes, and few of them, so that windows and attempts often meet at their very edges.
minutes = st.integers(-180, 5).map(lambda number: NOON + number * MINUTE)
limits = st.builds(Limit, st.integers(1, 4), st.integers(1, 180).map(lambda n: n * MINUTE))
some_limits = st.lists(limits, min_size=1, max_size=2).map(tuple)
attempts = st.builds(
    PastAttempt,
    target_key=st.sampled_from([TARGET.key, OTHER_TARGET.key, "gpu:x"]),
    policy_rule=st.sampled_from([RULE, "another"]),
    rung=st.integers(0, 2),
    remediation=st.sampled_from(REMEDIATIONS),
    state=st.sampled_from(AttemptState),
    planned_at=minutes | st.just(NOON - MEMORY) | st.just(NOON - MEMORY - MINUTE),
    ended_at=st.none() | minutes,
)
rungs = st.builds(
    a_rung, st.sampled_from(REMEDIATIONS), limits, cooldown=st.integers(0, 90).map(MINUTE.__mul__)
)
policies = st.builds(
    lambda rungs, budget, open_after: a_policy(
        a_rule(*rungs), budget=budget, open_after=open_after
    ),
    st.lists(rungs, min_size=1, max_size=3),
    st.dictionaries(st.sampled_from(REMEDIATIONS), some_limits),
    some_limits,
)
breakers = st.builds(Breaker, st.none(), st.none() | minutes)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(attempts, max_size=25), policies, breakers, st.none() | st.integers(1, 25))
def test_what_is_read_leads_to_the_same_decision_as_everything(
    past: list[PastAttempt], policy: Policy, breaker: Breaker, without: int | None
) -> None:
    with a_journal() as (journal, folder):
        write(folder, past)
        blank = Case(an_alert(), policy, History(breaker=breaker), an_observation(), NOON)
        everything = all_there_is(folder, NOON, without)
        lean = read(journal, blank, without)

    with_all = replace(blank, history=History(attempts=everything, breaker=breaker))
    with_few = replace(blank, history=History(attempts=lean, breaker=breaker))
    assert set(lean) <= set(everything)
    assert decide(with_few) == decide(with_all)
    assert explain(with_few) == explain(with_all)


@pytest.mark.parametrize("count", [3, 1_000_000], ids=["full", "with room"])
def test_a_hundred_thousand_kept_attempts_make_no_decision_harder(count: int) -> None:
    """Counted in instructions of SQLite's virtual machine: time would depend on the machine."""
    policy = a_policy(
        open_after=(Limit(count, 10 * MINUTE),), budget={"stop-container": (Limit(count, HOUR),)}
    )
    case = Case(an_alert(), policy, History(), an_observation(), NOON)
    effort = {}
    for kept in (100, 100_000):
        step = 30 * DAY / kept
        past = [
            PastAttempt(f"container:{n}", RULE, 0, "stop-container", AttemptState.SUCCEEDED, at, at)
            for n in range(kept)
            for at in [NOON - n * step]
        ]
        with a_journal() as (journal, folder):
            write(folder, past)
            effort[kept] = instructions(journal, lambda: read(journal, case))

    # Of the hundred thousand, 138 lie in the last hour and may have to be counted; of the hundred
    # one. To read all would take some hundred thousand instructions more.
    assert effort[100_000] - effort[100] < 500


def instructions(journal: Journal, act: Callable[[], object]) -> int:
    """Return how many instructions of its machine SQLite needs for *act*, in tens."""
    tens = 0

    def count() -> None:
        nonlocal tens
        tens += 1

    connection = journal._database._connection
    connection.set_progress_handler(count, 10)
    act()
    connection.set_progress_handler(None, 0)
    return tens
