"""Disks that fail, files that are damaged, removed or locked: nothing is acknowledged or done.

Each is followed to its end: by itself where that can be, by the commands of the README where not.
"""

import contextlib
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from remediator.inbox.store import FILE as INBOX
from remediator.journal.journal import FILE as JOURNAL
from tests.eventually import eventually
from tests.integration.test_kill_loop import POLICY, body_of
from tests.peers.disk import Disk
from tests.peers.ledger_worker import stopped
from tests.peers.ports import free_port
from tests.peers.process import Daemon
from tests.peers.receiver import Receiver

pytestmark = pytest.mark.integration

NAMES = [f"meanwhile-{number}" for number in range(20)]


@dataclass
class Site:
    """A receiver and a worker on one state folder; what the worker does is a line in a ledger."""

    receiver: Receiver
    worker: Daemon
    worker_port: int
    ledger: Path

    @property
    def journal(self) -> Path:
        return self.receiver.state_dir / JOURNAL

    @property
    def inbox(self) -> Path:
        return self.receiver.state_dir / "inbox" / INBOX

    def post(self, *names: str) -> int:
        # Longer than a lock is waited for.
        answer = requests.post(
            self.receiver.webhook,
            data=body_of(list(names)),
            headers=self.receiver.headers(),
            timeout=30,
        )
        return answer.status_code

    def says(self, text: str, daemon: Daemon | None = None) -> Callable[[], bool]:
        return lambda: text in (daemon or self.worker).log.read_text()

    def has_settled(self) -> bool:
        line = 'remediator_attempts_total{outcome="succeeded",remediation="stop-container"} 1.0'
        return line in self.worker_metrics()

    def worker_metrics(self) -> str:
        try:
            return requests.get(f"http://127.0.0.1:{self.worker_port}/metrics", timeout=5).text
        except requests.RequestException:
            return ""

    def done(self) -> Counter[str]:
        return Counter(stopped(self.ledger))

    def does(self, *names: str) -> None:
        """Wait until each of *names* was stopped, once."""
        wanted = Counter(["before", *names])
        eventually(lambda: self.done() == wanted, 60, "it goes on, and does each once")

    def stop(self) -> None:
        self.worker.stop()
        self.receiver.stop()

    def command(self, *arguments: str) -> None:
        """Run ``remediator`` as an administrator does."""
        subprocess.run(
            [sys.executable, "-m", "remediator", *arguments],
            env=self.receiver.environment,
            check=True,
            timeout=60,
        )

    @contextlib.contextmanager
    def worker_that_meets_it(self) -> Iterator[None]:
        """Let what happens in the block come between an alert that was taken and the act."""
        self.worker.freeze()
        assert self.post(*NAMES) == 200
        yield
        self.worker.thaw()


def a_site(folder: Path, wrapper: list[str] | None = None) -> Site:
    receiver = Receiver(folder / "receiver", wrapper=wrapper or [])
    receiver.policy_file.write_text(POLICY)
    ledger = folder / "ledger"
    port = free_port()
    worker = Daemon(
        "work",
        [*receiver.wrapper, sys.executable, "-m", "tests.peers.ledger_worker", str(ledger)],
        receiver.folder,
        environment={
            **receiver.environment,
            "PYTHONPATH": ":".join(path for path in sys.path if path),
            "REMEDIATOR_WORKER_LISTEN": f"127.0.0.1:{port}",
        },
    )
    return Site(receiver, worker, port, ledger)


@contextlib.contextmanager
def working(site: Site) -> Iterator[Site]:
    site.receiver.start()
    try:
        site.worker.launch()
        assert site.post("before") == 200
        # Settled as well: a worker that is frozen while it writes would keep the lock.
        eventually(site.has_settled, 15, "it works")
        yield site
    finally:
        site.stop()


@pytest.fixture
def site(folder: Path) -> Iterator[Site]:
    with working(a_site(folder)) as site:
        yield site


def test_a_file_system_that_became_read_only_stops_all_until_it_is_mounted_again(
    folder: Path,
) -> None:
    with (
        Disk(folder / "receiver" / "state", folder / "disk") as disk,
        working(a_site(folder, disk.wrapper)) as site,
    ):
        with site.worker_that_meets_it():
            disk.fail()
        eventually(site.says("journal.db: disk I/O error"), 15, "the worker says so")
        refused = [site.post("never") for _ in range(5)]
        said = site.worker.log.read_text().count("disk I/O error")
        assert refused == [503] * 5
        assert site.says("no delivery can be taken: inbox.db", site.receiver.daemon)()
        assert site.done() == Counter(["before"])
        assert said < 10

        site.stop()
        disk.repair()
        site.receiver.start()
        site.worker.launch()
        site.does(*NAMES)
        assert site.post("after") == 200
        site.does(*NAMES, "after")


def test_what_another_process_keeps_locked_is_waited_for(site: Site) -> None:
    with site.worker_that_meets_it():
        locks = [sqlite3.connect(p, isolation_level=None) for p in (site.journal, site.inbox)]
        for lock in locks:
            lock.execute("BEGIN IMMEDIATE")
    assert site.post("never") == 503
    eventually(site.says("journal.db: database is locked"), 30, "the worker says so")
    assert site.says(
        "no delivery can be taken: inbox.db: database is locked", site.receiver.daemon
    )()
    assert site.done() == Counter(["before"])

    for lock in locks:
        lock.close()
    site.does(*NAMES)
    assert site.post("after") == 200
    site.does(*NAMES, "after")


def page_size(path: Path) -> int:
    """What the database's header says."""
    return int.from_bytes(path.read_bytes()[16:18], "big")


def garbage(path: Path) -> None:
    """Overwrite all pages but the first."""
    first = page_size(path)
    with path.open("r+b") as file:
        file.seek(first)
        file.write(b"\xa5" * (path.stat().st_size - first))


def garbage_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\x5a" * 100)


def truncate(path: Path) -> None:
    first = page_size(path)
    with path.open("r+b") as file:
        file.truncate(first)


def damage(path: Path, how: Callable[[Path], None]) -> None:
    """Damage a database that is in use, where nothing of it is in a log or anybody's memory."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        # A change by somebody else makes every process read anew.
        other.execute("CREATE TABLE IF NOT EXISTS other (x)")
        other.execute("INSERT INTO other VALUES (1)")
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        how(path)


DAMAGES = pytest.mark.parametrize(
    ("how", "message"),
    [
        pytest.param(garbage_header, "file is not a database", id="garbage in the header"),
        pytest.param(garbage, "database disk image is malformed", id="garbage in the middle"),
        pytest.param(truncate, "database disk image is malformed", id="cut off"),
    ],
)


@DAMAGES
def test_a_damaged_journal_stops_the_worker_until_the_backup_is_in_its_place(
    site: Site, folder: Path, how: Callable[[Path], None], message: str
) -> None:
    site.command("backup", str(folder / "backup"))
    site.command("pause", "something that the copy does not know of")
    site.command("resume")
    with site.worker_that_meets_it():
        damage(site.journal, how)
    eventually(site.says(f"journal.db: {message}"), 15, "the worker says so")
    assert site.post("while it is damaged") == 200
    assert site.done() == Counter(["before"])

    site.worker.stop()
    site.worker.launch()
    assert site.worker.wait(15) == 1
    assert f"{site.journal}: {message}" in site.worker.log_tail(1)
    # As the README says: the copy in its place, without what belongs to the damaged one.
    for name in (JOURNAL, f"{JOURNAL}-wal", f"{JOURNAL}-shm"):
        (site.receiver.state_dir / name).unlink(missing_ok=True)
    shutil.copy(folder / "backup" / JOURNAL, site.journal)
    site.worker.launch()
    eventually(site.says("paused: the journal has lost its newest rows"), 15, "it is paused")
    assert site.done() == Counter(["before"])
    site.command("resume")

    site.does(*NAMES, "while it is damaged")


@DAMAGES
def test_a_damaged_inbox_acknowledges_nothing_until_a_new_one_is_in_its_place(
    site: Site, how: Callable[[Path], None], message: str
) -> None:
    # What it reads between the change and the damage it would keep in its memory.
    site.worker.freeze()
    damage(site.inbox, how)
    site.worker.thaw()
    assert [site.post("never") for _ in range(3)] == [503] * 3
    assert site.says(f"no delivery can be taken: inbox.db: {message}", site.receiver.daemon)()
    eventually(site.says(f"no delivery can be taken yet: inbox.db: {message}"), 15, "both say so")

    site.receiver.stop()
    site.receiver.daemon.launch()
    assert site.receiver.daemon.wait(15) == 1
    assert f"{site.inbox}: {message}" in site.receiver.daemon.log_tail(1)
    for name in (INBOX, f"{INBOX}-wal", f"{INBOX}-shm"):
        (site.inbox.parent / name).unlink(missing_ok=True)
    site.receiver.start()
    assert site.post("after") == 200

    site.does("after")


@pytest.mark.parametrize(
    ("files", "then"),
    [
        pytest.param(["", "-wal", "-shm"], "the journal was made anew", id="everything"),
        pytest.param(["-wal"], "", id="the log alone"),
    ],
)
def test_a_journal_that_is_removed_under_a_worker_stops_it(
    site: Site, files: list[str], then: str
) -> None:
    with site.worker_that_meets_it():
        for suffix in files:
            site.journal.with_name(JOURNAL + suffix).unlink()
    eventually(site.says("journal.db was removed or replaced: restart"), 15, "it says so")
    assert site.done() == Counter(["before"])

    site.worker.stop()
    site.worker.launch()
    if then:
        eventually(site.says(f"paused: {then}"), 15, "it does nothing that it may have done")
        assert site.done() == Counter(["before"])
        site.command("resume")
        eventually(lambda: set(NAMES) <= set(site.done()), 30, "a person has looked")
    else:
        site.does(*NAMES)


def test_an_inbox_whose_log_is_removed_loses_nothing_that_was_acknowledged(site: Site) -> None:
    with site.worker_that_meets_it():
        site.inbox.with_name(f"{INBOX}-wal").unlink()
    assert site.post("never") == 503
    site.does(*NAMES)

    site.receiver.stop()
    site.receiver.start()
    assert site.post("after") == 200
    site.does(*NAMES, "after")
