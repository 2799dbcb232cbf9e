"""What is not done again at each scrape: unchanged metrics, costly questions, joined containers."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from remediator.core.containers import ContainerFacts
from remediator.core.gpu_claims import GpuClaims
from remediator.core.gpus import Gpu, GpuSlot
from remediator.core.limits import LimitsBook
from remediator.core.ownership import Owner
from remediator.errors import SourceError
from remediator.exporter.collectors import Collector, Scrape
from remediator.exporter.families import Family
from remediator.exporter.gpu_watch import GpuSample, SlotProcess
from remediator.exporter.inventory import Snapshot, Tracked
from remediator.exporter.view import Residents, View, basis_of, look
from tests.eventually import eventually

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NUMBER = Family("number", "How often it was asked.")
SLOT = GpuSlot(gpu=0, slot="0", uuid="GPU-a", parent_uuid="GPU-a")
SECOND = GpuSlot(gpu=1, slot="1", uuid="GPU-b", parent_uuid="GPU-b")
GPUS = tuple(
    Gpu(slot.gpu, slot.uuid, "NVIDIA A100", "0", mig_enabled=False, slots=(slot,))
    for slot in (SLOT, SECOND)
)


def a_container(name: str) -> Tracked:
    facts = ContainerFacts(
        id=name * 64,
        name=name,
        image="image",
        labels={},
        state="running",
        pid=7,
        created_at=NOON,
        started_at=NOON,
        finished_at=None,
        exit_code=None,
        claims=GpuClaims(ids=("0",)),
    )
    return Tracked(facts, Owner("alice", "label"))


ANNA, BERT = a_container("a"), a_container("b")


class Host:
    """A host that changes when a test says so."""

    def __init__(self) -> None:
        self.containers: tuple[Tracked, ...] = (ANNA, BERT)
        self.sample: GpuSample | SourceError = GpuSample(GPUS)
        self.book = LimitsBook()
        self.residents = Residents()

    def view(self) -> View:
        inventory = Snapshot(self.containers, NOON, None)
        return look(
            NOON,
            inventory,
            self.sample,
            book=self.book,
            limits_good=True,
            residents=self.residents,
        )


class Question:
    """A collector that counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.problem: Exception | None = None

    def collect(self, _view: View) -> Iterator[Metric]:
        self.asked += 1
        yield NUMBER.of([((), self.asked)])
        if self.problem is not None:
            raise self.problem


def served(scrape: Scrape) -> float:
    """Return the number of this scrape."""
    [number] = [family for family in scrape.collect() if family.name == "number"]
    return number.samples[0].value


def succeeded(scrape: Scrape) -> bool:
    [success] = [f for f in scrape.collect() if f.name == "ds01_collector_success"]
    return all(sample.value == 1 for sample in success.samples)


def test_metrics_are_made_again_only_when_what_they_depend_on_has_changed() -> None:
    host, question = Host(), Question()
    scrape = Scrape([Collector("question", question.collect, basis_of)], host.view)

    assert [served(scrape), served(scrape)] == [1, 1]
    host.containers = (ANNA,)
    assert [served(scrape), served(scrape)] == [2, 2]
    host.sample = SourceError("no driver")
    assert [served(scrape), served(scrape)] == [3, 3]


def test_a_collector_without_a_basis_is_asked_each_time() -> None:
    question = Question()
    scrape = Scrape([Collector("question", question.collect)], Host().view)

    assert [served(scrape), served(scrape)] == [1, 2]


def test_what_failed_is_tried_again_at_the_next_scrape() -> None:
    question = Question()
    question.problem = SourceError("not now")
    scrape = Scrape([Collector("question", question.collect, basis_of)], Host().view)

    assert not succeeded(scrape)
    question.problem = None
    assert succeeded(scrape)
    assert question.asked == 2


def test_a_metric_made_elsewhere_is_the_trouble_of_its_collector_only() -> None:
    def collect(_view: View) -> Iterator[Metric]:
        yield GaugeMetricFamily("foreign", "Not one of ours.")

    question = Question()
    collectors = [Collector("foreign", collect), Collector("question", question.collect)]
    scrape = Scrape(collectors, Host().view)

    assert served(scrape) == 1
    assert not succeeded(scrape)


@pytest.fixture
def ahead() -> Iterator[Callable[[Host, Question], Scrape]]:
    """Start a scrape whose question is asked ahead."""
    started = []

    def start(host: Host, question: Question) -> Scrape:
        collector = Collector("question", question.collect, ahead=True)
        scrape = Scrape([collector], host.view, ahead_every=timedelta(milliseconds=50))
        scrape.start()
        started.append(scrape)
        return scrape

    yield start
    for scrape in started:
        scrape.stop()


def test_a_costly_question_is_asked_ahead_of_the_scrapes(
    ahead: Callable[[Host, Question], Scrape],
) -> None:
    question = Question()
    scrape = ahead(Host(), question)

    eventually(lambda: question.asked >= 3, 5, "it is asked though nobody scrapes")
    before = question.asked
    eventually(lambda: served(scrape) >= before, 5, "the answer is served")


def test_what_is_asked_ahead_follows_the_host(ahead: Callable[[Host, Question], Scrape]) -> None:
    host = Host()

    class Containers(Question):
        def collect(self, view: View) -> Iterator[Metric]:
            yield NUMBER.of([((), len(view.residents))])

    scrape = ahead(host, Containers())
    assert served(scrape) == 2
    host.containers = (ANNA,)

    eventually(lambda: served(scrape) == 1, 5, "one is gone")


def test_without_its_thread_a_costly_question_is_asked_by_the_scrapes() -> None:
    question = Question()
    collector = Collector("question", question.collect, ahead=True)
    scrape = Scrape([collector], Host().view, ahead_every=timedelta(milliseconds=1))

    eventually(lambda: served(scrape) == 3, 5, "it is asked again once the answer is old")


def test_a_failure_ahead_shows_and_what_was_found_is_served(
    ahead: Callable[[Host, Question], Scrape],
) -> None:
    question = Question()
    question.problem = ZeroDivisionError("a bug")
    scrape = ahead(Host(), question)

    eventually(lambda: question.asked >= 3, 5, "a bug does not end the thread")
    assert served(scrape) >= 2
    assert not succeeded(scrape)


def test_a_question_that_hangs_ahead_is_asked_by_the_scrape(
    ahead: Callable[[Host, Question], Scrape],
) -> None:
    hanging, release = threading.Event(), threading.Event()

    class Hanging(Question):
        def collect(self, view: View) -> Iterator[Metric]:
            if threading.current_thread().name == "ahead":
                hanging.set()
                release.wait(10)
            yield from super().collect(view)

    question = Hanging()
    scrape = ahead(Host(), question)
    hanging.wait(5)

    eventually(lambda: served(scrape) >= 2, 5, "the scrape asks, since the answer got old")
    release.set()


def test_a_container_without_change_is_not_joined_again() -> None:
    host = Host()
    first = host.view().residents
    changed = replace(BERT, keep_alive=(NOON, NOON))
    host.containers = (ANNA, changed)

    second = host.view().residents

    assert second[0] is first[0]
    assert second[1].keep_alive == (NOON, NOON)


def test_new_limits_gpus_and_processes_are_seen_at_once() -> None:
    host = Host()
    host.view()
    host.book = LimitsBook(users={"alice": {"idle_timeout": timedelta(hours=7)}})
    assert host.view().residents[0].limits.idle_timeout == timedelta(hours=7)

    host.sample = GpuSample(GPUS, processes=(a_process_of(ANNA),))
    anna, bert = host.view().residents
    assert (anna.slots, bert.slots) == ((SLOT, SECOND), (SLOT,))

    host.sample = GpuSample(GPUS[1:])
    assert [resident.slots for resident in host.view().residents] == [(), ()]


def a_process_of(tracked: Tracked) -> SlotProcess:
    return SlotProcess(SECOND, 7, 70, tracked.facts.id, "root", "python", None)
