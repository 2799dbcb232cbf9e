"""The page's settings, and the key that signs its sessions."""

import ipaddress
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.config.page import PageSettings
from remediator.config.settings import read_settings
from remediator.errors import ConfigError, SetupError
from remediator.web.sessions import session_key
from remediator.web.visitors import check_page


def read(folder: Path, text: str) -> PageSettings:
    file = folder / "settings.yaml"
    file.write_text(f"page:\n{text}")
    return read_settings(file, {}).page


def test_every_setting_is_read(tmp_path: Path) -> None:
    page = read(
        tmp_path,
        "  users_file: /etc/remediator/users\n"
        "  session: 8h\n"
        "  secure_cookies: true\n"
        "  proxy_addresses: [10.0.0.7, '2001:db8::/64']\n"
        "  proxy_user_header: X-Remote-User\n"
        "  proxy_secret_file: /etc/remediator/proxy-secret\n"
        "  operators: [alice, bob]\n",
    )

    assert page == PageSettings(
        users_file=Path("/etc/remediator/users"),
        session=timedelta(hours=8),
        secure_cookies=True,
        proxy_addresses=(
            ipaddress.ip_network("10.0.0.7/32"),
            ipaddress.ip_network("2001:db8::/64"),
        ),
        proxy_user_header="X-Remote-User",
        proxy_secret_file=Path("/etc/remediator/proxy-secret"),
        operators=("alice", "bob"),
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("  proxy_user_header: X-User\n", "needs proxy_addresses: anybody could send that header"),
        (
            "  proxy_user_header: X-User\n  proxy_addresses: [127.0.0.1]\n",
            "needs proxy_secret_file: everybody on this machine comes from a loopback address",
        ),
        (
            "  proxy_user_header: X-User\n  proxy_addresses: ['::1']\n",
            "needs proxy_secret_file",
        ),
        ("  proxy_addresses: [proxy.example.org]\n", "is not an address such as"),
        ("  proxy_addresses: [10.0.0.1/8]\n", "is not an address such as"),
        ("  session: 1s\n", "must be at least 1m"),
        ("  user_file: /x\n", 'did you mean "users_file"?'),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        read(tmp_path, text)

    assert says in str(refusal.value)


def test_the_key_is_made_once_and_is_nobody_elses(tmp_path: Path) -> None:
    key = session_key(tmp_path / "inbox")

    assert len(key) == 32
    assert session_key(tmp_path / "inbox") == key
    assert session_key(tmp_path / "other") != key
    file = tmp_path / "inbox" / "session.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["session.key"]


def test_a_key_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "session.key").write_bytes(b"short")

    with pytest.raises(SetupError, match="too short for a key: remove it"):
        session_key(tmp_path)


def test_a_key_that_cannot_be_made_says_where(tmp_path: Path) -> None:
    (tmp_path / "session.key").mkdir()

    with pytest.raises(SetupError, match="session"):
        session_key(tmp_path)


def test_files_that_cannot_be_used_are_found_at_the_start(tmp_path: Path) -> None:
    check_page(PageSettings())
    with pytest.raises(SetupError, match="users file"):
        check_page(PageSettings(users_file=tmp_path / "none"))
    (tmp_path / "users").write_text("")
    with pytest.raises(SetupError, match="token file"):
        check_page(PageSettings(tmp_path / "users", proxy_secret_file=tmp_path / "none"))
