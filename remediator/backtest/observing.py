"""What the sources would have said of an alert at a moment of the past.

Prometheus has the alert firing, or there would be none. What Docker and NVML would have said is
what their exporters reported then; nothing reported is a source that is silent.
"""

from datetime import UTC, datetime

from remediator.backtest.facts import Facts
from remediator.core.alerts import Alert
from remediator.core.lifecycle import keep_alive_helps
from remediator.core.observation import Observation, Report, Source, Verdict
from remediator.core.policy import Policy
from remediator.core.targets import (
    Container,
    Named,
    PhysicalGpu,
    Target,
    UnstartedContainer,
    subject_of,
)

_REMOVES = "remove-container"
_EXPORTER_DOWN = frozenset({"DS01ExporterDown", "DS01DCGMExporterDown"})


def observe(alert: Alert, policy: Policy, facts: Facts, now: datetime) -> Observation:
    """Return what would have been seen of what *alert* names."""
    subject = subject_of(alert.labels)
    moment = round(now.timestamp() * 1000)
    reports = [_prometheus(alert, facts, moment)]
    if subject.kind == "gpu":
        return _plain(alert, now, PhysicalGpu(subject.name), reports)
    if subject.kind != "container":
        return _plain(alert, now, Named(subject), reports)
    rule = policy.rule_for(alert.labels)
    removes = bool(rule and any(rung.remediation == _REMOVES for rung in rule.rungs))
    reports.append(_docker(subject.name, facts, moment, stopped=removes))
    if keep_alive_helps(alert.name):
        reports.append(_nvml(subject.name, facts, moment))
    info = facts.info(subject.name, moment)
    return Observation(
        at=now,
        target=_container(subject.name, facts, moment),
        reports=tuple(reports),
        exempt=_exempt(alert, facts, moment),
        owner=info.get("user") or alert.labels.get("user"),
        title=info.get("container") or alert.labels.get("container", ""),
        confirmed_labels=alert.labels,
    )


def _plain(alert: Alert, now: datetime, target: Target, reports: list[Report]) -> Observation:
    return Observation(
        at=now,
        target=target,
        reports=tuple(reports),
        owner=alert.labels.get("user"),
        confirmed_labels=alert.labels,
    )


def _prometheus(alert: Alert, facts: Facts, moment: int) -> Report:
    instance = alert.labels.get("instance", "")
    up = facts.value("up", instance, moment) if instance else None
    if up == 0 and alert.name not in _EXPORTER_DOWN:
        says = f"the exporter {instance} is down: what it said before proves nothing"
        return Report(Source.PROMETHEUS, Verdict.SILENT, says)
    return Report(Source.PROMETHEUS, Verdict.AGREES, "it is firing")


def _docker(container: str, facts: Facts, moment: int, *, stopped: bool) -> Report:
    running = facts.value("running", container, moment)
    if running is None:
        return Report(Source.DOCKER, Verdict.SILENT, "nothing was reported of the container")
    if (running == 0) == stopped:
        says = "it did not run" if stopped else "it was running"
        return Report(Source.DOCKER, Verdict.AGREES, says)
    says = "it was running again" if stopped else "it did not run"
    return Report(Source.DOCKER, Verdict.GONE, says)


def _nvml(container: str, facts: Facts, moment: int) -> Report:
    if facts.value("busy", container, moment) is not None:
        return Report(Source.NVML, Verdict.DISAGREES, "the container was busy")
    if facts.value("measured", container, moment) is None:
        return Report(Source.NVML, Verdict.SILENT, "nothing was reported of its GPUs")
    return Report(Source.NVML, Verdict.AGREES, "its GPUs were idle")


def _exempt(alert: Alert, facts: Facts, moment: int) -> str | None:
    container = subject_of(alert.labels).name
    if facts.info(container, moment).get("exempt") == "true":
        return "the exporter says that it is exempt"
    until = facts.value("keep_alive", container, moment)
    if until is not None and keep_alive_helps(alert.name) and until * 1000 > moment:
        return f"a keep-alive protects it until {datetime.fromtimestamp(until, UTC):%H:%M} UTC"
    return None


def _container(container: str, facts: Facts, moment: int) -> Target | None:
    for fact, kind in (("started", Container), ("created", UnstartedContainer)):
        seconds = facts.value(fact, container, moment)
        if seconds is not None:
            return kind(container, datetime.fromtimestamp(seconds, UTC))
    return None
