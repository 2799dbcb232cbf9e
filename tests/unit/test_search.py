"""Incidents are found by everything people know of them, a page at a time, quickly."""

import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from remediator.core.attempts import Task
from remediator.core.case import Hold, HoldReason
from remediator.database import stamp
from remediator.journal import search
from remediator.journal.journal import Journal
from remediator.journal.search import Query
from tests.builders import DAY, HOUR, NOON, TARGET, a_plan, an_alert

FULL_ID = "0123456789ab" + "c" * 52


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal.for_worker(tmp_path)
    yield journal
    journal.close()


def an_incident(
    journal: Journal,
    number: int,
    *,
    title: str = "train",
    owner: str | None = "alice",
    alert: str = "DS01ContainerIdle",
    at: datetime = NOON,
    subject: str = "",
    **labels: str,
) -> int:
    found = journal.incidents.attach(
        an_alert(labels, name=alert, fingerprint=f"{number}"),
        subject=subject or f"container:{number:064x}",
        fault="idle container",
        delivery=number,
        at=at,
        receiver="remediator",
    )
    assert found is not None
    journal.incidents.name(found, title, owner)
    return found


def find(journal: Journal, most: int = 50, **asked: object) -> list[int]:
    """Return the numbers of the incidents that are found, following every page to the end."""
    numbers: list[int] = []
    before = asked.pop("before", None)
    while True:
        page = journal.search.page(Query(before=before, **asked), most)
        numbers += [found.incident.id for found in page.found]
        assert len(page.found) <= most
        if page.next is None:
            return numbers
        assert before is None or page.next < before
        before = page.next


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param({}, [4, 3, 2, 1], id="everything, the newest first"),
        pytest.param({"owner": "alice"}, [4, 1], id="owner"),
        pytest.param({"owner": "ali"}, [], id="an owner's whole name"),
        pytest.param({"container": "train"}, [4, 1], id="container by name"),
        pytest.param({"container": "0123456789ab"}, [2], id="container by short id"),
        pytest.param({"container": FULL_ID}, [2], id="container by id"),
        pytest.param({"container": "0123456789a"}, [], id="too little of an id"),
        pytest.param({"gpu": "GPU-1"}, [3], id="GPU by label"),
        pytest.param({"gpu": "1.0"}, [3], id="GPU by slot"),
        pytest.param({"gpu": "GPU"}, [], id="a GPU's whole name"),
        pytest.param({"alert": "DS01GPULost"}, [3], id="alert"),
        pytest.param({"state": "open"}, [4, 3, 1], id="open"),
        pytest.param({"state": "closed"}, [2], id="closed"),
        pytest.param({"since": NOON + DAY}, [4, 3], id="since"),
        pytest.param({"until": NOON + DAY}, [2, 1], id="until"),
        pytest.param({"text": "TRAIN"}, [4, 1], id="a word"),
        pytest.param({"text": "train idle alice"}, [4, 1], id="words"),
        pytest.param({"text": "train bob"}, [], id="words that do not meet"),
        pytest.param({"text": "resolved"}, [2], id="a word of the outcome"),
        pytest.param({"text": "100%_\\"}, [3], id="what LIKE would take for a pattern"),
        pytest.param({"text": "%"}, [3], id="a lone pattern"),
        pytest.param({"before": 3}, [2, 1], id="before"),
        pytest.param({"owner": "alice", "since": NOON + DAY, "state": "open"}, [4], id="several"),
    ],
)
def test_incidents_are_found(
    journal: Journal, asked: dict[str, object], expected: list[int]
) -> None:
    an_incident(journal, 1)
    an_incident(journal, 2, title="notebook", owner="bob", subject=f"container:{FULL_ID}")
    journal.incidents.close(2, NOON + HOUR, "resolved by itself")
    an_incident(
        journal,
        3,
        title="100%_\\",
        owner=None,
        alert="DS01GPULost",
        at=NOON + DAY,
        UUID="GPU-1",
        gpu_slot="1.0",
    )
    an_incident(journal, 4, at=NOON + 2 * DAY)

    assert find(journal, **asked) == expected
    assert find(journal, most=1, **asked) == expected


def test_an_incident_is_found_by_the_gpus_that_an_attempt_found(journal: Journal) -> None:
    number = an_incident(journal, 1)
    journal.attempts.plan(number, a_plan(), Task(TARGET, context={"gpus": "0, 2.1"}))

    assert find(journal, gpu="2.1") == [number]
    assert find(journal, gpu="0") == [number]
    assert find(journal, gpu="0, 2.1") == find(journal, gpu="2") == []


def test_where_the_last_decision_left_an_incident_is_told_with_it(journal: Journal) -> None:
    number = an_incident(journal, 1)
    (found,) = journal.search.page(Query(), 9).found
    assert (found.is_decided, found.last_reason) == (False, None)

    for reason in (HoldReason.WARNED, HoldReason.COOLDOWN):
        hold = Hold(reason, "because")
        journal.decisions.decided(number, an_alert(fingerprint="1"), hold, None, NOON, None)

    (found,) = journal.search.page(Query(), 9).found
    assert (found.is_decided, found.last_reason) == (True, "cooldown")


def test_words_are_looked_for_in_one_stretch_at_a_time(journal: Journal, tmp_path: Path) -> None:
    an_incident(journal, 1, title="needle")
    with sqlite3.connect(tmp_path / "journal.db") as raw:
        raw.execute("UPDATE sqlite_sequence SET seq = 100000 WHERE name = 'incident'")
    raw.close()
    an_incident(journal, 2)

    page = journal.search.page(Query(text="needle"), 50)

    assert page.found == ()
    assert page.next == 100_002 - search._STRETCH
    assert find(journal, text="needle") == [1]


def many(folder: Path, count: int) -> None:
    """Put *count* incidents with an alert each into the journal in *folder*."""
    rows = [
        (
            n,
            f"container:{n:064x}",
            f"job-{n % 5000}",
            f"user{n % 60}",
            stamp(NOON + n * timedelta(minutes=5)),
            None if n > count - 50 else stamp(NOON),
        )
        for n in range(1, count + 1)
    ]
    with sqlite3.connect(folder / "journal.db") as raw:
        raw.executemany(
            "INSERT INTO incident (id, subject, fault, title, owner, opened_at, closed_at)"
            " VALUES (?, ?, 'idle container', ?, ?, ?, ?)",
            rows,
        )
        raw.execute(
            "INSERT INTO firing (fingerprint, starts_at, incident, alertname, labels, annotations,"
            " receiver, first_delivery, last_delivery, received_at, last_received_at)"
            " SELECT id, opened_at, id, 'DS01ContainerIdle', '{}', '{}', 'r', 1, 1, '', ''"
            " FROM incident"
        )
        raw.execute("INSERT INTO incident_gpu (gpu, incident) SELECT id % 8, id FROM incident")
    raw.close()


# What is asked for, and how many of SQLite's steps it may cost: a million are some 30 ms.
EXPENSIVE: list[tuple[dict[str, object], int]] = [
    ({}, 10_000),
    ({"before": 50_000}, 10_000),
    ({"state": "open"}, 10_000),
    ({"text": "no such word"}, 1_000_000),
    ({"owner": "user7"}, 10_000),
    ({"owner": "nobody"}, 10_000),
    ({"container": "job-17"}, 10_000),
    ({"container": "000000000017"}, 10_000),
    ({"gpu": "3"}, 100_000),
    ({"gpu": "9"}, 10_000),
    ({"alert": "DS01GPULost"}, 10_000),
    ({"alert": "DS01ContainerIdle"}, 550_000),
    ({"alert": "DS01ContainerIdle", "before": 500}, 1_150_000),
    ({"alert": "DS01ContainerIdle", "state": "open", "gpu": "3"}, 700_000),
    ({"since": NOON + DAY, "until": NOON + 2 * DAY}, 50_000),
]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journal]:
    """A journal with 100,000 incidents."""
    folder = tmp_path_factory.mktemp("full")
    Journal.for_worker(folder).close()
    many(folder, 100_000)
    journal = Journal.for_reading(folder)
    yield journal
    journal.close()


@pytest.mark.parametrize(("asked", "most"), EXPENSIVE, ids=str)
def test_no_search_reads_through_a_full_journal(
    full: Journal, asked: dict[str, object], most: int
) -> None:
    """Counted in SQLite's own steps, which no other load on the machine can slow."""
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 100
        return 0

    connection = full._database._connection
    connection.set_progress_handler(count, 100)
    try:
        full.search.page(Query(**asked), 50)
    finally:
        connection.set_progress_handler(None, 0)

    assert steps < most
