"""A database of any earlier version is brought to the newest one, with all that it holds."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import resources
from pathlib import Path

import pytest

from remediator.core.attempts import IN_PROGRESS
from remediator.core.case import Breaker
from remediator.core.tallies import Tally
from remediator.database import open_writer
from remediator.errors import JournalError, StoreError
from remediator.inbox.store import Inbox
from remediator.journal.attempts import Need
from remediator.journal.journal import FILE, Journal
from tests.builders import NOON

Rows = dict[str, list[dict[str, object]]]

# What a first version has lived through: every table of it holds something.
LIVED_IN = {
    "remediator.journal": """
        UPDATE intake SET inbox = 'box', last_delivery = 7, refused = 2;
        INSERT INTO incident (subject, fault, title, opened_at)
            VALUES ('container:c', 'idle', 'c', '2026-03-01T11:00:00.000000+00:00');
        INSERT INTO firing VALUES ('f', 's', 1, 'Idle', '{}', '{}', 'r', 1, 1, 1,
            '2026-03-01T11:00:00.000000+00:00', '2026-03-01T11:00:00.000000+00:00', NULL);
        INSERT INTO decision (incident, fingerprint, starts_at, verdict, because, evidence, at,
            last_at) VALUES (1, 'f', 's', 'hold', 'x', '[]', 't', 't');
        INSERT INTO warning VALUES ('f', 's', 'container:c@t', 'idle', 1, 't');
        INSERT INTO attempt (id, incident, policy_rule, rung, remediation, target, task, state,
            planned_at) VALUES (40, 1, 'idle', 0, 'stop-container', 'container:c@t', '{}',
            'unknown', '2026-03-01T11:00:00.000000+00:00');
        INSERT INTO step (attempt, name, detail, began_at) VALUES (40, 'stop', 'x', 't');
        INSERT INTO notice (incident, kind, notifier, recipient, subject, body, created_at,
            next_try_at) VALUES (1, 'acted', 'mail', 'bob', 's', 'b', 't', 't');
        INSERT INTO pause (reason, actor, began_at)
            VALUES ('x', 'bob', '2026-03-01T11:00:00.000000+00:00');
    """,
    "remediator.inbox": """
        INSERT INTO delivery (id, received_at, sender, body)
            VALUES (9, '2026-03-01T11:00:00.000000+00:00', 'me', x'7b7d');
    """,
}


def scripts(package: str) -> list[str]:
    folder = resources.files(package).joinpath("schema")
    return [file.read_text() for file in sorted(folder.iterdir(), key=lambda file: file.name)]


VERSIONS = [
    pytest.param(package, version, id=f"{package.rsplit('.', 1)[1]} {version}")
    for package in LIVED_IN
    for version in range(1, len(scripts(package)) + 1)
]


def make(path: Path, package: str, version: int) -> None:
    """Make a database as it is on a machine that came from the first version to *version*."""
    migrations = scripts(package)[:version]
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(migrations[0] + LIVED_IN[package])
        for script in migrations[1:]:
            raw.executescript(script)
        raw.executescript(f"PRAGMA user_version = {version}; PRAGMA journal_mode = WAL;")


@contextmanager
def looking(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as raw:
        raw.row_factory = sqlite3.Row
        yield raw


def names(raw: sqlite3.Connection, kind: str) -> list[str]:
    sql = "SELECT name FROM sqlite_schema WHERE type = ? AND name NOT LIKE 'sqlite_a%' ORDER BY 1"
    return [row[0] for row in raw.execute(sql, (kind,))]


def content(path: Path) -> Rows:
    with looking(path) as raw:
        return {
            table: [dict(row) for row in raw.execute(f"SELECT * FROM {table}")]  # noqa: S608
            for table in names(raw, "table")
        }


def shape(path: Path) -> object:
    """Return all tables with their columns, and all indices with what they are on."""
    with looking(path) as raw:
        tables = {
            table: [tuple(row) for row in raw.execute(f"PRAGMA table_info({table})")]
            for table in names(raw, "table")
        }
        indices = raw.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index'").fetchall()
        return tables, sorted(tuple(row) for row in indices)


@pytest.mark.parametrize(("package", "version"), VERSIONS)
def test_every_row_is_kept_and_nothing_tells_it_from_one_that_is_new(
    folder: Path, package: str, version: int
) -> None:
    old, new = folder / "old.db", folder / "new.db"
    make(old, package, version)
    before = content(old)

    open_writer(old, package, StoreError).close()
    open_writer(new, package, StoreError).close()

    after = content(old)
    for table, rows in before.items():
        kept = [{name: row[name] for name in rows[0]} for row in after[table]] if rows else []
        assert kept == rows, table
    assert shape(old) == shape(new)
    with looking(old) as raw:
        assert [tuple(row) for row in raw.execute("PRAGMA integrity_check")] == [("ok",)]
        assert raw.execute("PRAGMA foreign_key_check").fetchall() == []
        assert raw.execute("PRAGMA user_version").fetchone()[0] == len(scripts(package))


@pytest.mark.parametrize("package", LIVED_IN)
def test_the_first_version_has_something_in_every_table(folder: Path, package: str) -> None:
    make(folder / "old.db", package, 1)

    assert [table for table, rows in content(folder / "old.db").items() if not rows] == []


def test_a_migrated_journal_goes_on_where_it_was(folder: Path) -> None:
    make(folder / FILE, "remediator.journal", 1)

    journal = Journal.for_worker(folder)

    mark = journal.intake.mark()
    assert (mark.last_delivery, mark.refused, mark.last_command) == (7, 2, 0)
    assert journal.operations.pause_reason() == "x (bob)"
    assert journal.operations.breaker() == Breaker()
    [past] = journal.attempts.past(Need(None, ()), NOON)
    assert past.state in IN_PROGRESS
    assert journal.tallies.all() == {(Tally.DECISIONS, "hold/"): 1}
    journal.close()


@pytest.mark.parametrize("version", range(1, len(scripts("remediator.inbox")) + 1))
def test_a_migrated_inbox_gives_no_number_twice(folder: Path, version: int) -> None:
    make(folder / "inbox.db", "remediator.inbox", version)

    inbox = Inbox.for_receiver(folder)

    assert inbox.store(b"{}", "me", NOON) == 10
    inbox.close()


def test_what_was_forgotten_before_a_migration_keeps_its_number(folder: Path) -> None:
    make(folder / "inbox.db", "remediator.inbox", 2)
    with looking(folder / "inbox.db") as raw:
        raw.execute("DELETE FROM delivery")
        raw.commit()

    inbox = Inbox.for_receiver(folder)

    assert inbox.newest() == 9
    assert inbox.store(b"{}", "me", NOON) == 10
    inbox.close()


@pytest.mark.parametrize("version", range(1, len(scripts("remediator.inbox")) + 1))
def test_a_worker_goes_on_reading_an_inbox_that_is_migrated_meanwhile(
    folder: Path, version: int
) -> None:
    make(folder / "inbox.db", "remediator.inbox", version)
    reader = Inbox.for_worker(folder)
    assert (reader.newest(), reader.commands_after(0)) == (9, [])

    inbox = Inbox.for_receiver(folder)
    inbox.store(b"new", "me", NOON)

    assert [(one.id, one.body) for one in reader.after(0)] == [(9, b"{}"), (10, b"new")]
    assert reader.newest() == 10
    inbox.close()
    reader.close()


def test_a_migration_that_fails_leaves_the_version_that_was(folder: Path) -> None:
    make(folder / FILE, "remediator.journal", 1)
    with looking(folder / FILE) as raw:
        # What the last statements of a later version would make is in their way.
        raw.execute("CREATE INDEX attempt_counted ON attempt (id)")
    before = content(folder / FILE)

    with pytest.raises(JournalError, match="index attempt_counted already exists"):
        Journal.for_worker(folder)

    with looking(folder / FILE) as raw:
        raw.execute("DROP INDEX attempt_counted")
    Journal.for_worker(folder).close()
    after = content(folder / FILE)
    assert before.keys() <= after.keys()
    assert after["attempt"] == before["attempt"]


def test_a_reader_says_what_to_do_about_a_journal_that_is_not_migrated_yet(folder: Path) -> None:
    make(folder / FILE, "remediator.journal", 1)

    newest = len(scripts("remediator.journal"))
    message = f"has schema version 1, {newest} is needed: restart the program that writes it"
    with pytest.raises(JournalError, match=message):
        Journal.for_reading(folder)
