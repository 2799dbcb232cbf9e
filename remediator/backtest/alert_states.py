"""From "the condition holds" to alerts that fire: ``for`` and ``keep_firing_for``.

Source: rules/alerting.go of Prometheus 2.42, `AlertingRule.Eval`.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from remediator.backtest.matrix import Bools, Ints, Matrix, Pairs


@dataclass(frozen=True, slots=True)
class Fired:
    """One stretch of an alert, in milliseconds since the epoch.

    Its condition held from *active_at* on, it fired from *fired_at* on, and at *resolved_at* it
    did not any more; None if it still fires at the end of what was looked at.
    """

    alert: str
    labels: Pairs
    active_at: int
    fired_at: int
    resolved_at: int | None


@dataclass(slots=True)
class _State:
    active_at: int
    fired_at: int | None = None
    missing_since: int | None = None


class AlertStates:
    """What becomes of one alerting rule, evaluation by evaluation."""

    def __init__(self, alert: str, waits_for: int, keeps_for: int) -> None:
        self._alert = alert
        self._waits_for = waits_for
        self._keeps_for = keeps_for
        self._states: dict[Pairs, _State] = {}
        self._ended: list[Fired] = []

    def follow(self, times: Ints, found: Matrix, failed: Bools) -> None:
        """Go on with the evaluations at *times*; those that *failed* changed nothing."""
        if failed.any():
            times = times[~failed]
            found = Matrix(found.labels, found.values[:, ~failed], found.present[:, ~failed])
        if not len(times):
            return
        seen = set()
        for number in np.flatnonzero(found.present.any(axis=1)):
            row = found.labels.rows[number]
            seen.add(row)
            self._go_on(row, times, found.present[number])
        never = np.zeros(len(times), np.bool_)
        for row in self._states.keys() - seen:
            self._go_on(row, times, never)

    def fired(self) -> list[Fired]:
        """Return every stretch so far, those that still fire included."""
        still = (
            Fired(self._alert, row, state.active_at, state.fired_at, None)
            for row, state in self._states.items()
            if state.fired_at is not None
        )
        return sorted((*self._ended, *still), key=lambda one: (one.fired_at, one.labels))

    def _go_on(self, row: Pairs, times: Ints, here: Bools) -> None:
        state = self._states.pop(row, None)
        edges = [0, *(np.flatnonzero(here[1:] != here[:-1]) + 1).tolist(), len(times)]
        for begin, end in itertools.pairwise(edges):
            stretch = times[begin:end]
            state = self._held(state, stretch) if here[begin] else self._missed(row, state, stretch)
        if state is not None:
            self._states[row] = state

    def _held(self, state: _State | None, times: Ints) -> _State:
        state = state or _State(int(times[0]))
        state.missing_since = None
        if state.fired_at is None:
            number = int(np.searchsorted(times, state.active_at + self._waits_for))
            state.fired_at = int(times[number]) if number < len(times) else None
        return state

    def _missed(self, row: Pairs, state: _State | None, times: Ints) -> _State | None:
        if state is None or state.fired_at is None:
            return None
        if state.missing_since is None:
            state.missing_since = int(times[0])
        number = int(np.searchsorted(times, state.missing_since + self._keeps_for))
        if number == len(times):
            return state
        resolved_at = int(times[number])
        self._ended.append(Fired(self._alert, row, state.active_at, state.fired_at, resolved_at))
        return None
