"""Start nothing while services are stopped on purpose: for a reset, or for somebody's work."""

from dataclasses import replace
from typing import Protocol

from remediator.core.observation import Report, Verdict
from remediator.errors import RefusedError, SourceError


class Maintenance(Protocol):
    """The services of a host that are stopped on purpose."""

    def under_way(self, service: str) -> str | None:
        """Return what *service* is not to be started for now, None if nothing is in the way.

        SourceError if nobody can tell.
        """
        ...


class NoMaintenance:
    """A host on which nothing is ever stopped on purpose."""

    def under_way(self, service: str) -> str | None:
        """Return None."""
        del service
        return None


def unless_under_way(report: Report, service: str, maintenance: Maintenance) -> Report:
    """Return *report*, which agrees to no restart in the middle of maintenance."""
    if report.verdict is not Verdict.AGREES:
        return report
    try:
        why = maintenance.under_way(service)
    except SourceError as error:
        return replace(report, verdict=Verdict.SILENT, says=str(error))
    if why is None:
        return report
    return replace(report, verdict=Verdict.DISAGREES, says=f"{report.says}, but {why}")


def refuse_under_way(service: str, maintenance: Maintenance) -> None:
    """Raise RefusedError in the middle of maintenance, and where nobody can tell."""
    try:
        why = maintenance.under_way(service)
    except SourceError as error:
        raise RefusedError(str(error)) from error
    if why is not None:
        raise RefusedError(why)
