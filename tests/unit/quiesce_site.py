"""A quiesce over fakes, on a record of its own."""

from dataclasses import dataclass, field
from pathlib import Path

from remediator.database import open_writer
from remediator.errors import RecordError
from remediator.quiesce.interface import Hands
from remediator.quiesce.lock import QuiesceLock
from remediator.quiesce.quiesce import Quiesce, Quiesced
from remediator.quiesce.record import FILE, Record
from remediator.quiesce.restoring import RestoreTimes
from tests.builders import HOUR, MINUTE, NOON, SECOND
from tests.fakes import HandClock
from tests.fakes_services import FakeContainers, FakeServices
from tests.unit.mortal import MortalDatabase

TIMES = RestoreTimes(start=5 * SECOND, settle=0 * SECOND, rest=0 * SECOND)
WITHIN = MINUTE
_FOREVER = 10**9


@dataclass
class QuiesceSite:
    """The parts of one quiesce; `life` makes a new process on the same record."""

    folder: Path
    asked: Quiesced
    services: FakeServices = field(default_factory=FakeServices)
    containers: FakeContainers = field(default_factory=FakeContainers)
    clock: HandClock = field(default_factory=lambda: HandClock(NOON + HOUR))

    def __post_init__(self) -> None:
        self.quiesce = self.life()

    def life(self, lives: int = _FOREVER) -> Quiesce:
        """Return a quiesce whose process dies right after its *lives*-th write."""
        database = open_writer(self.folder / FILE, "remediator.quiesce", RecordError)
        self.database = MortalDatabase(database, lives)
        self.record = Record(self.database)  # type: ignore[arg-type]
        hands = Hands(self.services, self.containers)
        lock = QuiesceLock(self.folder)
        return Quiesce(self.asked, hands, self.record, lock, self.clock, TIMES)
