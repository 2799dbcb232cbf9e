"""Samples, rules and their evaluation, for tests of `remediator.backtest`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from remediator.backtest.alert_states import Fired
from remediator.backtest.compiling import compiled
from remediator.backtest.evaluation import Evaluation
from remediator.backtest.matrix import NAME, pairs_of
from remediator.backtest.rule_plan import Plan, Timing, plan_rules
from remediator.backtest.run import Node, Plans, Run
from remediator.backtest.store import Scraped, Series, Store
from remediator.config.reader import parse_nodes
from remediator.rules.promql import parse
from remediator.rules.rule_file import read_rule_file

LOOKBACK = 300_000
_SERIES = re.compile(r"([\w:]+)(?:\{(.*)\})?")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def series_of(text: str, values: Sequence[str], interval: int) -> Series:
    """Return a series in promtool's notation, a sample every *interval* seconds."""
    found = _SERIES.fullmatch(text)
    assert found is not None, text
    labels = {NAME: found[1], **dict(_LABEL.findall(found[2] or ""))}
    there = [number for number, value in enumerate(values) if value != "_"]
    stale = np.array([values[number] == "stale" for number in there], np.bool_)
    numbers = [np.nan if values[n] == "stale" else float(values[n]) for n in there]
    times = np.array(there, np.int64) * interval * 1000
    return Series(pairs_of(labels), times, np.array(numbers, np.float64), stale)


def plan_of(path: Path, interval: int, timings: Mapping[str, Timing] | None = None) -> Plan:
    """Return the plan for a rule file that is evaluated every *interval* seconds."""
    source = path.read_text()
    reader, node = parse_nodes(source, str(path))
    rules = read_rule_file(reader, node, source).rules
    reader.finish()
    return plan_rules(rules, timings or {}, Timing(interval * 1000), LOOKBACK)


def replay(
    plan: Plan, series: Mapping[str, Sequence[str]], interval: int, chunk: int
) -> list[Fired]:
    """Return which alerts fire on *series*, evaluated *chunk* seconds at a time."""
    store = Store(LOOKBACK)
    evaluation = Evaluation(plan, store)
    read = [series_of(text, values, interval) for text, values in series.items()]
    length = max(map(len, series.values())) * interval * 1000
    for begin in range(0, length, chunk * 1000):
        end = min(begin + chunk * 1000, length)
        for metric, scraped in store.scraped.items():
            mine = (one for one in read if dict(one.labels)[NAME] == metric)
            page = [_part(one, begin, end) for one in mine]
            scraped.add([one for one in page if len(one.times)], begin - scraped.keep)
        evaluation.go_on(begin, end)
    return evaluation.fired()


def values_of(
    expr: str, series: Mapping[str, Sequence[str]], interval: int, seconds: Sequence[int]
) -> list[dict[tuple[tuple[str, str], ...], float] | None]:
    """Return what *expr* yields at each of *seconds*, None where it is refused."""
    node: Node = compiled(parse(expr))
    store = Store(LOOKBACK)
    for text, values in series.items():
        one = series_of(text, values, interval)
        name = dict(one.labels)[NAME]
        store.scraped.setdefault(name, Scraped(10**12))
        store.scraped[name].add([one], 0)
    times = np.array(seconds, np.int64) * 1000
    run = Run(store, times, np.zeros(len(times), np.bool_), 0, 60_000, Plans())
    with np.errstate(all="ignore"):
        found = run.value(node)
    if not hasattr(found, "labels"):
        return [{(): float(value)} for value in found.values]
    return [
        None
        if run.failed[column]
        else {
            row: float(found.values[number, column])
            for number, row in enumerate(found.labels)
            if found.present[number, column]
        }
        for column in range(len(times))
    ]


def _part(series: Series, begin: int, end: int) -> Series:
    first, last = np.searchsorted(series.times, [begin, end])
    part = slice(first, last)
    return Series(series.labels, series.times[part], series.values[part], series.stale[part])
