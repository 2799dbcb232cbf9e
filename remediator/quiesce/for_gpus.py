"""The services around the GPUs, as a reset needs them."""

import logging
from contextlib import AbstractContextManager
from datetime import timedelta

from remediator.core.services import unit_name
from remediator.errors import RecordError, RefusedError, RemediatorError, SourceError
from remediator.quiesce.quiesce import Quiesce
from remediator.quiesce.record import Record

log = logging.getLogger(__name__)


class GpuServices:
    """What is stopped for a reset, and the record of what has to run again."""

    def __init__(self, quiesce: Quiesce, record: Record) -> None:
        self._quiesce = quiesce
        self._record = record

    def quiesced(self, why: str, within: timedelta) -> AbstractContextManager[tuple[str, ...]]:
        """Have everything stopped inside the block; see `Quiesce.quiesced`."""
        return self._quiesce.quiesced(why, within)

    def held_by(self) -> int:
        """Return the descriptor of the lock that is held inside the block."""
        return self._quiesce.lock.fileno()

    def recover(self) -> None:
        """Restore now what an earlier life of this program has left stopped, if nobody is about it.

        What cannot be restored is tried again every minute by the worker.
        """
        try:
            self._quiesce.recover()
        except RemediatorError as error:
            log.warning("stopped services cannot be restored now: %s", error)

    def under_way(self, service: str) -> str | None:
        """Return what *service* is not to be started for now, None if nothing is in the way.

        While a quiesce is under way that is any: each may pull in another. SourceError if nobody
        can tell.
        """
        try:
            holder = self._quiesce.lock.holder()
        except RefusedError as error:
            raise SourceError(str(error)) from error
        if holder is not None:
            return f"services are stopped on purpose: {holder}"
        if not {service, unit_name(service)}.isdisjoint(self.unrestored()):
            return "it was stopped on purpose, and is about to be started again"
        return None

    def unrestored(self) -> tuple[str, ...]:
        """Return what ran and does not run again so far; SourceError if the record is silent."""
        try:
            records = self._record.unfinished()
        except RecordError as error:
            raise SourceError(str(error)) from error
        left = (own.member.name for record in records for own in record.outstanding)
        return tuple(dict.fromkeys(left))
