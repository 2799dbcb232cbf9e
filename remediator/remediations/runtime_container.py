"""See whether a container has run for longer than its limits allow, whatever it does.

Its work is no witness: this stop hits busy containers on purpose, and a keep-alive does not
protect from it. What protects is the limit that holds now, or an exemption from it.
"""

from datetime import datetime

from remediator.core.alerts import Alert
from remediator.core.durations import humanize
from remediator.core.lifecycle import may_run_because
from remediator.core.observation import Observation, Report, Source, Verdict
from remediator.remediations.named_container import (
    Found,
    NamedContainers,
    judge_running,
    known_of,
    observation_of,
    run_of,
    slots_of,
    without_target,
)
from remediator.remediations.senses import LimitsInForce, Senses


class RuntimeContainer:
    """Observes the container that an alert names, for whoever may stop it for running too long."""

    def __init__(self, senses: Senses, limits: LimitsInForce) -> None:
        self._senses = senses
        self._containers = NamedContainers(senses, limits)

    def observe(self, alert: Alert, now: datetime) -> Observation:
        """Return what Prometheus and Docker say of the container the alert names."""
        confirmation = self._senses.prometheus.confirm(alert, now)
        found = self._containers.find(alert, now)
        if isinstance(found, Report):
            return without_target(now, confirmation, found)
        facts = found.facts
        docker = judge_running(facts, confirmation.active_since)
        docker = found.with_good_limits(docker)
        exempt = None
        if docker.verdict is Verdict.AGREES:
            exempt = found.infrastructure or may_run_because(found.limits)
            docker = _judge_runtime(found, docker, now)
        return observation_of(
            found,
            confirmation,
            run_of(facts),
            docker,
            now=now,
            exempt=exempt,
            context={
                "gpus": slots_of(self._senses, facts),
                "grace_seconds": found.limits.sigterm_grace.total_seconds(),
            },
        )


def _judge_runtime(found: Found, docker: Report, now: datetime) -> Report:
    """Return *docker*'s agreement, if it has really run for as long as that."""
    started_at, limit = found.facts.started_at, found.limits.max_runtime
    if started_at is None or limit is None:
        return docker
    ran = now - started_at
    known = {
        **known_of(found.facts),
        "runtime_seconds": round(ran.total_seconds()),
        "max_runtime_seconds": limit.total_seconds(),
    }
    if ran < limit:
        says = f"{docker.says}, for {humanize(ran)}: its maximum runtime is {humanize(limit)}"
        return Report(Source.DOCKER, Verdict.DISAGREES, says, known)
    says = f"{docker.says}, for {humanize(ran)}: it has reached its maximum runtime of"
    return Report(Source.DOCKER, Verdict.AGREES, f"{says} {humanize(limit)}", known)
