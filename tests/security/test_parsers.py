"""Whatever others wrote is read or refused as promised: hostile inputs for every parser."""

import platform
import random
import sys
from pathlib import Path

import pytest

from remediator.errors import SourceError
from remediator.journal.journal import Journal
from remediator.sources.proc import ProcSource
from tests.chaos.bodies import TEXTS, hostile_bodies
from tests.chaos.described import send_described
from tests.chaos.outsiders import fuzz
from tests.chaos.parsers import SEEDS, TARGETS
from tests.peers.receiver import Receiver

PARTS = ("[" * 2000, "9" * 400, "\n", "\t", ":", "{}", "&a *a")


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_what_is_nearly_right_is_read_or_refused(target: str) -> None:
    chance = random.Random(target)  # noqa: S311 - not a secret
    read = TARGETS[target]
    for seed in SEEDS[target]:
        read(seed)
        for _ in range(25):
            data = bytearray(seed)
            for _n in range(chance.randint(1, 5)):
                at = chance.randrange(len(data) + 1)
                part = chance.choice(
                    [*TEXTS, "[" * 2000, "9" * 400, "\n", "\t", ":", "{}", "&a *a"]
                )
                end = min(len(data), at + chance.choice([0, 1, 5]))
                data[at:end] = part.encode()
            read(bytes(data))


def test_hostile_bodies_are_read_or_refused() -> None:
    for body in hostile_bodies(1500, seed=11):
        TARGETS["delivery"](body)


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="atheris has no wheel here"
)
def test_what_coverage_leads_to_is_read_or_refused() -> None:
    assert fuzz(800) == ""


@pytest.mark.parametrize("line", ["", ":", "12", "0::/a\0b", "::::", "4711 (x) S"])
def test_a_line_of_a_cgroup_that_is_none_is_no_answer(folder: Path, line: str) -> None:
    (folder / "proc" / "4711").mkdir(parents=True)
    (folder / "proc" / "4711" / "cgroup").write_text(f"{line}\n")
    source = ProcSource(folder / "proc", folder / "cgroup")

    with pytest.raises(SourceError, match="has no"):
        source.cpu_seconds(4711)


@pytest.mark.integration
def test_requests_by_the_description_are_answered_as_it_says(folder: Path) -> None:
    receiver = Receiver(folder / "receiver")
    # What a worker leaves that is not running: the API has something to read.
    receiver.state_dir.mkdir()
    Journal.for_worker(receiver.state_dir).close()
    receiver.start()
    try:
        quick = ("--phases", "fuzzing", "--include-path-regex", "/(alerts|commands|incidents)$")
        sent, wrong = send_described(receiver.url, receiver.token, 5, folder, *quick)
    finally:
        receiver.stop()

    assert wrong == ""
    assert sent > 10
