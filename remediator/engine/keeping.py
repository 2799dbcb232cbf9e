"""What keeps a container from the idle stop: what the journal knows, and what people are told."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Protocol

from remediator.core.extensions import Extension, run_of
from remediator.core.lifecycle import keep_alive_helps
from remediator.core.notices import WayToKeep
from remediator.core.observation import Fact
from remediator.core.targets import Target
from remediator.journal.attempts import AttemptRecord
from remediator.journal.journal import Journal

# What the shipped limits allow, where an observation did not have to know its container's.
_LONGEST = timedelta(hours=24)


class Links(Protocol):
    """Makes the links that are put into notices."""

    def to_keep(
        self, run: tuple[str, datetime | None], incident: int, longest: timedelta, now: datetime
    ) -> str:
        """Return a link by which whoever has it can keep a container; nothing if there is none."""
        ...


def kept_of(journal: Journal, target: Target | None) -> Extension | None:
    """Return the newest extension of *target*, whether it still holds or not."""
    run = run_of(target)
    return journal.extensions.last(*run) if run else None


def why_kept(journal: Journal, planned: AttemptRecord, now: datetime) -> str | None:
    """Return who keeps the target since an attempt was planned, None if nobody does.

    What was given before is known to the decision that planned it.
    """
    kept = kept_of(journal, planned.task.target)
    if kept is None or not kept.holds_at(now) or kept.given_at < planned.planned_at:
        return None
    names = [record.alert.name for record in journal.incidents.firings(planned.incident)]
    return f"it is kept {kept.by}" if any(map(keep_alive_helps, names)) else None


def way_to_keep(
    links: Links,
    target: Target,
    incident: int,
    alert_name: str,
    context: Mapping[str, Fact],
    now: datetime,
) -> WayToKeep:
    """Return how the owner can keep *target*, as a notice about *alert_name* tells."""
    seconds = context.get("keepalive_max_seconds")
    longest = timedelta(seconds=float(seconds)) if isinstance(seconds, int | float) else _LONGEST
    run = run_of(target) if keep_alive_helps(alert_name) else None
    return WayToKeep(longest, links.to_keep(run, incident, longest, now) if run else "")
