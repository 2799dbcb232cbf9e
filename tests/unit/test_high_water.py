"""Acknowledged rows that a damaged write-ahead log has swallowed are missed, and said to be."""

import subprocess
import sys
from pathlib import Path

import pytest

from remediator.inbox.store import Inbox
from remediator.journal.journal import Journal
from tests.builders import NOON

# A program that stores and is killed: what it wrote is in the log and nowhere else.
_STORING = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from remediator.inbox.store import Inbox
inbox = Inbox.for_receiver(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    inbox.store(b"x" * 2000, "me", datetime.now(UTC))
os._exit(0)
"""
_JOURNALLING = """
import os, sys
from pathlib import Path
from remediator.journal.journal import Journal
from tests.builders import NOON, an_alert
journal = Journal.for_worker(Path(sys.argv[1]))
for number in range(int(sys.argv[2])):
    journal.incidents.attach(
        an_alert(fingerprint=str(number)), subject=str(number), fault="x", delivery=1, at=NOON,
        receiver="r",
    )
os._exit(0)
"""


def run(program: str, folder: Path, count: int) -> None:
    subprocess.run([sys.executable, "-c", program, str(folder), str(count)], check=True, timeout=60)


def flip_a_bit(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_deliveries_that_were_swallowed_are_missed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(_STORING, tmp_path, 40)
    flip_a_bit(tmp_path / "inbox.db-wal")

    inbox = Inbox.for_receiver(tmp_path)

    kept = len(inbox.after(0, most=100))
    assert 0 < kept < 40
    assert inbox.lost == 40 - kept
    assert "the inbox has lost the newest" in caplog.text
    inbox.close()
    again = Inbox.for_receiver(tmp_path)
    assert (again.lost, again.newest()) == (0, 40)
    assert again.store(b"new", "me", NOON) == 41
    again.close()


def test_nothing_is_missed_where_nothing_was_lost(tmp_path: Path) -> None:
    run(_STORING, tmp_path, 40)

    inbox = Inbox.for_receiver(tmp_path)

    assert (inbox.lost, len(inbox.after(0, most=100))) == (0, 40)
    inbox.close()


def test_an_inbox_made_anew_does_not_miss_what_the_old_one_held(tmp_path: Path) -> None:
    run(_STORING, tmp_path, 5)
    for path in tmp_path.glob("inbox.db*"):
        path.unlink()

    inbox = Inbox.for_receiver(tmp_path)

    assert inbox.lost == 0
    assert inbox.store(b"new", "me", NOON) == 1
    inbox.close()


@pytest.mark.parametrize("content", ["", "nonsense", "a b c", "x" * 4000, "\xff"])
def test_a_mark_that_makes_no_sense_is_none(tmp_path: Path, content: str) -> None:
    run(_STORING, tmp_path, 3)
    (tmp_path / "delivery.mark").write_text(content)

    inbox = Inbox.for_receiver(tmp_path)

    assert inbox.lost == 0
    inbox.store(b"new", "me", NOON)
    inbox.close()
    again = Inbox.for_receiver(tmp_path)
    assert again.lost == 0
    again.close()


def test_a_journal_that_lost_rows_pauses_everything(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(_JOURNALLING, tmp_path, 40)
    flip_a_bit(tmp_path / "journal.db-wal")

    journal = Journal.for_worker(tmp_path)

    kept = len(journal.incidents.latest(100))
    assert 0 < kept < 40
    reason = journal.operations.pause_reason()
    assert reason is not None
    assert reason.startswith("the journal has lost its newest rows (")
    assert "remediator resume" in caplog.text
    journal.operations.resume("carol", NOON)
    journal.close()
    again = Journal.for_worker(tmp_path)
    assert again.operations.pause_reason() is None
    again.close()


def test_a_journal_that_was_made_anew_pauses_everything(tmp_path: Path) -> None:
    run(_JOURNALLING, tmp_path, 3)
    for path in tmp_path.glob("journal.db*"):
        path.unlink()

    journal = Journal.for_worker(tmp_path)

    assert journal.operations.pause_reason() == (
        "the journal was made anew: what was done before is forgotten (the journal)"
    )
    journal.operations.resume("carol", NOON)
    journal.close()
    again = Journal.for_worker(tmp_path)
    assert again.operations.pause_reason() is None
    again.close()


def test_the_first_journal_of_all_pauses_nothing(tmp_path: Path) -> None:
    journal = Journal.for_worker(tmp_path)

    assert journal.operations.pause_reason() is None
    journal.close()


def test_a_journal_that_lost_nothing_goes_on(tmp_path: Path) -> None:
    run(_JOURNALLING, tmp_path, 40)

    journal = Journal.for_worker(tmp_path)

    assert len(journal.incidents.latest(100)) == 40
    assert journal.operations.pause_reason() is None
    journal.close()
