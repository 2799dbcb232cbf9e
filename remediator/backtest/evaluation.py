"""Evaluate all rules of a plan over one stretch of time after the other."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from remediator.backtest.alert_states import AlertStates, Fired
from remediator.backtest.joining import TWICE
from remediator.backtest.matrix import (
    NAME,
    Ints,
    Matrix,
    Merger,
    Pairs,
    Scalar,
    Value,
    pairs_of,
    without_name,
)
from remediator.backtest.rule_plan import Plan, PlannedRule, Timing, reads_of
from remediator.backtest.run import Node, Plans, Run
from remediator.backtest.store import Recorded, Scraped, Store

log = logging.getLogger(__name__)


class Evaluation:
    """The rules of *plan* over the samples that *store* is given, chunk by chunk."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self._plan = plan
        self._store = store
        self._plans = Plans()
        self._alerts = {
            rule.position: AlertStates(rule.name, rule.waits_for, rule.keeps_for)
            for rule in plan.rules
            if rule.is_alert
        }
        self._complained: set[int] = set()
        for rule in plan.rules:
            if not rule.is_alert:
                store.recorded.setdefault(rule.name, {})[rule.position] = Recorded()
        for metric in plan.scraped:
            store.scraped[metric] = Scraped(plan.keep[metric])

    def go_on(self, begin: int, end: int) -> None:
        """Evaluate every rule at its moments from *begin* up to but without *end*."""
        with np.errstate(all="ignore"):
            for part in self._plan.parts:
                if self._plan.is_recursive(part):
                    self._step_by_step(part, begin, end)
                else:
                    self._at_once(part[0], begin, end)
        for metric, written in self._store.recorded.items():
            for recorded in written.values():
                recorded.trim(end - self._plan.keep.get(metric, 0))

    def fired(self) -> list[Fired]:
        """Return every alert that fired so far."""
        return [one for states in self._alerts.values() for one in states.fired()]

    def evaluate(self, node: Node, times: Ints) -> Matrix:
        """Return what an expression outside the rules yields, after all of them."""
        run = self._run(len(self._plan.rules), times, 0)
        with np.errstate(all="ignore"):
            found = _as_matrix(run.value(node))
        found.present = found.present & ~run.failed
        return found

    def _run(self, position: int, times: Ints, interval: int) -> Run:
        failed = np.zeros(len(times), np.bool_)
        return Run(self._store, times, failed, position, interval, self._plans)

    def _at_once(self, rule: PlannedRule, begin: int, end: int) -> None:
        times = moments(rule.timing, begin, end)
        if not len(times):
            return
        run = self._run(rule.position, times, rule.timing.interval)
        found = self._named(rule, _as_matrix(run.value(rule.node)), run)
        self._complain(rule, run)
        if rule.is_alert:
            self._alerts[rule.position].follow(times, found, run.failed)
        else:
            self._recorded(rule).add(times, found, run.failed)

    def _step_by_step(self, part: Sequence[PlannedRule], begin: int, end: int) -> None:
        names = {rule.name for rule in part}
        steps: list[tuple[int, int, int, _Stepper]] = []
        for rule in part:
            times = moments(rule.timing, begin, end)
            if len(times):
                run = self._run(rule.position, times, rule.timing.interval)
                stepper = _Stepper(rule, run, self._recorded(rule), names)
                self._complain(rule, run)
                steps += [(int(at), rule.position, k, stepper) for k, at in enumerate(times)]
        for _, _, column, stepper in sorted(steps, key=lambda step: step[:3]):
            run = stepper.step(column)
            found = self._named(stepper.rule, _as_matrix(run.value(stepper.rule.node)), run)
            self._complain(stepper.rule, run)
            stepper.write(found, failed=bool(run.failed[0]))
        for rule in part:
            self._recorded(rule).settle()

    def _recorded(self, rule: PlannedRule) -> Recorded:
        return self._store.recorded[rule.name][rule.position]

    def _named(self, rule: PlannedRule, found: Matrix, run: Run) -> Matrix:
        """Return what a rule yields under the labels of the rule."""
        merger = run.plans.plan(
            (rule.position, "named", found.labels),
            lambda: Merger.of(_named(rule, row) for row in found.labels),
        )
        failed = np.zeros(len(run.times), np.bool_)
        named = merger.merge(found.values, found.present, failed)
        run.fail(failed, TWICE)
        return named

    def _complain(self, rule: PlannedRule, run: Run) -> None:
        if run.why and rule.position not in self._complained:
            self._complained.add(rule.position)
            at = np.datetime64(int(run.times[np.argmax(run.failed)]), "ms")
            log.warning("%s fails, at first at %s: %s", rule.name, at, run.why)


class _Stepper:
    """One rule that is evaluated moment by moment; what does not change meanwhile is known."""

    def __init__(self, rule: PlannedRule, run: Run, recorded: Recorded, names: set[str]) -> None:
        self.rule = rule
        self._run = run
        self._recorded = recorded
        self._known: dict[int, Value] = {}
        self._know(rule.node, names)
        recorded.begin(run.times)

    def step(self, column: int) -> Run:
        """Return the evaluation at one moment."""
        run, part = self._run, slice(column, column + 1)
        return Run(
            run.store,
            run.times[part],
            run.failed[part].copy(),
            run.reader,
            run.interval,
            run.plans,
            self._known,
            column,
        )

    def write(self, found: Matrix, *, failed: bool) -> None:
        """Record what the evaluation of this moment has yielded."""
        if failed:
            self._recorded.skip()
        else:
            self._recorded.write(found)

    def _know(self, node: Node, names: set[str]) -> None:
        if not reads_of(node) & names:
            self._known[id(node)] = self._run.value(node)
            return
        for part in node.parts():
            self._know(part, names)


def moments(timing: Timing, begin: int, end: int) -> Ints:
    """Return when a group is evaluated from *begin* up to but without *end*."""
    first = begin + (timing.phase - begin) % timing.interval
    return np.arange(first, end, timing.interval, dtype=np.int64)


def _as_matrix(found: Value) -> Matrix:
    if isinstance(found, Scalar):
        values = found.values[None, :]
        return Matrix(_ONE.labels, values, np.ones(values.shape, np.bool_))
    return found


_ONE = Merger.of([()])


def _named(rule: PlannedRule, row: Pairs) -> Pairs:
    labels: Mapping[str, str] = dict(without_name(row))
    own = {template.name: template.value(labels) for template in rule.labels}
    name = "alertname" if rule.is_alert else NAME
    return pairs_of({**labels, **own, name: rule.name})
