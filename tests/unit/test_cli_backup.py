"""`remediator backup`: copies that can be used, taken while somebody writes."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from remediator.cli.main import main
from remediator.inbox.store import FILE as INBOX
from remediator.inbox.store import Inbox
from remediator.journal.journal import FILE as JOURNAL
from remediator.journal.journal import Journal
from tests.builders import NOON, an_alert
from tests.unit.engine_site import EngineSite


@pytest.fixture
def site(tmp_path: Path) -> Iterator[EngineSite]:
    state = tmp_path / "state"
    state.mkdir()
    (state / "inbox").symlink_to(state)
    site = EngineSite(state)
    yield site
    site.close()


def back_up(site: EngineSite, folder: Path) -> int:
    return main(["backup", str(folder), "--state-dir", str(site.folder)])


def test_a_backup_holds_all_that_was_there_and_can_be_gone_on_from(
    site: EngineSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site.deliver(an_alert({"container_id": "c" * 64}))
    site.round()
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            site.inbox.store(b"x" * 1000, "me", NOON)

    writing = threading.Thread(target=write)
    writing.start()
    try:
        assert back_up(site, tmp_path / "copy") == 0
    finally:
        stop.set()
        writing.join()

    assert "complete at " in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == [INBOX, JOURNAL]
    journal, inbox = Journal.for_worker(tmp_path / "copy"), Inbox.for_receiver(tmp_path / "copy")
    assert [a.state.value for a in journal.attempts.of_incident(1)] == ["succeeded"]
    assert journal.operations.pause_reason() is None
    assert inbox.store(b"new", "me", NOON) == inbox.newest()
    journal.close()
    inbox.close()


def test_a_folder_that_is_there_is_not_written_to(
    site: EngineSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert back_up(site, tmp_path) == 1

    assert f"cannot make {tmp_path}: File exists" in capsys.readouterr().err
    assert not (tmp_path / JOURNAL).exists()


def test_without_databases_there_is_nothing_to_copy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["backup", str(tmp_path / "copy"), "--state-dir", str(tmp_path)]) == 1

    assert "nothing is copied" in capsys.readouterr().err
    assert not (tmp_path / "copy").exists()


def test_a_damaged_database_is_no_backup(
    site: EngineSite, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(200):
        site.deliver(an_alert({"container_id": str(number)}, fingerprint=str(number)))
    site.close()
    damaged = site.folder / JOURNAL
    content = bytearray(damaged.read_bytes())
    content[8192:12288] = b"\x07" * 4096
    damaged.write_bytes(content)

    assert back_up(site, tmp_path / "copy") == 1

    assert str(damaged) in capsys.readouterr().err
