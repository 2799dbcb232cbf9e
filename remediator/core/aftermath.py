"""What a remediation leaves behind that another one has to see to, and the hint of it.

A hint is an alert of our own. It goes through everything that a delivered one goes through, so
that nothing is done that the policy does not name; only its witness is the journal.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from remediator.core.alerts import Alert, Firing, Origin, Status
from remediator.core.case import Decision, Hold, HoldReason
from remediator.core.catalogue import offer_of
from remediator.core.policy import PolicyRule

# Nobody resolves a hint. By then Prometheus has an alert of its own, or nothing is wrong.
_HINT_LASTS = timedelta(hours=6)
_NOTHING_LEFT = frozenset(
    {
        HoldReason.NO_POLICY_RULE,
        HoldReason.EXEMPT,
        HoldReason.TARGET_GONE,
        HoldReason.CONDITION_GONE,
    }
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong on a freed GPU, with the name and labels of the shipped alert.

    ``title`` is what people call what it is about. ``tell`` is why a person has to know at once,
    whatever the policy does about it; empty if none has to.
    """

    alertname: str
    labels: Mapping[str, str]
    title: str
    says: str
    tell: str = ""


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What was seen on the GPUs that were freed, all of which ``gpus`` names.

    ``unseen`` says of what nothing could be seen, and why.
    """

    gpus: str
    findings: tuple[Finding, ...] = ()
    unseen: tuple[str, ...] = ()


def hint_of(finding: Finding, instance: str | None, witness: str, at: datetime) -> Alert:
    """Return the alert that *finding* is; *witness* says who saw it, after what.

    *instance* is the exporter that would tell of it, if it is known.
    """
    labels = {"alertname": finding.alertname, **finding.labels}
    if instance:
        labels["instance"] = instance
    digest = hashlib.sha256(json.dumps(labels, sort_keys=True).encode()).hexdigest()
    return Alert(
        labels=labels,
        annotations={"summary": finding.says, "description": f"{witness}: {finding.says}"},
        status=Status.FIRING,
        firing=Firing(f"epilog-{digest[:16]}", at.isoformat()),
        starts_at=at,
        origin=Origin.EPILOG,
    )


def hint_is_over(hint: Alert, decision: Decision, rule: PolicyRule | None, now: datetime) -> bool:
    """Tell whether nothing can follow from *hint* any more after *decision* about it."""
    if now - hint.starts_at > _HINT_LASTS:
        return True
    while isinstance(decision, Hold) and isinstance(decision.instead, Hold):
        decision = decision.instead
    if not isinstance(decision, Hold):
        return False
    tells_only = rule is not None and not any(offer_of(r.remediation).acts for r in rule.rungs)
    told = tells_only and decision.reason is HoldReason.COOLDOWN
    return told or decision.reason in _NOTHING_LEFT
