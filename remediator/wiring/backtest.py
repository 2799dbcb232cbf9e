"""Put a backtest together: which rules and policies, over which samples, from when to when."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from remediator.backtest.backtest import Backtest, Result, Semantics, Span, Variant, with_mode
from remediator.backtest.history import History, Page, Stretch
from remediator.backtest.prometheus_history import PrometheusHistory
from remediator.backtest.rule_plan import Plan, Timing, plan_rules
from remediator.backtest.sample_file import SampleFile, SampleWriter
from remediator.config.policy import read_policy
from remediator.config.reader import parse_nodes, read_text
from remediator.core.policy import Mode
from remediator.errors import ConfigError, SetupError, SourceError
from remediator.rules.rule_file import Rule, read_rule_file

_TIMEOUT = timedelta(minutes=2)
_MILLISECOND = timedelta(milliseconds=1)
_SUFFIXES = frozenset({".yml", ".yaml"})
_DAY = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for; times are in milliseconds since the epoch."""

    prometheus: str | None
    samples: Path | None
    rules: Sequence[Path]
    policy: Path
    begin: int | None
    end: int | None
    step: timedelta | None
    page: timedelta
    warm_up: timedelta | None = None
    mode: Mode | None = None
    save: Path | None = None
    compare_policy: Path | None = None
    compare_rules: Sequence[Path] = ()
    now: int = 0


@dataclass(frozen=True, slots=True)
class _Past:
    """What is known of the past before a sample is read."""

    history: History
    timings: dict[str, Timing]
    reported: Stretch
    semantics: Semantics = field(default_factory=Semantics)
    loaded: str = ""
    earliest: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A backtest that is ready to run; *about* says what it is over, for people.

    *too_short_for* are the alerts that wait for longer than the stretch is.
    """

    backtest: Backtest
    history: History
    span: Span
    page: int
    about: str
    timings: dict[str, Timing]
    variants: tuple[Variant, ...]
    too_short_for: tuple[str, ...] = ()


def prepare(wanted: Wanted) -> Prepared:
    """Return the backtest; ConfigError, SetupError or SourceError say what is in the way."""
    if wanted.samples is not None:
        return _over_file(wanted, SampleFile(wanted.samples))
    if wanted.prometheus is None:
        raise SetupError("nothing to look at: give --prometheus URL or --samples FILE")
    return _over_prometheus(wanted, PrometheusHistory(wanted.prometheus, _TIMEOUT))


def run(prepared: Prepared, save: Path | None, taken: Callable[[Page], None]) -> list[Result]:
    """Run it; *taken* is told of each page."""
    if save is None:
        return prepared.backtest.run(prepared.history, prepared.span, prepared.page, taken)
    with SampleWriter(save, prepared.timings) as writer:

        def keep(page: Page) -> None:
            writer.write(page)
            taken(page)

        return prepared.backtest.run(prepared.history, prepared.span, prepared.page, keep)


def _over_file(wanted: Wanted, samples: SampleFile) -> Prepared:
    if not wanted.rules:
        raise SetupError("a file of samples knows no rules: give --rules FILE")
    there = samples.stretch()
    begin = there.begin if wanted.begin is None else max(wanted.begin, there.begin)
    end = there.end if wanted.end is None else min(wanted.end, there.end)
    if begin >= end:
        raise SourceError(f"{samples.path} holds no samples of that time")
    past = _Past(samples, samples.timings(), Stretch(begin, end), earliest=there.begin)
    return _prepared(wanted, past)


def _over_prometheus(wanted: Wanted, prometheus: PrometheusHistory) -> Prepared:
    server = prometheus.server()
    end = wanted.now if wanted.end is None else min(wanted.end, wanted.now)
    begin = end - 7 * _DAY if wanted.begin is None else wanted.begin
    if begin >= end:
        raise SetupError("the beginning must be before the end, and before now")
    semantics = Semantics(server.lookback, server.left_open)
    loaded = "" if wanted.rules else server.rules
    past = _Past(prometheus, dict(server.timings), Stretch(begin, end), semantics, loaded)
    return _prepared(wanted, past)


def _prepared(wanted: Wanted, past: _Past) -> Prepared:
    timings, reported, semantics = past.timings, past.reported, past.semantics
    usual = _usual(wanted, timings)
    if wanted.step is not None:
        timings = {
            name: Timing(usual.interval, timing.phase % usual.interval)
            for name, timing in timings.items()
        }
    plan = _plan(wanted.rules, past.loaded, timings, usual, semantics)
    variants = [_variant(wanted, wanted.rules, wanted.policy, plan)]
    if wanted.compare_policy is not None or wanted.compare_rules:
        other = plan
        if wanted.compare_rules:
            other = _plan(wanted.compare_rules, "", timings, usual, semantics)
        policy = wanted.compare_policy or wanted.policy
        variants.append(_variant(wanted, wanted.compare_rules or wanted.rules, policy, other))
    span = Span(reported, max(reported.begin - _warm_up(wanted, variants), past.earliest))
    return Prepared(
        Backtest(variants, usual, semantics),
        past.history,
        span,
        max(1, round(wanted.page / _MILLISECOND)),
        _about(wanted, plan, usual),
        timings,
        tuple(variants),
        _too_short_for(plan, span),
    )


def _too_short_for(plan: Plan, span: Span) -> tuple[str, ...]:
    length = span.evaluated.end - span.evaluated.begin
    alerts = [rule for rule in plan.rules if rule.is_alert]
    waiting = tuple(rule.name for rule in alerts if rule.waits_for >= length)
    if len(waiting) == len(alerts):
        raise SetupError(
            f"the stretch is too short: {', '.join(waiting)} wait longer before they fire"
        )
    return waiting


def _usual(wanted: Wanted, timings: dict[str, Timing]) -> Timing:
    if wanted.step is not None:
        return Timing(max(1, round(wanted.step / _MILLISECOND)))
    intervals = [timing.interval for timing in timings.values()]
    return Timing(max(sorted(set(intervals)), key=intervals.count) if intervals else 30_000)


def _plan(
    paths: Sequence[Path],
    loaded: str,
    timings: dict[str, Timing],
    usual: Timing,
    semantics: Semantics,
) -> Plan:
    sources = [(str(file), read_text(file)) for path in paths for file in _files(path)]
    if loaded:
        sources = [("Prometheus' rules", loaded)]
    rules = [rule for name, text in sources for rule in _rules(name, text)]
    if not any(rule.is_alert for rule in rules):
        raise SetupError("there is no alerting rule: give --rules FILE")
    return plan_rules(rules, timings, usual, semantics.lookback)


def _rules(name: str, text: str) -> tuple[Rule, ...]:
    reader, node = parse_nodes(text, name)
    read = read_rule_file(reader, node, text)
    reader.finish()
    if read.findings:
        raise ConfigError([finding.problem for finding in read.findings])
    return read.rules


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES and file.is_file())


def _variant(wanted: Wanted, rules: Sequence[Path], policy: Path, plan: Plan) -> Variant:
    with_rules = ", ".join(path.name for path in rules) if wanted.compare_rules else ""
    name = f"{policy.name} with {with_rules}" if with_rules else policy.name
    return Variant(name, plan, with_mode(read_policy(policy), wanted.mode))


def _warm_up(wanted: Wanted, variants: Sequence[Variant]) -> int:
    """Return for how long rules are evaluated before, so that clocks and waits have begun."""
    if wanted.warm_up is not None:
        return round(wanted.warm_up / _MILLISECOND)
    plans = [variant.plan for variant in variants]
    if any(plan.is_recursive(part) for plan in plans for part in plan.parts):
        return _DAY
    longest = (max(plan.keep.values(), default=0) for plan in plans)
    waits = (rule.waits_for for plan in plans for rule in plan.rules)
    return max(longest) + max(waits, default=0)


def _about(wanted: Wanted, plan: Plan, usual: Timing) -> str:
    alerts = sum(rule.is_alert for rule in plan.rules)
    policy = read_policy(wanted.policy)
    mode = ""
    if wanted.mode is not None and wanted.mode is not policy.mode:
        mode = f", as if its mode were {wanted.mode.value} (it is {policy.mode.value})"
    seconds = f"{usual.interval / 1000:g} s"
    return f"{alerts} alerting rules every {seconds}; {wanted.policy.name}{mode}"
