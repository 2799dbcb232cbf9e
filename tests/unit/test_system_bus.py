"""The bus where it is hard to reach: no login, no address, no pydbus."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remediator.actuators.services import Services
from remediator.errors import RefusedError, SourceError
from remediator.system_bus import SystemBus
from tests.builders import SECOND
from tests.eventually import patience

WITHOUT_PYDBUS = """
import sys
sys.modules["pydbus"] = None
from datetime import timedelta
from remediator.actuators.services import Services
from remediator.errors import RefusedError, SourceError
from remediator.system_bus import SystemBus
services = Services(SystemBus(None, timedelta(seconds=1)))
for act in (services.states, services.links):
    try:
        act(["good"])
    except SourceError as error:
        print(error)
for act in (services.stop, services.start, services.restart):
    try:
        act("good", timedelta(seconds=1))
    except RefusedError as error:
        print(error)
import remediator.wiring.worker
"""


def test_a_bus_that_lets_nobody_in_is_given_up(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(folder / "bus"))
        silent.listen()
        services = Services(SystemBus(f"unix:path={folder / 'bus'}", 0.2 * SECOND))
        began = time.monotonic()

        with pytest.raises(SourceError, match=r"systemd does not say how good\.service"):
            services.states(["good"])
        with pytest.raises(RefusedError, match=r"systemd cannot be reached to stop good\.service"):
            services.stop("good", SECOND)

    assert time.monotonic() - began < 5 * patience()


def test_an_address_that_makes_no_sense_is_said() -> None:
    with pytest.raises(SourceError, match="systemd does not say"):
        Services(SystemBus("nonsense", SECOND)).states(["good"])


def test_without_pydbus_it_says_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PYDBUS], capture_output=True, text=True, check=True
    )

    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert all('install "remediator[dbus]"' in line for line in lines)
