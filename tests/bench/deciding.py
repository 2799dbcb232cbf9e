"""What one decision costs, by how much is remembered, and by how long the policy is."""

import statistics
import time
from dataclasses import replace
from datetime import timedelta

from remediator.core.attempts import PastAttempt
from remediator.core.case import Case
from remediator.core.decision import decide
from remediator.core.matchers import Matcher
from remediator.core.policy import Limit, PolicyRule
from tests.bench.pace import IN_EARNEST, Pace
from tests.bench.report import Amount, Result, Table, below, number
from tests.builders import (
    DAY,
    HOUR,
    NOON,
    a_case,
    a_policy,
    a_rule,
    a_rung,
    an_alert,
    an_attempt,
    an_observation,
)
from tests.peers.stage import Stage

_TIMES = 2000
# What the journal hands over is bounded by the limits of a policy, whatever it holds.
_REMEMBERED = (0, 10, 40)
_RULES = (1, 10, 50)


def bench_deciding(stage: Stage, pace: Pace = IN_EARNEST) -> Result:
    """Measure `decide` for a case that may be remediated: all guards are asked."""
    del stage
    found = {
        remembered: [_microseconds(case, pace) for case in _cases(remembered)]
        for remembered in _REMEMBERED
    }
    worst = max(max(costs) for costs in found.values())
    spread = worst / min(min(costs) for costs in found.values())
    policies = [*(f"{rules} policy rules" for rules in _RULES), "50, a ladder, budgets"]
    table = Table(
        "`decide`, in microseconds",
        ("attempts handed over", *policies),
        [(str(remembered), *map(number, costs)) for remembered, costs in found.items()],
        [
            "The journal hands over what the decision can depend on, which the limits bound;"
            f" the dearest case takes {number(spread)} times as long as the cheapest.",
            "In the last column the policy rule has three rungs with two limits each, its"
            " remediation a budget, the container labels to be compared with `never`, and the"
            " alert a label that was added on the way.",
        ],
    )
    return Result([table], [below("`decide`, the dearest case", Amount(worst, "us"), 50)])


def _cases(remembered: int) -> list[Case]:
    longest = _others(max(_RULES) - 1)
    return [
        *(_case(_others(rules - 1), remembered) for rules in _RULES),
        _dearest(longest, remembered),
    ]


def _case(others: list[PolicyRule], remembered: int) -> Case:
    return a_case(a_policy(*others, a_rule()), attempts=_attempts(remembered))


def _dearest(others: list[PolicyRule], remembered: int) -> Case:
    """Return a case in which every limit, rung and label there can be is looked at."""
    limits = (Limit(50, HOUR), Limit(60, 7 * DAY))
    # Each of these is spent by the first ten attempts.
    spent = a_rung("stop-container", Limit(2, HOUR), Limit(3, 7 * DAY))
    policy = a_policy(
        *others,
        a_rule(spent, spent, a_rung("stop-container", *limits)),
        never=(Matcher("ds01.protected", "=", "true"), Matcher("team", "=~", "infra.*")),
        budget={"stop-container": limits},
        open_after=limits,
    )
    alert = an_alert({"container_id": "c" * 64})
    seen = an_observation(labels={"team": "vision"})
    return a_case(
        policy,
        alert=replace(alert, labels={**alert.labels, "cluster": "lab"}),
        attempts=_attempts(remembered, rungs=3),
        seen=replace(seen, confirmed_labels=alert.labels),
    )


def _attempts(remembered: int, rungs: int = 1) -> tuple[PastAttempt, ...]:
    return tuple(
        an_attempt(NOON - timedelta(days=2, minutes=one), rung=one % rungs)
        for one in range(remembered)
    )


def _others(count: int) -> list[PolicyRule]:
    return [a_rule(name=f"rule {one}", alertname=f"Other{one}") for one in range(count)]


def _microseconds(case: Case, pace: Pace) -> float:
    """Return the middle one of rounds, each over many decisions."""
    times = pace.of(_TIMES)
    taken = []
    for _ in range(2 * pace.rounds + 1):
        began = time.perf_counter()
        for _ in range(times):
            decide(case)
        taken.append((time.perf_counter() - began) / times * 1e6)
    return statistics.median(taken)
