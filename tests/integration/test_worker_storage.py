"""A journal that cannot be written: nothing is done, it is said, and it goes on by itself."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.eventually import eventually
from tests.integration.test_kill_loop import POLICY, body_of
from tests.peers.ledger_worker import stopped
from tests.peers.missing import require_root, require_tool
from tests.peers.ports import free_port
from tests.peers.process import Daemon
from tests.peers.receiver import Receiver

pytestmark = pytest.mark.integration

# The journal gets a small disk of its own; the inbox stays where the receiver has it.
_MOUNTS = """
set -e
mkdir -p "$1/inbox" "$2"
mount --bind "$1/inbox" "$2"
mount -t tmpfs -o size=16m tmpfs "$1"
mkdir "$1/inbox"
mount --bind "$2" "$1/inbox"
shift 2
exec "$@"
"""


@dataclass
class Site:
    """A receiver, and a worker whose journal is on a disk of its own."""

    receiver: Receiver
    worker: Daemon
    ledger: Path

    @property
    def disk(self) -> Path:
        """The worker's state folder, as the worker sees it."""
        return Path(f"/proc/{self.worker.pid}/root{self.receiver.state_dir}")

    def deliver(self, *names: str) -> None:
        assert self.receiver.post(body_of(list(names))).status_code == 200

    def says(self, text: str) -> Callable[[], bool]:
        return lambda: text in self.worker.log.read_text()


@pytest.fixture
def site(folder: Path) -> Iterator[Site]:
    require_root("mounting a disk of one's own")
    receiver = Receiver(folder / "receiver")
    receiver.policy_file.write_text(POLICY)
    receiver.start()
    ledger = folder / "ledger"
    wrapper = [require_tool("unshare"), "-m", "--", "sh", "-c", _MOUNTS, "sh"]
    folders = [str(receiver.state_dir), str(folder / "inbox")]
    worker = Daemon(
        "work",
        [*wrapper, *folders, sys.executable, "-m", "tests.peers.ledger_worker", str(ledger)],
        receiver.folder,
        environment={
            **receiver.environment,
            "PYTHONPATH": ":".join(path for path in sys.path if path),
            "REMEDIATOR_WORKER_LISTEN": f"127.0.0.1:{free_port()}",
        },
    )
    site = Site(receiver, worker, ledger)
    worker.start()
    try:
        eventually(site.says("worker started"), 15, "the worker is up")
        site.deliver("before")
        eventually(lambda: stopped(ledger) == ["before"], 15, "it works")
        yield site
    finally:
        worker.stop()
        receiver.stop()


def test_on_a_full_disk_nothing_is_done_until_there_is_room(site: Site) -> None:
    filler = site.disk / "filler"
    fill(filler)
    # SQLite has some room left in the files it has; what it can't write down is not done.
    names = [f"meanwhile-{number}" for number in range(300)]

    for start in range(0, len(names), 30):
        site.deliver(*names[start : start + 30])
    eventually(site.says("journal.db: database or disk is full"), 30, "it is said")
    said = site.worker.log.read_text().count("disk is full")
    done_on_a_full_disk = len(stopped(site.ledger))
    filler.unlink()

    eventually(lambda: set(names) <= set(stopped(site.ledger)), 60, "it goes on")
    assert said < 10
    assert done_on_a_full_disk < len(names)
    assert len(stopped(site.ledger)) == 1 + len(names)


def fill(path: Path) -> None:
    """Write until there is no room left."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
