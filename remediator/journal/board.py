"""What a person in charge looks at first: what waits, what was done, what was given back."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from remediator.core.attempts import AttemptState
from remediator.core.returned import LONGEST, Stop
from remediator.database import Database, maybe, moment, stamp
from remediator.journal.operations import CommandRecord, command_of

_STOPS = "stop-container"
# Sorts after every time.
_LATEST = "a"
# From its plan to its proof: minutes, and where the worker was away meanwhile as long as that.
_LONGEST_ATTEMPT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A question that somebody has to answer, with what it is about."""

    id: int
    incident: int
    title: str
    owner: str | None
    fault: str
    remediation: str
    policy_rule: str
    target_key: str
    asked_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Done:
    """An attempt with the name of what it was about."""

    attempt: int
    incident: int
    title: str
    owner: str | None
    remediation: str
    state: AttemptState
    planned_at: datetime
    ended_at: datetime | None
    message: str | None


class Board:
    """Reads over all incidents."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def waiting(self, now: datetime) -> list[Waiting]:
        """Return the questions that can be answered now, the most urgent first."""
        rows = self._database.rows(
            "SELECT a.*, i.title, i.owner, i.fault FROM approval a"
            " JOIN incident i ON i.id = a.incident"
            " WHERE a.answer = 'waiting' AND a.expires_at > ? AND a.asked_at <= ?"
            " AND i.closed_at IS NULL AND NOT EXISTS (SELECT 1 FROM approval b"
            " WHERE b.incident = a.incident AND b.answer = 'waiting' AND b.id > a.id)"
            " ORDER BY a.expires_at",
            (stamp(now), stamp(now)),
        )
        return [
            Waiting(
                id=row["id"],
                incident=row["incident"],
                title=row["title"],
                owner=row["owner"],
                fault=row["fault"],
                remediation=row["remediation"],
                policy_rule=row["policy_rule"],
                target_key=row["target"],
                asked_at=moment(row["asked_at"]),
                expires_at=moment(row["expires_at"]),
            )
            for row in rows
        ]

    def latest_attempts(self, most: int) -> list[Done]:
        """Return the newest attempts, the newest first."""
        rows = self._database.rows(
            "SELECT a.id, a.incident, a.remediation, a.state, a.planned_at, a.ended_at, a.message,"
            " i.title, i.owner FROM attempt a JOIN incident i ON i.id = a.incident"
            " ORDER BY a.id DESC LIMIT ?",
            (most,),
        )
        return [
            Done(
                attempt=row["id"],
                incident=row["incident"],
                title=row["title"],
                owner=row["owner"],
                remediation=row["remediation"],
                state=AttemptState(row["state"]),
                planned_at=moment(row["planned_at"]),
                ended_at=maybe(moment, row["ended_at"]),
                message=row["message"],
            )
            for row in rows
        ]

    def latest_commands(self, most: int) -> list[CommandRecord]:
        """Return the newest commands, the newest first."""
        rows = self._database.rows("SELECT * FROM command ORDER BY id DESC LIMIT ?", (most,))
        return [command_of(row) for row in rows]

    def stops(self, since: datetime, until: datetime | None = None) -> list[Stop]:
        """Return the proven stops that may have given something back after *since*.

        With *until*, none of those that came later.
        """
        rows = self._database.rows(
            "SELECT a.ended_at, a.task, i.owner FROM attempt a JOIN incident i ON i.id = a.incident"
            # The first two are what the index is of: it knows when an attempt was planned.
            " WHERE a.state <> 'refused' AND a.planned_at > ?"
            " AND a.state = 'succeeded' AND a.remediation = ? AND a.ended_at > ?"
            " AND a.ended_at < ? ORDER BY a.ended_at",
            (
                stamp(since - LONGEST - _LONGEST_ATTEMPT),
                _STOPS,
                stamp(since - LONGEST),
                _LATEST if until is None else stamp(until),
            ),
        )
        return [_stop(moment(row["ended_at"]), row["owner"], row["task"]) for row in rows]


def _stop(at: datetime, owner: str | None, task: str) -> Stop:
    try:
        kept = json.loads(task)
        context, started_at = kept["context"], moment(kept["target"]["started_at"])
        shares = _numbers(context, "gpu_shares")
        watts = _numbers(context, "gpu_watts")
        runtime = context.get("max_runtime_seconds")
        until = None if runtime is None else started_at + timedelta(seconds=float(runtime))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        # What cannot be read has returned nothing; the attempt itself is told of elsewhere.
        shares, watts, until = {}, {}, None
    return Stop(at, owner or "unknown", shares, until, watts)


def _numbers(context: Mapping[str, object], name: str) -> dict[str, float]:
    """Return a number for each slot; attempts of older versions do not say it: nothing."""
    if not context.get(name):
        return {}
    names = str(context.get("gpus") or "").split(", ")
    numbers = str(context[name]).split(", ")
    return {
        slot: float(number)
        for slot, number in zip(names, numbers, strict=True)
        if slot and number and math.isfinite(float(number))
    }
