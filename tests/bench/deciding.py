"""What one decision costs, by how much is remembered, and by how long the policy is."""

import statistics
import time
from datetime import timedelta

from remediator.core.case import Case
from remediator.core.decision import decide
from remediator.core.matchers import Matcher
from remediator.core.policy import PolicyRule
from tests.bench.pace import IN_EARNEST, Pace
from tests.bench.report import Amount, Result, Table, below, number
from tests.builders import NOON, a_case, a_policy, a_rule, an_attempt
from tests.peers.stage import Stage

_TIMES = 2000
# What the journal hands over is bounded by the limits of a policy, whatever it holds.
_REMEMBERED = (0, 10, 40)
_RULES = (1, 10, 50)


def bench_deciding(stage: Stage, pace: Pace = IN_EARNEST) -> Result:
    """Measure `decide` for a case that may be remediated: all guards are asked."""
    del stage
    found = {
        (remembered, rules): _microseconds(_case(remembered, rules), pace)
        for remembered in _REMEMBERED
        for rules in _RULES
    }
    worst = max(found.values())
    spread = worst / min(found.values())
    table = Table(
        "`decide`, in microseconds",
        ("attempts handed over", *(f"{rules} policy rules" for rules in _RULES)),
        [
            (str(remembered), *(number(found[remembered, rules]) for rules in _RULES))
            for remembered in _REMEMBERED
        ],
        [
            "The journal hands over what the decision can depend on, which the limits bound;"
            f" the dearest case takes {number(spread)} times as long as the cheapest.",
        ],
    )
    return Result([table], [below("`decide`, the dearest case", Amount(worst, "us"), 50)])


def _case(remembered: int, rules: int) -> Case:
    others = [_other(number) for number in range(rules - 1)]
    attempts = tuple(an_attempt(NOON - timedelta(days=2, minutes=one)) for one in range(remembered))
    return a_case(a_policy(*others, a_rule()), attempts=attempts)


def _other(number_of: int) -> PolicyRule:
    return PolicyRule(
        name=f"rule {number_of}",
        matchers=(Matcher("alertname", "=", f"Other{number_of}"),),
        rungs=a_rule().rungs,
        mode=a_rule().mode,
        warn=None,
    )


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
