"""Who is an orphan: only who can be nothing else, and only after a while."""

import os
from datetime import timedelta
from typing import Any

import pytest

from remediator.core.orphans import Suspect, why_no_orphan
from remediator.errors import SourceError
from remediator.exporter.gpu_watch import SlotProcess
from remediator.exporter.inventory import Tracked
from remediator.exporter.orphans import OLDEST_LIST, SETTLING, orphan_collector
from remediator.exporter.view import View
from tests.unit.gpu_views import (
    FIRST,
    SECOND,
    WHOLE,
    a_container,
    a_process,
    a_sample,
    a_view,
    rows,
)

FAMILY = "ds01_gpu_orphan_process"
OURS, UNKNOWN = "a" * 64, "f" * 64


def suspect(**changes: Any) -> Suspect:
    known: dict[str, Any] = {
        "uid": 1001,
        "user": "alice",
        "comm": "python",
        "container_id": None,
        "was_dockers": False,
    }
    return Suspect(**{**known, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="a user's program on the host"),
        pytest.param({"uid": 65534, "user": "nobody"}, id="nobody's"),
        pytest.param({"uid": 4711, "user": "4711"}, id="an account's that was deleted"),
        pytest.param({"container_id": "stopped"}, id="left over by a stopped container"),
        pytest.param(
            {"container_id": "stopped", "uid": 0, "user": "root"},
            id="root's in a stopped container",
        ),
        pytest.param(
            {"container_id": "stopped", "uid": 4711, "user": "4711"}, id="a mapped user's"
        ),
        pytest.param({"container_id": "gone", "was_dockers": True}, id="of a removed container"),
        pytest.param({"comm": "XorgMiner".lower()}, id="nearly called like a service"),
        pytest.param(
            {"container_id": "stopped", "is_hosts": False}, id="left over, in its own namespaces"
        ),
    ],
)
def test_what_belongs_to_nobody_is_an_orphan(changes: dict[str, Any]) -> None:
    running = {"living": True, "stopped": False}

    assert why_no_orphan(suspect(**changes), running, {"root"}) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"container_id": "living"}, "running"),
        ({"container_id": "living", "was_dockers": True}, "running"),
        ({"container_id": "another engine's"}, "not known"),
        ({"uid": 0, "user": "root"}, "root may use GPUs"),
        ({"uid": 1002, "user": "bob"}, "bob may use GPUs"),
        ({"uid": 1003, "user": "carol"}, "carol may use GPUs"),
        ({"uid": None}, "nobody knows"),
        ({"user": ""}, "may not be known"),
        ({"uid": 4711, "user": "4711"}, "may not be known"),
        ({"uid": 998, "user": "998"}, "service"),
        ({"uid": 112, "user": "nvidia-persistenced"}, "service"),
        ({"uid": 999, "user": "ollama"}, "service"),
        ({"comm": "nvidia-persiste"}, "service"),
        ({"comm": "nvidia-cuda-mps"}, "service"),
        ({"comm": "nv-hostengine"}, "service"),
        ({"comm": "dcgm-exporter"}, "service"),
        ({"comm": "Xorg"}, "service"),
        ({"comm": "gnome-shell"}, "service"),
        ({"comm": "ollama"}, "ollama may use GPUs"),
        ({"comm": "a-program-whose"}, "a-program-whose may use GPUs"),
        ({"is_hosts": False}, "container of another kind"),
        ({"is_hosts": None}, "cannot be told"),
    ],
)
def test_what_may_belong_to_somebody_is_none(changes: dict[str, Any], said: str) -> None:
    programs = {"ollama", "a-program-whose-name-is-longer-than-the-kernel-shows"}
    reason = why_no_orphan(suspect(**changes), {"living": True}, {"root", "bob", "1003"}, programs)

    assert reason is not None
    assert said in reason


class Namespaces:
    """Every process is the host's own, unless told otherwise."""

    def __init__(self) -> None:
        self.answer: bool | SourceError | None = True

    def is_in_hosts_namespaces(self, pid: int) -> bool | None:
        if isinstance(self.answer, SourceError):
            raise self.answer
        return self.answer


class Watch:
    """One exporter's collector, asked at different times."""

    def __init__(
        self, permitted: tuple[str, ...] = ("root",), programs: tuple[str, ...] = ()
    ) -> None:
        self.namespaces = Namespaces()
        self._collect = orphan_collector(self.namespaces, permitted, programs)

    def at(self, seconds: float, *processes: SlotProcess, **changes: Any) -> list[dict[str, str]]:
        containers: tuple[Tracked, ...] = changes.pop("containers", ())
        after = timedelta(seconds=seconds)
        view = a_view(*containers, gpus=a_sample(*processes), after=after, **changes)
        return self.of(view)

    def of(self, view: View) -> list[dict[str, str]]:
        return [labels for labels, _ in rows(list(self._collect(view)), FAMILY)]


END = SETTLING.total_seconds()


def test_an_orphan_is_told_exactly_after_it_looked_like_one_for_a_while() -> None:
    watch, process = Watch(), a_process()

    assert watch.at(0, process) == []
    assert watch.at(END - 1, process) == []
    assert watch.at(END, process) == [
        {
            "UUID": "GPU-a",
            "GPU_I_ID": "",
            "pid": "4242",
            "start_ticks": "70",
            "user": "alice",
            "comm": "python",
        }
    ]


def test_an_orphan_on_two_gpus_is_told_on_both() -> None:
    watch = Watch()
    both = a_process(slot=WHOLE), a_process(slot=FIRST)
    watch.at(0, *both)

    found = watch.at(END, *both)

    assert [(row["UUID"], row["GPU_I_ID"]) for row in found] == [("GPU-a", ""), ("GPU-b", "3")]


def test_a_process_of_a_living_container_is_never_told() -> None:
    watch, process = Watch(), a_process(OURS, user="root", uid=0)

    for seconds in (0, END, 100 * END):
        assert watch.at(seconds, process, containers=(a_container("a"),)) == []


def test_a_process_whose_container_docker_does_not_know_yet_is_not_told() -> None:
    """It was started after the last list; the list comes, and it is a living container's."""
    watch, process = Watch(), a_process(OURS)

    assert watch.at(0, process) == []
    assert watch.at(3 * END, process) == []
    assert watch.at(4 * END, process, containers=(a_container("a"),)) == []


def test_a_process_in_a_container_of_another_engine_is_never_told() -> None:
    watch, process = Watch(), a_process(UNKNOWN)

    assert [watch.at(seconds, process) for seconds in (0, END, 10 * END)] == [[], [], []]


def test_what_outlives_its_container_is_told_whoever_ran_it() -> None:
    watch, process = Watch(), a_process(OURS, user="root", uid=0)
    watch.at(0, process, containers=(a_container("a"),))

    assert watch.at(1, process) == []
    assert watch.at(END, process) == []
    assert len(watch.at(END + 1, process)) == 1


def test_a_container_that_starts_again_takes_the_suspicion_away() -> None:
    watch, process = Watch(), a_process(OURS)
    stopped, running = a_container("a", state="exited", pid=0), a_container("a")
    watch.at(0, process, containers=(stopped,))

    assert watch.at(END - 1, process, containers=(running,)) == []
    assert watch.at(END + 1, process, containers=(stopped,)) == []
    assert len(watch.at(3 * END, process, containers=(stopped,))) == 1


def test_docker_must_have_confirmed_its_list_after_the_process_was_suspected() -> None:
    watch, process = Watch(), a_process(OURS)
    stopped = {"containers": (a_container("a", state="exited", pid=0),)}
    watch.at(0, process, **stopped)

    late = timedelta(seconds=5)
    assert watch.at(END + 4, process, confirmed_ago=late, **stopped) == []
    assert len(watch.at(END + 5, process, confirmed_ago=late, **stopped)) == 1


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"problem": "timed out"}, id="Docker does not answer"),
        pytest.param({"confirmed_ago": None, "problem": "not asked yet"}, id="never answered"),
        pytest.param({"confirmed_ago": OLDEST_LIST + SECOND}, id="the list is old"),
    ],
)
def test_while_docker_is_unknown_nobody_is_told(changes: dict[str, Any]) -> None:
    watch, process = Watch(), a_process()
    watch.at(0, process)
    assert watch.at(END, process)

    with pytest.raises(SourceError):
        watch.at(END + 15, process, **changes)
    assert watch.at(END + 30, process), "and it is told again at once, so that no alert flaps"


def test_a_driver_that_refuses_once_starts_nothing_over() -> None:
    watch, process = Watch(), a_process()
    watch.at(0, process)

    with pytest.raises(SourceError, match="no driver"):
        watch.of(a_view(gpus=SourceError("no driver"), after=SECOND))
    assert watch.at(END, process)


def test_a_later_process_with_the_same_pid_is_another() -> None:
    watch = Watch()
    watch.at(0, a_process(start_ticks=70))

    assert watch.at(END, a_process(start_ticks=99)) == []


def test_a_process_that_was_gone_begins_anew() -> None:
    watch, process = Watch(), a_process()
    watch.at(0, process)
    watch.at(END / 2, *())

    assert watch.at(END, process) == []


def test_permitted_users_are_a_setting() -> None:
    process = a_process(user="root", uid=0)
    lenient, strict = Watch(("root",)), Watch(())
    for watch in (lenient, strict):
        watch.at(0, process)

    assert lenient.at(END, process) == []
    assert len(strict.at(END, process)) == 1


def test_permitted_programs_are_a_setting() -> None:
    process = a_process(comm="python")
    lenient, strict = Watch(programs=("python",)), Watch(programs=("python3",))
    for watch in (lenient, strict):
        watch.at(0, process)

    assert lenient.at(END, process) == []
    assert len(strict.at(END, process)) == 1


def test_the_exporter_itself_is_no_orphan() -> None:
    watch, process = Watch(), a_process(pid=os.getpid())
    watch.at(0, process)

    assert watch.at(END, process) == []


@pytest.mark.parametrize("answer", [False, None, SourceError("not readable")])
def test_what_is_in_another_kind_of_container_is_no_orphan(
    answer: bool | SourceError | None,
) -> None:
    watch, process = Watch(), a_process()
    watch.namespaces.answer = answer
    watch.at(0, process)

    assert watch.at(END, process) == []


def test_a_hosts_process_does_not_wait_for_docker_to_say_it_again() -> None:
    watch, process = Watch(), a_process()
    watch.at(0, process)

    assert watch.at(END, process, confirmed_ago=timedelta(seconds=END / 2))
