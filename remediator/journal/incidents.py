"""Incidents, and the firings that belong to them."""

import hashlib
import json
import logging
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from remediator.core.alerts import Alert, Firing, Origin, Status
from remediator.database import Database, maybe, moment, stamp

log = logging.getLogger(__name__)

# By these labels an alert says which GPU it is about.
_GPU_LABELS = ("UUID", "gpu", "gpu_slot")
_LONGEST_GPU = 100


@dataclass(frozen=True, slots=True)
class Incident:
    """One fault on one subject; ``closed_at`` is None while any of its alerts fires."""

    id: int
    subject: str
    fault: str
    title: str
    owner: str | None
    opened_at: datetime
    closed_at: datetime | None
    outcome: str | None
    next_look_at: datetime | None


@dataclass(frozen=True, slots=True)
class FiringRecord:
    """One firing as it was delivered, with how often and when."""

    alert: Alert
    incident: int
    receiver: str
    deliveries: int
    first_delivery: int
    last_delivery: int
    received_at: datetime
    last_received_at: datetime
    resolved_at: datetime | None


class Incidents:
    """Reads and writes of incidents and what hangs on them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def attach(
        self, alert: Alert, *, subject: str, fault: str, delivery: int, at: datetime, receiver: str
    ) -> int | None:
        """Take one alert of a delivery; return the incident that now has to be looked at.

        The first delivery of a firing opens an incident or joins the open one; every further
        one only counts, unless its incident was closed meanwhile: Alertmanager resolves what it
        has not heard of for a while, and may then go on with the same firing. A resolution of
        something never seen firing is not worth an incident. What is our own is never touched by
        a delivery, whatever it says to be; and one firing has the same labels always, so that
        others under its name are another, and take nothing from it.
        """
        resolved = alert.status is Status.RESOLVED
        with self._database.transaction() as connection:
            if self._is_of_another_origin(alert):
                log.warning("an alert says to be %s, which is our own", alert.firing)
                return None
            alert = self._distinguished(alert)
            incident, is_open = self._incident_of(alert.firing)
            if resolved and incident is None:
                return None
            if incident is None or not (is_open or resolved):
                incident = self._open(alert, subject, fault, at)
            connection.execute(
                "INSERT INTO firing (fingerprint, starts_at, incident, alertname, labels,"
                " annotations, receiver, first_delivery, last_delivery, received_at,"
                " last_received_at, origin) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET incident = excluded.incident",
                (
                    *identity(alert.firing),
                    incident,
                    alert.name,
                    to_json(alert.labels),
                    to_json(alert.annotations),
                    receiver,
                    delivery,
                    delivery,
                    stamp(at),
                    stamp(at),
                    alert.origin.value,
                ),
            )
            connection.execute(
                "UPDATE firing SET deliveries = deliveries + 1, last_delivery = ?,"
                " last_received_at = ?, resolved_at = CASE WHEN ? THEN coalesce(resolved_at, ?) END"
                " WHERE fingerprint = ? AND starts_at = ?",
                (delivery, stamp(at), resolved, stamp(at), *identity(alert.firing)),
            )
            connection.execute(
                "UPDATE incident SET next_look_at = ? WHERE id = ? AND closed_at IS NULL",
                (stamp(at), incident),
            )
            names = [alert.labels[label] for label in _GPU_LABELS if alert.labels.get(label)]
            keep_gpus(connection, incident, names)
        return incident

    def hinted(self, fingerprint: str) -> int | None:
        """Return the open incident in which a hint of our own with this fingerprint fires."""
        row = self._database.row(
            "SELECT i.id FROM firing f JOIN incident i ON i.id = f.incident WHERE f.fingerprint = ?"
            " AND f.origin = ? AND f.resolved_at IS NULL AND i.closed_at IS NULL",
            (fingerprint, Origin.EPILOG.value),
        )
        return int(row["id"]) if row else None

    def end_hint(self, firing: Firing, at: datetime) -> None:
        """Let a hint of our own fire no more: nobody else resolves it."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE firing SET resolved_at = ? WHERE fingerprint = ? AND starts_at = ?"
                " AND origin = ?",
                (stamp(at), *identity(firing), Origin.EPILOG.value),
            )

    def fires_still(self, firing: Firing) -> None:
        """Take back the end of a firing: it was delivered, and is not so."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE firing SET resolved_at = NULL WHERE fingerprint = ? AND starts_at = ?",
                identity(firing),
            )

    def due(self, now: datetime, most: int = 256) -> list[int]:
        """Return the open incidents that want to be looked at by *now*, the longest due first."""
        rows = self._database.rows(
            "SELECT id FROM incident WHERE closed_at IS NULL AND next_look_at <= ?"
            " ORDER BY next_look_at LIMIT ?",
            (stamp(now), most),
        )
        return [row["id"] for row in rows]

    def next_due(self) -> datetime | None:
        """Return when the next open incident wants to be looked at."""
        row = self._database.row(
            "SELECT min(next_look_at) AS due FROM incident WHERE closed_at IS NULL"
        )
        return maybe(moment, row["due"]) if row else None

    def take(self, incident: int, lease: datetime) -> None:
        """Put the next look off to *lease* while this one lasts; a crash meanwhile ends then."""
        self._set_look(incident, lease)

    def look_again(self, incident: int, at: datetime, lease: datetime | None = None) -> None:
        """Have *incident* looked at again at *at*.

        With *lease*, only if nothing has asked for an earlier look since `take`: a delivery that
        came in during the look must not be overlooked.
        """
        if lease is None:
            self._set_look(incident, at)
            return
        with self._database.transaction(waits=False) as connection:
            connection.execute(
                "UPDATE incident SET next_look_at = ? WHERE id = ? AND next_look_at = ?",
                (stamp(at), incident, stamp(lease)),
            )

    def look_at_all(self, at: datetime) -> None:
        """Have every open incident looked at again at *at*: what held them may be over."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE incident SET next_look_at = ? WHERE closed_at IS NULL", (stamp(at),)
            )

    def look_at(self, subject: str, at: datetime) -> None:
        """Have every open incident about *subject* looked at again at *at*."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE incident SET next_look_at = ? WHERE subject = ? AND closed_at IS NULL",
                (stamp(at), subject),
            )

    def newest_about(self, subject: str) -> int | None:
        """Return the newest open incident about *subject*, None without one."""
        row = self._database.row(
            "SELECT max(id) AS id FROM incident WHERE subject = ? AND closed_at IS NULL",
            (subject,),
        )
        return row["id"] if row else None

    def _set_look(self, incident: int, at: datetime) -> None:
        # After a crash everything is looked at at once.
        with self._database.transaction(waits=False) as connection:
            connection.execute(
                "UPDATE incident SET next_look_at = ? WHERE id = ? AND closed_at IS NULL",
                (stamp(at), incident),
            )

    def name(self, incident: int, title: str, owner: str | None) -> None:
        """Keep what people call the subject, and whose it is, once a source has told."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE incident SET title = ?, owner = coalesce(?, owner) WHERE id = ?",
                (title, owner, incident),
            )

    def settle(self, incident: int, outcome: str) -> None:
        """Keep how it stands; the incident stays open while an alert fires."""
        with self._database.transaction() as connection:
            connection.execute("UPDATE incident SET outcome = ? WHERE id = ?", (outcome, incident))

    def settle_once(self, incident: int, outcome: str) -> bool:
        """Keep how it stands; False if it stood like that already."""
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "UPDATE incident SET outcome = ? WHERE id = ? AND outcome IS NOT ?",
                (outcome, incident, outcome),
            )
        return cursor.rowcount == 1

    def close(self, incident: int, now: datetime, outcome: str) -> None:
        """Close it: nothing fires any more. An outcome that was settled before stays."""
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE incident SET closed_at = ?, outcome = coalesce(outcome, ?),"
                " next_look_at = NULL WHERE id = ?",
                (stamp(now), outcome, incident),
            )

    def incident(self, incident: int) -> Incident | None:
        """Return one incident, or None."""
        row = self._database.row("SELECT * FROM incident WHERE id = ?", (incident,))
        return None if row is None else incident_of(row)

    def latest(self, most: int, *, only_open: bool = False) -> list[Incident]:
        """Return the newest incidents, the newest first."""
        where = "WHERE closed_at IS NULL" if only_open else ""
        rows = self._database.rows(
            f"SELECT * FROM incident {where} ORDER BY id DESC LIMIT ?",  # noqa: S608 - a constant
            (most,),
        )
        return [incident_of(row) for row in rows]

    def firings(self, incident: int) -> list[FiringRecord]:
        """Return the firings of *incident* in the order they came."""
        rows = self._database.rows(
            "SELECT * FROM firing WHERE incident = ? ORDER BY first_delivery, fingerprint",
            (incident,),
        )
        return [
            FiringRecord(
                alert=Alert(
                    labels=json.loads(row["labels"]),
                    annotations=json.loads(row["annotations"]),
                    status=Status.RESOLVED if row["resolved_at"] else Status.FIRING,
                    firing=Firing(row["fingerprint"], row["starts_at"]),
                    starts_at=moment(row["starts_at"]).astimezone(UTC),
                    origin=Origin(row["origin"]),
                ),
                incident=row["incident"],
                receiver=row["receiver"],
                deliveries=row["deliveries"],
                first_delivery=row["first_delivery"],
                last_delivery=row["last_delivery"],
                received_at=moment(row["received_at"]),
                last_received_at=moment(row["last_received_at"]),
                resolved_at=maybe(moment, row["resolved_at"]),
            )
            for row in rows
        ]

    def _is_of_another_origin(self, alert: Alert) -> bool:
        row = self._database.row(
            "SELECT origin FROM firing WHERE fingerprint = ? AND starts_at = ?",
            identity(alert.firing),
        )
        return row is not None and row["origin"] != alert.origin.value

    def _distinguished(self, alert: Alert) -> Alert:
        """Return *alert*, under a name of its own if another one came first under that it has.

        Alertmanager makes the fingerprint of the labels; whoever forges one has no such scruples.
        """
        row = self._database.row(
            "SELECT labels FROM firing WHERE fingerprint = ? AND starts_at = ?",
            identity(alert.firing),
        )
        if row is None or json.loads(row["labels"]) == dict(alert.labels):
            return alert
        log.warning("two alerts with different labels say to be %s", alert.firing)
        digest = hashlib.sha256(json.dumps(sorted(alert.labels.items())).encode()).hexdigest()
        name = f"{alert.firing.fingerprint}-{digest[:16]}"
        return replace(alert, firing=replace(alert.firing, fingerprint=name))

    def _incident_of(self, firing: Firing) -> tuple[int | None, bool]:
        row = self._database.row(
            "SELECT i.id, i.closed_at FROM firing f JOIN incident i ON i.id = f.incident"
            " WHERE f.fingerprint = ? AND f.starts_at = ?",
            identity(firing),
        )
        return (None, False) if row is None else (row["id"], row["closed_at"] is None)

    def _open(self, alert: Alert, subject: str, fault: str, at: datetime) -> int:
        row = self._database.row(
            "SELECT id FROM incident WHERE subject = ? AND fault = ? AND closed_at IS NULL",
            (subject, fault),
        )
        if row is not None:
            return int(row["id"])
        title = alert.labels.get("container") or subject
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO incident (subject, fault, title, opened_at, next_look_at)"
                " VALUES (?, ?, ?, ?, ?)",
                (subject, fault, title, stamp(at), stamp(at)),
            )
        return int(cursor.lastrowid or 0)


def keep_gpus(connection: sqlite3.Connection, incident: int, names: Iterable[str]) -> None:
    """Keep that *incident* is about the GPUs *names*, UUIDs or slots: it is found by them."""
    connection.executemany(
        "INSERT OR IGNORE INTO incident_gpu (gpu, incident) VALUES (?, ?)",
        [(name, incident) for name in names if 0 < len(name) <= _LONGEST_GPU],
    )


def identity(firing: Firing) -> tuple[str, str]:
    """Return the two columns that tell one firing from all others."""
    return (firing.fingerprint, firing.starts_at)


def incident_of(row: sqlite3.Row) -> Incident:
    """Return the incident that a row of its table stands for."""
    return Incident(
        id=row["id"],
        subject=row["subject"],
        fault=row["fault"],
        title=row["title"],
        owner=row["owner"],
        opened_at=moment(row["opened_at"]),
        closed_at=maybe(moment, row["closed_at"]),
        outcome=row["outcome"],
        next_look_at=maybe(moment, row["next_look_at"]),
    )


def to_json(value: object) -> str:
    """Return *value* as it is kept in a JSON column."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=dict)
