"""The last 24 hours of events: what counts, for how long, and how much of it is kept."""

from collections.abc import Callable
from datetime import timedelta

from prometheus_client.metrics_core import Metric

from remediator.exporter.events import LIFECYCLE, MOST_KINDS, EventTally, events_collector
from remediator.exporter.source_watch import SourceWatch
from remediator.sources.event_lines import Event
from remediator.sources.events_log import Listener
from tests.unit.gpu_views import NOON, a_view, rows

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

Step = Callable[[Listener], None]


class Script:
    """A log that tells what it is given to tell."""

    def __init__(self) -> None:
        self._steps: list[Step] = []

    def tells(self, kind: str, at: timedelta = timedelta()) -> None:
        self._steps.append(lambda listener: listener.take(Event(NOON + at, kind)))

    def settles(self) -> None:
        self._steps.append(lambda listener: listener.settle())

    def forgets(self) -> None:
        self._steps.append(lambda listener: listener.forget())

    def follow(self, listener: Listener) -> None:
        steps, self._steps = self._steps, []
        for step in steps:
            step(listener)


class Site:
    """A tally with a clock of its own."""

    def __init__(self) -> None:
        self.now = NOON
        self.log = Script()
        self.tally = EventTally(self.log, lambda: self.now)

    def counts(self) -> dict[str, int]:
        return dict(self.tally.last_day())


def test_an_event_counts_for_a_day_and_no_longer() -> None:
    site = Site()
    site.log.tells("a")

    assert site.counts() == {"a": 1}
    site.now = NOON + DAY - MINUTE
    assert site.counts() == {"a": 1}
    site.now = NOON + DAY + MINUTE
    assert site.counts() == {}


def test_an_event_older_than_a_day_never_counts() -> None:
    site = Site()
    site.log.tells("old", -DAY - timedelta(seconds=1))
    site.log.tells("recent", -DAY + timedelta(seconds=1))

    assert site.counts() == {"recent": 1}


def test_an_event_from_the_future_counts_when_its_time_has_come() -> None:
    site = Site()
    site.log.tells("soon", HOUR)
    site.log.tells("never", 400 * DAY)

    assert site.counts() == {}
    site.now = NOON + HOUR
    assert site.counts() == {"soon": 1}
    site.now = NOON + 400 * DAY
    assert site.counts() == {}


def test_files_of_the_past_go_on_counting() -> None:
    site = Site()
    site.log.tells("a")
    site.log.settles()
    site.log.tells("a")
    site.log.forgets()
    site.log.tells("b")

    assert site.counts() == {"a": 1, "b": 1}


def test_kinds_are_so_many_at_most_but_those_of_containers_lives_always_count() -> None:
    site = Site()
    for number in range(MOST_KINDS + 50):
        site.log.tells(f"kind-{number}")
    for kind in LIFECYCLE:
        site.log.tells(kind)

    counts = site.counts()

    assert len(counts) <= MOST_KINDS + 1 + len(LIFECYCLE)
    assert counts["other"] == 50
    assert [counts[kind] for kind in LIFECYCLE] == [1] * 7


def test_kinds_that_are_gone_make_room() -> None:
    site = Site()
    for number in range(MOST_KINDS):
        site.log.tells(f"kind-{number}")
    site.counts()
    site.now = NOON + DAY + HOUR
    site.counts()
    site.log.tells("new", DAY + HOUR)

    assert site.counts() == {"new": 1}


def collected(site: Site) -> list[Metric]:
    watch = SourceWatch("events-log", site.tally.last_day)
    watch.start()
    metrics = list(events_collector(watch)(a_view()))
    watch.stop()
    return metrics


def test_lifecycle_has_all_seven_rows_even_without_a_log() -> None:
    found = rows(collected(Site()), "ds01_lifecycle_events_total")

    assert {labels["action"]: value for labels, value in found} == dict.fromkeys(
        (
            "idle_kill",
            "runtime_kill",
            "oom_kill",
            "gpu_warning",
            "memory_warning",
            "container_warning",
            "bare_metal_warning",
        ),
        0,
    )


def test_lifecycle_and_events_are_of_the_same_data() -> None:
    site = Site()
    site.log.tells("maintenance.idle_kill")
    site.log.tells("maintenance.idle_kill", -HOUR)
    site.log.tells("container.create")

    metrics = collected(site)

    kinds = {labels["event_type"]: v for labels, v in rows(metrics, "ds01_events_24h_total")}
    actions = {labels["action"]: v for labels, v in rows(metrics, "ds01_lifecycle_events_total")}
    assert kinds == {"container.create": 1, "maintenance.idle_kill": 2}
    assert actions["idle_kill"] == 2
