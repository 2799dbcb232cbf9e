"""A backtest: rules and policies over a stretch of the past, side by side.

Which engine evaluates the rules was decided by measuring. Prometheus' own engine through ``promtool
test rules`` is exact, and took 14 minutes for a week of three GPUs at 60 s; range queries against a
server are quicker and cannot evaluate rules that read themselves, as the idle clock does. So the
rules are evaluated here, over all moments at once, and moment by moment only where a rule reads
itself: the same week in 10 s of processor time, and one of 200 containers at 30 s in 40 s, without
reading the samples. What PromQL is not known here is refused, and tests compare alerts and values
with those of promtool, which stays the judge.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from remediator.backtest.alert_states import Fired
from remediator.backtest.deciding import Outcome, decide_all, time_of
from remediator.backtest.evaluation import Evaluation
from remediator.backtest.facts import Facts
from remediator.backtest.history import History, Page, Stretch
from remediator.backtest.judging import Judged, judge
from remediator.backtest.rule_plan import Plan, Timing
from remediator.backtest.store import Scraped, Store
from remediator.core.case import HoldReason
from remediator.core.policy import Mode, Policy
from remediator.errors import SourceError


@dataclass(frozen=True, slots=True)
class Variant:
    """Rules and a policy that are tried together, under a *name* for people."""

    name: str
    plan: Plan
    policy: Policy


@dataclass(frozen=True, slots=True)
class Semantics:
    """How the Prometheus at hand looks at samples; see `Store`."""

    lookback: int = 300_000
    left_open: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """What one variant came to."""

    variant: Variant
    fired: tuple[Fired, ...]
    outcome: Outcome
    judged: tuple[Judged, ...]

    @property
    def hours(self) -> float:
        """The GPU-hours that would have been returned, as far as anybody can say."""
        return sum(one.hours or 0.0 for one in self.judged)

    @property
    def regretted(self) -> int:
        """How many stopped containers became busy again within the hour."""
        return sum(one.regretted for one in self.judged)

    def held(self) -> dict[HoldReason, int]:
        """Return how many firings were held for each reason before anything was done about them."""
        stories = self.outcome.stories
        counts = {reason: sum(one.held_by(reason) for one in stories) for reason in HoldReason}
        return {reason: count for reason, count in counts.items() if count}


@dataclass(frozen=True, slots=True)
class Span:
    """The stretch that is reported, and from when on rules are evaluated to know their state."""

    reported: Stretch
    warm_from: int

    @property
    def evaluated(self) -> Stretch:
        """Everything that is evaluated."""
        return Stretch(self.warm_from, self.reported.end)


class Backtest:
    """Runs the variants over one history."""

    def __init__(
        self, variants: Sequence[Variant], timing: Timing, semantics: Semantics = Semantics()
    ) -> None:
        self._variants = variants
        self._facts = Facts(timing)
        self._evaluations: dict[int, Evaluation] = {}
        self._stores: dict[int, Store] = {}
        for variant in variants:
            if id(variant.plan) not in self._evaluations:
                store = Store(semantics.lookback, semantics.left_open)
                self._stores[id(variant.plan)] = store
                self._evaluations[id(variant.plan)] = Evaluation(variant.plan, store)
        for metric, keep in self._facts.keep(semantics.lookback).items():
            scraped = self._first_store().scraped.setdefault(metric, Scraped(keep))
            scraped.keep = max(scraped.keep, keep)

    @property
    def metrics(self) -> frozenset[str]:
        """Every metric of which samples are needed."""
        return frozenset().union(*(store.scraped for store in self._stores.values()))

    def run(
        self,
        history: History,
        span: Span,
        page: int,
        taken: Callable[[Page], None] = lambda _: None,
    ) -> list[Result]:
        """Return what each variant came to; SourceError if there is not one sample.

        *taken* is told of each page once it has been worked on.
        """
        any_ = False
        for part in history.pages(self.metrics, span.evaluated, page):
            any_ = any_ or any(found for name, found in part.series.items() if name != "up")
            self._go_on(part)
            taken(part)
        if not any_:
            begin, end = (time_of(at) for at in (span.evaluated.begin, span.evaluated.end))
            raise SourceError(
                f"no samples of anything the rules read between {_minute(begin)} and {_minute(end)}"
            )
        return [self._result(variant, span.reported) for variant in self._variants]

    def _go_on(self, page: Page) -> None:
        for plan, store in self._stores.items():
            for metric, scraped in store.scraped.items():
                scraped.add(page.series.get(metric, ()), page.begin - scraped.keep)
            self._evaluations[plan].go_on(page.begin, page.end)
        first = next(iter(self._evaluations.values()))
        self._facts.go_on(first, page.begin, page.end)

    def _result(self, variant: Variant, reported: Stretch) -> Result:
        found = self._evaluations[id(variant.plan)].fired()
        fired = tuple(one for one in map(_within(reported), found) if one is not None)
        outcome = decide_all(fired, variant.policy, self._facts, reported.end)
        return Result(
            variant, fired, outcome, tuple(judge(outcome.deeds, self._facts, reported.end))
        )

    def _first_store(self) -> Store:
        return next(iter(self._stores.values()))


def with_mode(policy: Policy, mode: Mode | None) -> Policy:
    """Return *policy* as if *mode* were its own."""
    return policy if mode is None else replace(policy, mode=mode)


def _within(stretch: Stretch) -> Callable[[Fired], Fired | None]:
    def cut(fired: Fired) -> Fired | None:
        if fired.resolved_at is not None and fired.resolved_at <= stretch.begin:
            return None
        return replace(fired, fired_at=max(fired.fired_at, stretch.begin))

    return cut


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
