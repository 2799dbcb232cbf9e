"""The users file and the command that writes it; guesses, and how they are slowed down."""

import contextlib
import io
import json
import os
import pty
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from remediator.cli.main import main
from remediator.errors import SetupError
from remediator.web.throttle import FOR_ALL, PER_ADDRESS, PER_NAME, Throttle
from remediator.web.users import Role, User, Users, hash_of_token, user_with_password

PASSWORD = "correct horse battery"
TOKEN_HASH = hash_of_token("a token")


@pytest.fixture
def users(tmp_path: Path) -> Users:
    return Users(tmp_path / "users")


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    """The flags of a command whose users file is ``users``."""
    file = tmp_path / "settings.yaml"
    file.write_text(f"state_dir: {tmp_path}/state\npage: {{users_file: {tmp_path}/users}}\n")
    return ["--settings", str(file)]


def type_in(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))


def test_a_password_is_kept_by_its_hash_and_is_good(users: Users) -> None:
    users.put(user_with_password("alice", Role.OPERATOR, PASSWORD))

    assert PASSWORD not in users.path.read_text()
    assert "scrypt:32768:8:1$" in users.path.read_text()
    found = users.with_password("alice", PASSWORD)
    assert found is not None
    assert (found.name, found.role) == ("alice", Role.OPERATOR)
    assert users.with_password("alice", PASSWORD + " ") is None
    assert found.hash not in repr(found)


def test_a_token_is_no_password_and_a_password_no_token(users: Users) -> None:
    users.put(User("ci", Role.OPERATOR, TOKEN_HASH))
    users.put(user_with_password("alice", Role.VIEWER, PASSWORD))

    assert users.with_token("a token") == users.all()["ci"]
    assert users.with_token(PASSWORD) is None
    assert users.with_token("") is None
    assert users.with_token(TOKEN_HASH) is None
    assert users.with_password("ci", "a token") is None
    assert users.with_password("ci", TOKEN_HASH) is None


def test_an_account_that_is_put_again_is_changed(users: Users) -> None:
    assert users.put(User("ci", Role.OPERATOR, TOKEN_HASH))
    assert not users.put(User("ci", Role.VIEWER, TOKEN_HASH))

    assert [user.role for user in users.all().values()] == [Role.VIEWER]


def test_comments_and_other_accounts_stay_as_they_are(users: Users) -> None:
    users.path.write_text(f"# the lab\n\nbob:viewer:{TOKEN_HASH}\n# ci:operator:x\n")
    users.put(User("ci", Role.VIEWER, TOKEN_HASH))
    users.remove("bob")

    assert users.path.read_text() == f"# the lab\n\n# ci:operator:x\nci:viewer:{TOKEN_HASH}\n"


def test_what_is_not_there_is_not_removed(users: Users) -> None:
    users.put(User("ci", Role.VIEWER, TOKEN_HASH))

    assert not users.remove("# ci")
    assert not users.remove("nobody")
    assert users.remove("ci")


@pytest.mark.parametrize(
    "line",
    [
        "alice",
        "alice:operator",
        "alice:admin:" + TOKEN_HASH,
        "alice:operator:plain",
        "alice:operator:sha256:abc",
        "alice:operator:scrypt:32768:8:1$salt$",
        ":operator:" + TOKEN_HASH,
        "al ice:operator:" + TOKEN_HASH,
        "bob:viewer:" + TOKEN_HASH,
    ],
)
def test_a_line_that_is_no_account_voids_the_file(users: Users, line: str) -> None:
    users.path.write_text(f"bob:operator:{TOKEN_HASH}\n{line}\n")

    with pytest.raises(SetupError, match="users:2: ") as refusal:
        users.all()

    assert TOKEN_HASH not in str(refusal.value)
    with pytest.raises(SetupError):
        users.put(User("ci", Role.VIEWER, TOKEN_HASH))
    assert line in users.path.read_text()


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_lets_nobody_in(users: Users, content: bytes | None) -> None:
    if content is not None:
        users.path.write_bytes(content)

    with pytest.raises(SetupError, match="cannot be read"):
        users.with_token("a token")


def test_an_edit_takes_effect_by_itself(users: Users) -> None:
    users.put(User("ci", Role.VIEWER, TOKEN_HASH))
    assert users.all()["ci"].role is Role.VIEWER

    users.path.write_text(f"ci:operator:{TOKEN_HASH}\n")

    assert users.all()["ci"].role is Role.OPERATOR


def test_the_file_is_nobody_elses_to_read_and_keeps_its_group(users: Users) -> None:
    users.put(User("ci", Role.VIEWER, TOKEN_HASH), group=os.getgid())
    before = users.path.stat()
    users.put(User("bob", Role.VIEWER, TOKEN_HASH), group=0)

    after = users.path.stat()
    assert stat.S_IMODE(before.st_mode) == stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    assert [file.name for file in users.path.parent.iterdir()] == ["users"]


def test_no_change_is_lost_to_another_at_the_same_time(users: Users) -> None:
    names = [f"user{n}" for n in range(20)]
    threads = [
        threading.Thread(target=Users(users.path).put, args=[User(n, Role.VIEWER, TOKEN_HASH)])
        for n in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(users.all()) == sorted(names)


def test_an_account_is_added_shown_and_removed(
    tmp_path: Path,
    settings: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    type_in(monkeypatch, PASSWORD + "\n")

    assert main(["user", "add", "alice", "--role", "operator", *settings]) == 0
    assert capsys.readouterr().err == "alice is added: operator\n"
    assert Users(tmp_path / "users").with_password("alice", PASSWORD) is not None
    assert main(["user", "list", "--json", *settings]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed == [{"name": "alice", "role": "operator", "by": "password"}]
    assert main(["user", "list", *settings]) == 0
    assert "operator" in capsys.readouterr().out
    assert main(["user", "remove", "alice", *settings]) == 0
    assert main(["user", "remove", "alice", *settings]) == 1


def test_on_a_terminal_the_password_is_asked_for_twice_and_not_shown(
    tmp_path: Path, settings: list[str]
) -> None:
    terminal, end = pty.openpty()
    command = [sys.executable, "-m", "remediator", "user", "add", "a", *settings]
    # The terminal has to be the child's own: that is where a password is asked for.
    child = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *command], stdin=end, stdout=end, stderr=end
    )
    os.close(end)
    shown = b""
    for prompt in (b"Password: ", b"Once more: "):
        while not shown.endswith(prompt):
            shown += os.read(terminal, 1000)
        os.write(terminal, PASSWORD.encode() + b"\n")
    with contextlib.suppress(OSError):
        while data := os.read(terminal, 1000):
            shown += data
    os.close(terminal)

    assert child.wait() == 0
    assert PASSWORD.encode() not in shown
    assert Users(tmp_path / "users").with_password("a", PASSWORD) is not None


def test_a_token_is_printed_once_and_is_good(
    tmp_path: Path, settings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["user", "add", "ci", "--token", *settings]) == 0

    token = capsys.readouterr().out.strip()
    found = Users(tmp_path / "users").with_token(token)
    assert found == User("ci", Role.VIEWER, hash_of_token(token))
    assert token not in (tmp_path / "users").read_text()


@pytest.mark.parametrize(
    ("name", "typed"),
    [("alice", "short\n"), ("alice", ""), ("al:ice", PASSWORD), ("", PASSWORD), ("-rf", PASSWORD)],
)
def test_what_will_not_do_is_refused(
    tmp_path: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch, name: str, typed: str
) -> None:
    type_in(monkeypatch, typed)

    assert main(["user", "add", *settings, "--", name]) == 1
    assert not (tmp_path / "users").exists()


def test_a_refusal_says_what_is_wanted() -> None:
    with pytest.raises(ValueError, match="a password has at least 12 characters"):
        user_with_password("alice", Role.VIEWER, "short")
    with pytest.raises(ValueError, match="is no name: letters, digits"):
        user_with_password("al:ice", Role.VIEWER, PASSWORD)


def test_without_a_users_file_nothing_is_added(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.yaml").write_text("{}\n")

    assert main(["user", "list", "--settings", str(tmp_path / "settings.yaml")]) == 1
    assert "page.users_file" in capsys.readouterr().err


def test_each_address_has_so_many_tries_and_then_one_at_a_time() -> None:
    throttle = Throttle()
    waits = [throttle.wait("192.0.2.1", f"name{n}", float(n)) for n in range(PER_ADDRESS.most)]

    assert waits == [0] * PER_ADDRESS.most
    wait = throttle.wait("192.0.2.1", "another", PER_ADDRESS.most)
    assert 0 < wait <= PER_ADDRESS.seconds
    assert throttle.wait("192.0.2.2", "another", PER_ADDRESS.most) == 0
    assert throttle.wait("192.0.2.1", "another", PER_ADDRESS.most + wait + 0.01) == 0
    assert throttle.wait("192.0.2.1", "another", PER_ADDRESS.most + wait + 0.02) > 0


def test_a_name_is_guarded_from_many_addresses() -> None:
    throttle = Throttle()
    waits = [throttle.wait(f"192.0.2.{n}", "alice", float(2 * n)) for n in range(40)]

    assert [wait > 0 for wait in waits].index(True) >= PER_NAME.most
    assert throttle.wait("198.51.100.1", "bob", 100) == 0


def test_all_together_cannot_keep_the_receiver_busy() -> None:
    throttle = Throttle()
    tries = [throttle.wait(f"10.{n >> 8}.{n & 255}.1", f"name{n}", 0) for n in range(500)]

    assert tries.count(0) <= FOR_ALL.most


def test_a_whole_network_of_ipv6_counts_as_one() -> None:
    throttle = Throttle()
    waits = [throttle.wait(f"2001:db8::{n:x}", f"name{n}", 0) for n in range(9)]

    assert waits[-1] > 0
    assert throttle.wait("2001:db8:0:1::1", "name", 0) == 0


def test_who_was_right_frees_the_name_and_only_that_try_of_the_address() -> None:
    throttle = Throttle()
    for _ in range(PER_ADDRESS.most - 1):
        throttle.wait("192.0.2.1", "alice", 0)
    throttle.wait("192.0.2.1", "bob", 0)
    throttle.forget("192.0.2.1", "bob")

    assert throttle.wait("192.0.2.1", "bob", 0) == 0
    assert throttle.wait("192.0.2.1", "bob", 0) > 0


def test_what_is_remembered_does_not_grow() -> None:
    throttle = Throttle()
    for n in range(30_000):
        throttle.wait(f"10.{n >> 16}.{(n >> 8) & 255}.{n & 255}", f"name{n}", 2.0 * n)

    assert len(throttle._buckets) <= 4097
