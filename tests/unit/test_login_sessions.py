"""Who is logged in over the network, on systems with utmp, with logind, with both and neither."""

import os
import struct
from pathlib import Path

import pytest

from remediator.errors import SourceError
from remediator.sources.login_sessions import LoginSessions

RECORD = struct.Struct("<hxxi32s4s32s256s52x")
BOOT, LOGIN, USER, DEAD = 2, 6, 7, 8


class System:
    """A /run and a /proc in a folder."""

    def __init__(self, folder: Path) -> None:
        self.utmp = folder / "utmp"
        self.folder = folder / "sessions"
        self.proc = folder / "proc"
        self.source = LoginSessions(self.utmp, self.folder, self.proc)

    def boot(self) -> None:
        self.record(BOOT, "~", "reboot", "6.1.0-13-amd64")

    def record(self, kind: int, line: str, user: str, host: str, pid: int = 0) -> None:
        fields = (kind, pid, line.encode(), b"x", user.encode(), host.encode())
        with self.utmp.open("ab") as file:
            file.write(RECORD.pack(*fields).ljust(400 if os.uname().machine == "aarch64" else 384))

    def session(self, name: str, **values: str) -> None:
        self.folder.mkdir(exist_ok=True)
        known = {"USER": "alice", "REMOTE": "1", "STATE": "active", "CLASS": "user"} | values
        text = "".join(f"{key}={value}\n" for key, value in known.items())
        (self.folder / name).write_text("# This is private data. Do not parse.\n" + text)


@pytest.fixture
def system(tmp_path: Path) -> System:
    return System(tmp_path)


def test_nothing_is_known_where_nobody_keeps_sessions(system: System) -> None:
    assert system.source.users() is None


def test_nobody_is_logged_in_after_a_boot(system: System) -> None:
    system.boot()

    assert system.source.users() == ()


def test_each_terminal_over_the_network_is_a_session(system: System) -> None:
    system.boot()
    system.record(USER, "pts/0", "alice", "192.0.2.1")
    system.record(USER, "pts/1", "alice", "2001:db8::1")
    system.record(USER, "pts/2", "bob", "::1")
    system.record(USER, "pts/3", "carol", "192.0.2.9 via mosh [77]")

    assert system.source.users() == ("alice", "alice", "bob", "carol")


@pytest.mark.parametrize(
    ("kind", "host"),
    [
        pytest.param(USER, "", id="a console"),
        pytest.param(USER, ":0", id="a display"),
        pytest.param(USER, ":pts/1:S.0", id="screen"),
        pytest.param(USER, "tmux(4711).%0", id="tmux"),
        pytest.param(USER, "login screen", id="the greeter"),
        pytest.param(DEAD, "192.0.2.1", id="ended"),
        pytest.param(LOGIN, "192.0.2.1", id="not logged in yet"),
    ],
)
def test_what_did_not_come_over_the_network_is_no_session(
    system: System, kind: int, host: str
) -> None:
    system.boot()
    system.record(kind, "pts/0", "alice", host)

    assert system.source.users() == ()


def test_a_record_whose_process_is_gone_is_no_session(system: System) -> None:
    system.boot()
    system.record(USER, "pts/0", "alice", "192.0.2.1", pid=4711)
    assert system.source.users() == ()

    (system.proc / "4711").mkdir(parents=True)

    assert system.source.users() == ("alice",)


def test_a_terminal_counts_once(system: System) -> None:
    system.boot()
    system.record(USER, "pts/0", "alice", "192.0.2.1")
    system.record(USER, "pts/0", "bob", "192.0.2.2")

    assert system.source.users() == ("bob",)


def test_where_both_are_kept_nobody_counts_twice(system: System) -> None:
    system.boot()
    system.record(USER, "pts/0", "alice", "192.0.2.1")
    system.session("3")

    assert system.source.users() == ("alice",)


def test_logind_tells_where_utmp_is_not_kept(system: System) -> None:
    system.utmp.touch()
    system.session("3")
    system.session("c1", USER="bob", TTY="pts/1")

    assert system.source.users() == ("alice", "bob")


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"REMOTE": "0"}, id="a console"),
        pytest.param({"STATE": "closing"}, id="ended, with programs left behind"),
        pytest.param({"CLASS": "greeter"}, id="the greeter"),
        pytest.param({"CLASS": "background"}, id="cron"),
        pytest.param({"CLASS": "manager"}, id="the user's own systemd"),
    ],
)
def test_other_sessions_of_logind_do_not_count(system: System, values: dict[str, str]) -> None:
    system.session("3", **values)

    assert system.source.users() == ()


def test_the_pipes_beside_sessions_are_left_alone(system: System) -> None:
    system.session("3")
    os.mkfifo(system.folder / "3.ref")
    os.mkfifo(system.folder / "4")

    assert system.source.users() == ("alice",)


def test_a_session_without_a_name_has_its_number(system: System) -> None:
    system.session("3", USER="", UID="70001")

    assert system.source.users() == ("70001",)


def test_what_cannot_be_read_is_an_error(system: System) -> None:
    system.folder.touch()
    with pytest.raises(SourceError, match="sessions"):
        system.source.users()

    system.utmp.symlink_to(system.utmp)
    with pytest.raises(SourceError, match="utmp"):
        system.source.users()


def test_a_cut_off_file_of_nonsense_is_nobody(system: System) -> None:
    system.utmp.write_bytes(b"\xff" * 1000)

    assert system.source.users() is None
