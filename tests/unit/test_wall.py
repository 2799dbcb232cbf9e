import os
import pty
import struct
from pathlib import Path

import pytest

from remediator.core.notices import Letter, NoticeKind
from remediator.errors import NotifyError
from remediator.notifiers.interface import Envelope
from remediator.notifiers.wall import Session, Wall, read_sessions

RECORD = struct.Struct("<hxxi32s4s32s256shhiii4I20s")
LOGGED_IN, LOGIN, DEAD = 7, 6, 8


def record(user: bytes, line: bytes, kind: int = LOGGED_IN) -> bytes:
    return RECORD.pack(kind, 1, line, b"", user, b"", 0, 0, 0, 0, 0, 0, 0, 0, 0, b"")


def envelope(recipient: str, body: str = "It was stopped.") -> Envelope:
    letter = Letter(NoticeKind.ACTED, "wall", recipient, "idle was stopped", body)
    return Envelope("notice-1.ab12", "incident-1.ab12", "gpu1", letter)


def write(folder: Path, content: bytes) -> Path:
    path = folder / "utmp"
    path.write_bytes(content)
    return path


def test_a_record_is_as_long_as_glibc_makes_it() -> None:
    assert RECORD.size == 384


def test_only_people_who_are_logged_in_are_sessions(folder: Path) -> None:
    utmp = write(
        folder,
        record(b"alice", b"pts/0")
        + record(b"LOGIN", b"tty1", LOGIN)
        + record(b"bob", b"pts/1", DEAD)
        + record(b"carol", b"pts/2"),
    )

    assert [*read_sessions(utmp)] == [Session("alice", "pts/0"), Session("carol", "pts/2")]


@pytest.mark.parametrize("line", [b"", b"/etc/passwd", b"../etc/passwd", b"pts/../../etc/passwd"])
def test_a_line_that_is_no_name_under_dev_is_left_out(folder: Path, line: bytes) -> None:
    assert [*read_sessions(write(folder, record(b"alice", line)))] == []


def test_half_a_record_at_the_end_is_left_out(folder: Path) -> None:
    utmp = write(folder, record(b"alice", b"pts/0") + b"\7\0half")

    assert [*read_sessions(utmp)] == [Session("alice", "pts/0")]


def test_a_system_without_the_file_has_nobody_logged_in(folder: Path) -> None:
    assert [*read_sessions(folder / "utmp")] == []


def test_a_file_that_cannot_be_read_is_a_failure_to_tell(folder: Path) -> None:
    with pytest.raises(NotifyError, match="Is a directory"):
        Wall(folder).send(envelope("alice"))


@pytest.mark.parametrize("line", [b"null", b"zero", b"shm", b"no-such-line"])
def test_what_is_no_terminal_is_not_reached(folder: Path, line: bytes) -> None:
    utmp = write(folder, record(b"alice", line))

    assert Wall(utmp).send(envelope("alice")) == "0 of 1 terminals of alice reached"


def test_a_link_is_not_followed(folder: Path) -> None:
    # /dev/fd leads to /proc/self/fd, whose entries are links to wherever.
    master, slave = pty.openpty()
    utmp = write(folder, record(b"alice", f"fd/{slave}".encode()))

    said = Wall(utmp).send(envelope("alice"))

    os.close(slave)
    os.close(master)
    assert said == "0 of 1 terminals of alice reached"


def test_the_text_is_written_with_the_line_ends_of_a_terminal(folder: Path) -> None:
    master, slave = pty.openpty()
    utmp = write(folder, record(b"alice", os.ttyname(slave).removeprefix("/dev/").encode()))

    said = Wall(utmp).send(envelope("alice", "one\ntwo"))
    text = os.read(master, 4096)

    os.close(slave)
    os.close(master)
    assert said == "1 of 1 terminals of alice reached"
    assert b"Remediator on gpu1: idle was stopped" in text
    assert b"\r\n" in text
    assert b"\none" in text


def test_who_is_told_is_named_cleanly(folder: Path) -> None:
    assert Wall(folder / "utmp").send(envelope("a\x1b[2Jb")) == "0 of 0 terminals of a[2Jb reached"
