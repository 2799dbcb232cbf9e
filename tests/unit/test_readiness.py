import socket
from pathlib import Path

import pytest

from remediator.readiness import VARIABLE, tell_ready


@pytest.mark.parametrize("is_abstract", [False, True])
def test_systemd_is_told_once_where_it_asks(folder: Path, is_abstract: bool) -> None:
    name = f"{folder}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name}" if is_abstract else name)
        systemd.settimeout(5)

        tell_ready({VARIABLE: f"@{name}" if is_abstract else name})

        assert systemd.recv(100) == b"READY=1"


@pytest.mark.parametrize("environment", [{}, {VARIABLE: ""}, {VARIABLE: "/nowhere/notify"}])
def test_nobody_who_listens_is_no_fault(environment: dict[str, str]) -> None:
    tell_ready(environment)
