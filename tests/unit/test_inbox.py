import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.errors import InboxError
from remediator.inbox import store
from remediator.inbox.bell import FILE, Bell, ring
from remediator.inbox.store import Inbox, Stored
from tests.builders import HOUR, MINUTE, NOON
from tests.peers.missing import require_root, require_tool


@pytest.fixture
def inbox(folder: Path) -> Iterator[Inbox]:
    opened = Inbox.for_receiver(folder)
    yield opened
    opened.close()


def numbers(inbox: Inbox, last: int = 0) -> list[int]:
    return [stored.id for stored in inbox.after(last)]


def test_a_delivery_is_kept_as_it_was_sent(inbox: Inbox) -> None:
    body = b'{"not": "json\xff\x00'

    number = inbox.store(body, "127.0.0.1 Alertmanager/0.25", NOON)

    assert number == 1
    assert inbox.after(0) == [Stored(1, NOON, "127.0.0.1 Alertmanager/0.25", body)]


def test_deliveries_are_given_out_in_order_from_a_number_on(inbox: Inbox) -> None:
    for minute in (3, 1, 2):
        inbox.store(b"", "", NOON + minute * MINUTE)

    assert numbers(inbox) == [1, 2, 3]
    assert numbers(inbox, 1) == [2, 3]
    assert numbers(inbox, 3) == []
    assert [stored.id for stored in inbox.after(0, most=2)] == [1, 2]


def test_deliveries_of_one_moment_are_stored_together_in_their_order(inbox: Inbox) -> None:
    inbox.store(b"before", "a", NOON)

    given = inbox.store_all([(b"one", "a"), (b"two", "b")], NOON)

    assert given == [2, 3]
    assert [(s.id, s.body, s.sender) for s in inbox.after(1)] == [
        (2, b"one", "a"),
        (3, b"two", "b"),
    ]
    assert inbox.newest() == 3


def test_one_that_cannot_be_stored_leaves_none_of_them_behind(inbox: Inbox) -> None:
    inbox._database._connection.execute("PRAGMA max_page_count = 20")

    with pytest.raises(InboxError, match="full"):
        inbox.store_all([(b"small", "a"), (bytes(1_000_000), "b")], NOON)

    assert inbox.after(0) == []
    assert inbox.store(b"small", "a", NOON) == 1


def test_the_worker_reads_what_the_receiver_goes_on_to_write(inbox: Inbox, folder: Path) -> None:
    inbox.store(b"", "", NOON)
    reader = Inbox.for_worker(folder)

    inbox.store(b"", "", NOON)

    assert numbers(reader) == [1, 2]
    with pytest.raises(InboxError, match="readonly"):
        reader.store(b"", "", NOON)
    reader.close()


def test_the_worker_waits_for_the_receivers_first_start(folder: Path) -> None:
    with pytest.raises(InboxError, match="does not exist yet"):
        Inbox.for_worker(folder)


def test_only_what_was_taken_and_is_old_is_forgotten(inbox: Inbox) -> None:
    for hour in range(4):
        inbox.store(b"", "", NOON + hour * HOUR)

    assert inbox.forget(2, 0, NOON + 3 * HOUR, 9) == 2
    assert inbox.forget(4, 0, NOON + 3 * HOUR, 9) == 1
    assert numbers(inbox) == [4]


def test_a_number_is_never_used_again(inbox: Inbox, folder: Path) -> None:
    assert inbox.newest() == 0
    inbox.store(b"", "", NOON)
    inbox.store(b"", "", NOON)
    inbox.forget(2, 0, NOON + HOUR, 9)
    again = Inbox.for_receiver(folder)

    assert inbox.newest() == 2
    assert again.store(b"", "", NOON) == 3
    again.close()


def test_what_is_forgotten_keeps_its_number(inbox: Inbox) -> None:
    numbers_given = [inbox.store(b"", "", NOON), inbox.give(b"", "bob", NOON)]
    inbox.forget(9, 9, NOON + HOUR, 9)
    inbox.forget(9, 9, NOON + HOUR, 9)

    assert numbers_given == [1, 1]
    assert inbox.store_all([(b"", ""), (b"", "")], NOON) == [2, 3]
    assert inbox.give(b"", "bob", NOON) == 2


def test_making_the_file_small_again_gives_no_number_twice(inbox: Inbox, folder: Path) -> None:
    inbox.store(b"", "", NOON)
    inbox.forget(1, 0, NOON + HOUR, 9)
    with contextlib.closing(sqlite3.connect(folder / store.FILE)) as other:
        other.execute("VACUUM")

    assert inbox.store(b"", "", NOON) == 2


def test_a_small_delivery_costs_one_page_of_the_log(inbox: Inbox, folder: Path) -> None:
    log = folder / f"{store.FILE}-wal"
    inbox.store(b"", "", NOON)
    before = log.stat().st_size

    inbox.store(b"", "", NOON)

    page = inbox._database._connection.execute("PRAGMA page_size").fetchone()[0]
    frame_header = 24
    assert log.stat().st_size - before == page + frame_header


def test_a_bell_wakes_at_once_and_rings_once_however_often_it_was_rung(folder: Path) -> None:
    bell = Bell(folder)
    ring(folder)
    ring(folder)
    bell.ring()

    assert bell.wait(timedelta(seconds=20))
    assert not bell.wait(timedelta())
    bell.close()


def test_a_bell_is_heard_by_who_waits(folder: Path) -> None:
    bell = Bell(folder)
    heard: list[bool] = []
    waiter = threading.Thread(target=lambda: heard.append(bell.wait(timedelta(seconds=20))))
    waiter.start()

    ring(folder)

    waiter.join(20)
    assert heard == [True]
    bell.close()


def test_ringing_where_nobody_listens_is_no_error(folder: Path) -> None:
    ring(folder)
    ring(folder / "missing")
    Bell(folder).close()
    ring(folder)

    assert not (folder / FILE).exists()


def test_a_queue_full_of_rings_holds_nobody_up(folder: Path) -> None:
    bell = Bell(folder)
    for _ in range(5000):
        ring(folder)

    assert bell.wait(timedelta())
    assert not bell.wait(timedelta())
    bell.close()


def test_a_bell_takes_the_place_of_one_that_was_killed(folder: Path) -> None:
    (folder / FILE).touch()
    bell = Bell(folder)
    ring(folder)

    assert bell.wait(timedelta(seconds=20))
    bell.close()


def test_a_negative_wait_is_none(folder: Path) -> None:
    bell = Bell(folder)

    assert not bell.wait(timedelta(seconds=-5))
    bell.close()


def test_a_row_that_no_receiver_wrote_keeps_no_other_waiting(folder: Path) -> None:
    inbox = Inbox.for_receiver(folder)
    number = inbox.store(b"{}", "somebody", NOON)
    with inbox._database.transaction() as connection:
        connection.execute("UPDATE delivery SET received_at = 'yesterday'")

    [stored] = inbox.after(0)

    assert stored.id == number
    assert stored.received_at.year == 1970
    inbox.close()


@pytest.mark.parametrize("bait", ["link", "pipe", "folder"])
def test_what_a_receiver_that_was_taken_over_puts_there_is_not_opened(
    tmp_path: Path, bait: str
) -> None:
    """Root would follow the link, and wait at the pipe for ever."""
    place = tmp_path / store.FILE
    if bait == "link":
        with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as other:
            other.execute("CREATE TABLE delivery (x)")
        place.symlink_to(tmp_path / "other.db")
    elif bait == "pipe":
        os.mkfifo(place)
    else:
        place.mkdir()

    with pytest.raises(InboxError, match="is no plain file"):
        Inbox.for_worker(tmp_path)


MANY_RINGS = """
import sys
from datetime import timedelta
from pathlib import Path
from remediator.inbox.bell import Bell, ring
Path("/proc/sys/net/unix/max_dgram_qlen").write_text("1000")
bell = Bell(Path(sys.argv[1]))
for _ in range(250):
    ring(Path(sys.argv[1]))
print([bell.wait(timedelta()) for _ in range(4)])
"""


def test_whoever_rings_without_end_does_not_keep_the_worker_listening(tmp_path: Path) -> None:
    """In a network of its own, where the queue may be made longer than what is heard at once."""
    require_root("a network of one's own")
    command = [require_tool("unshare"), "--net", "--", sys.executable, "-c", MANY_RINGS]

    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=True)

    # It returns with some unheard, and so also while there are always more.
    assert done.stdout == "[True, True, True, False]\n"


def test_a_large_inbox_is_taken_without_reading_all_of_it(folder: Path) -> None:
    inbox = Inbox.for_receiver(folder)
    for _ in range(5):
        inbox.store(bytes(10_000_000), "a", NOON)
    inbox.close()
    with (folder / "inbox.db").open("r+b") as file:
        file.seek(20_000_000)
        file.write(b"\xa5" * 50_000)

    inbox = Inbox.for_receiver(folder)
    # Alertmanager is not kept waiting by what was damaged long ago.
    assert inbox.store(b"new", "a", NOON) == 6
    inbox.close()
