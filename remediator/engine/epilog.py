"""The epilog: after an attempt, look at what it has left behind, and raise hints of that.

A hint is written in the transaction that settles the attempt, so that a crash neither loses it nor
raises it twice. From then on it is an alert like any other: the policy, the guards and the budgets
say what is done about it.
"""

import logging
from datetime import datetime

from remediator.core import notices
from remediator.core.aftermath import Aftermath, Finding, hint_of
from remediator.core.alerts import Alert
from remediator.core.attempts import AttemptState
from remediator.core.policy import Audience
from remediator.core.targets import subject_of
from remediator.engine.parts import EngineParts
from remediator.engine.telling import tell
from remediator.errors import SourceError
from remediator.journal.attempts import AttemptRecord
from remediator.remediations.interface import LeavesGpus

log = logging.getLogger(__name__)

# A failed one may have had a part of its effect, such as a container gone that left a process.
_CARRIED_OUT = frozenset({AttemptState.SUCCEEDED, AttemptState.FAILED})


class Epilog:
    """Looks after attempts, and writes down what it saw."""

    def __init__(self, parts: EngineParts) -> None:
        self._parts = parts
        self._journal = parts.journal

    def look(self, record: AttemptRecord, state: AttemptState) -> Aftermath | None:
        """Return what an attempt that is about to be settled has left; None if there is no epilog.

        Whatever goes wrong here must not keep the attempt from being settled.
        """
        remediation = self._parts.remediations.get(record.remediation)
        if state not in _CARRIED_OUT or not isinstance(remediation, LeavesGpus):
            return None
        try:
            return remediation.aftermath(record.task)
        except SourceError as error:
            return Aftermath("", (), (str(error),))
        except Exception as error:
            log.exception("attempt %s: a bug in the epilog", record.id)
            self._parts.metrics.errors.inc()
            return Aftermath("", (), (f"an error nobody foresaw: {type(error).__name__}",))

    def write(self, record: AttemptRecord, after: Aftermath | None, now: datetime) -> None:
        """Write down what was seen, and raise hints, in the transaction that settles it."""
        if after is None:
            return
        said = [*after.unseen, *(self._hint(record, found, after, now) for found in after.findings)]
        attempts = self._journal.attempts
        detail = f"look at the freed GPU {after.gpus}" if after.gpus else "look at the freed GPUs"
        step = attempts.begin_step(record.id, "epilog", detail, now)
        attempts.end_step(step, "; ".join(said) or "all is well", now)

    def _hint(
        self, record: AttemptRecord, finding: Finding, after: Aftermath, now: datetime
    ) -> str:
        """Raise the hint of *finding*, unless it is raised already; return what was done."""
        witness = (
            f"{record.remediation} (attempt {record.id}, incident {record.incident}) freed GPU"
            f" {after.gpus}, and the epilog saw at {now:%H:%M:%S} UTC"
        )
        hint = hint_of(finding, self._instance(record), witness, now)
        known = self._journal.incidents.hinted(hint.firing.fingerprint)
        if known is not None:
            return f"{finding.says} (in incident {known} already)"
        rule = self._parts.policy().rule_for(hint.labels)
        incident = self._journal.incidents.attach(
            hint,
            subject=str(subject_of(hint.labels)),
            fault=rule.name if rule else hint.name,
            delivery=0,
            at=now,
            receiver=f"epilog of attempt {record.id}",
        )
        if incident is None:
            return finding.says
        because = finding.tell or ("" if rule else "no policy rule is about it")
        if because:
            self._tell(incident, finding, hint, because)
        log.info("attempt %s: epilog: incident %s: %s", record.id, incident, finding.says)
        return f"{finding.says} (see incident {incident})"

    def _instance(self, record: AttemptRecord) -> str | None:
        """Return the exporter that told of what was remediated: it would tell of this as well."""
        firings = self._journal.incidents.firings(record.incident)
        named = (firing.alert.labels.get("instance") for firing in firings)
        return next((instance for instance in named if instance), None)

    def _tell(self, incident: int, finding: Finding, hint: Alert, because: str) -> None:
        """Tell the administrators, once for each incident."""
        self._journal.incidents.name(incident, finding.title, None)
        if not self._journal.incidents.settle_once(incident, "notified"):
            return
        matter = notices.Matter(
            incident=incident,
            host=self._parts.host,
            title=finding.title,
            owner=None,
            alert=hint.name,
            evidence=(hint.annotations["description"],),
        )
        notice = notices.informed(matter, f"{finding.says}; {because}.")
        tell(self._parts, notice, (Audience.ADMINS,))
