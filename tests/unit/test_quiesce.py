"""Everything is stopped for the work, and exactly what ran runs again, whatever goes wrong."""

import contextlib
import fcntl
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from remediator.core.services import UnitState
from remediator.errors import EffectUnknownError, RefusedError
from remediator.quiesce.lock import QuiesceLock
from remediator.quiesce.quiesce import Quiesced
from remediator.quiesce.record import FILE, Record
from remediator.quiesce.recovery import Recovery
from tests.builders import NOON, SECOND
from tests.eventually import eventually
from tests.fakes_services import Call
from tests.unit.mortal import DiedError
from tests.unit.quiesce_site import WITHIN, QuiesceSite

GOOD, DEPENDENT = "good.service", "dependent.service"
SOCKET, SOCKETED = "socketed.socket", "socketed.service"


def a_site(folder: Path, *units: str, containers: tuple[str, ...] = ()) -> QuiesceSite:
    return QuiesceSite(folder, Quiesced(units, containers))


def verbs(site: QuiesceSite) -> list[str]:
    return [f"{call.verb} {call.unit.partition('.')[0]}" for call in site.services.calls]


def test_what_runs_is_down_for_the_work_and_runs_again_after_it(folder: Path) -> None:
    site = a_site(folder, "good", "idle", "nosuch", "masked", "crashloop")
    site.services.put(GOOD, "crashloop")
    before = site.services.running()

    with site.quiesce.quiesced("a test", WITHIN) as names:
        assert names == (GOOD, "crashloop.service")
        assert site.services.running() == set()
        assert site.record.stopped_count() == 2

    assert site.services.running() == before
    assert site.record.stopped_count() == 0
    assert verbs(site) == ["stop good", "stop crashloop", "start crashloop", "start good"]


def test_dependents_and_sockets_come_back_and_nothing_else(folder: Path) -> None:
    site = a_site(folder, "good", "socketed", "timed")
    site.services.put(DEPENDENT, SOCKET, "timed.timer", "timed.service")
    site.services.eager = {SOCKET, "timed.timer"}
    before = site.services.running()

    with site.quiesce.quiesced("a test", WITHIN):
        assert site.services.running() == set()

    assert site.services.running() == before
    assert "socketed.service" not in before


def test_what_was_stopped_is_not_started_because_something_wants_it(folder: Path) -> None:
    site = a_site(folder, "wanting")
    site.services.put("wanting")

    with site.quiesce.quiesced("a test", WITHIN):
        pass

    assert site.services.running() == {"wanting.service"}
    assert site.services.calls[-1] == Call("start", "wanting.service", alone=True)


def test_an_error_of_the_work_is_passed_on_when_all_is_restored(folder: Path) -> None:
    site = a_site(folder, "good")
    site.services.put(GOOD)

    with pytest.raises(ZeroDivisionError), site.quiesce.quiesced("a test", WITHIN):
        raise ZeroDivisionError

    assert site.services.running() == {GOOD}


@pytest.mark.parametrize("trouble", ["stuck", "refused"])
def test_what_cannot_be_stopped_has_all_restored_and_the_work_left(
    folder: Path, trouble: str
) -> None:
    site = a_site(folder, "good", "stuck")
    site.services.put(GOOD, "stuck")
    if trouble == "refused":
        site.services.before_call = lambda call: refuse(call, "stuck.service", "stop")
    entered = False

    with (
        pytest.raises(RefusedError, match=r"stuck\.service.*; all that ran runs again"),
        site.quiesce.quiesced("a test", 5 * SECOND),
    ):
        entered = True

    assert not entered
    assert site.services.running() == {GOOD, "stuck.service"}
    assert site.record.stopped_count() == 0


def refuse(call: Call, unit: str, verb: str) -> None:
    if (call.unit, call.verb) == (unit, verb):
        raise RefusedError(f"systemd refused to {verb} {unit}")


def test_what_something_starts_again_meanwhile_is_noticed(folder: Path) -> None:
    site = a_site(folder, "good", "idle", "wanted")
    site.services.put(GOOD, "idle", "wanted")
    # Somebody's cron job starts the first one while the last one is stopped.
    site.services.before_call = lambda call: (
        site.services.put(GOOD) if call == Call("stop", "wanted.service") else None
    )

    with (
        pytest.raises(RefusedError, match=r"starts again what was stopped: good\.service"),
        site.quiesce.quiesced("a test", WITHIN),
    ):
        pytest.fail("it was entered")

    assert site.services.running() == {GOOD, "idle.service", "wanted.service"}


def test_what_could_not_be_started_again_is_not_stopped(folder: Path) -> None:
    site = a_site(folder, "good", "masked")
    site.services.put(GOOD)
    site.services.assume(UnitState("masked.service", load="masked", active="active"))

    with (
        pytest.raises(RefusedError, match=r"stopped: masked\.service runs, but is masked"),
        site.quiesce.quiesced("a test", WITHIN),
    ):
        pytest.fail("it was entered")

    assert site.services.calls == []


@pytest.mark.parametrize("what", ["systemd", "docker", "record"])
def test_what_cannot_be_seen_or_recorded_is_not_touched(folder: Path, what: str) -> None:
    site = a_site(folder, "good", containers=("exporter",))
    site.services.put(GOOD)
    if what == "systemd":
        site.services.silent = "the bus is gone"
    elif what == "docker":
        site.containers.silent = "no such file"
    else:
        break_record(folder)

    with (
        pytest.raises(RefusedError, match="nothing was stopped"),
        site.quiesce.quiesced("a test", WITHIN),
    ):
        pytest.fail("it was entered")

    assert site.services.calls == []


def break_record(folder: Path) -> None:
    with contextlib.closing(sqlite3.connect(folder / FILE)) as other, other:
        other.execute("ALTER TABLE member RENAME TO lost")


def test_a_record_that_breaks_on_the_way_keeps_nothing_down(folder: Path) -> None:
    site = a_site(folder, "good", "idle")
    site.services.put(GOOD, "idle")

    with site.quiesce.quiesced("a test", WITHIN):
        forbid_writing(folder)

    assert site.services.running() == {GOOD, "idle.service"}


def test_a_record_that_is_lost_on_the_way_keeps_nothing_down(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = a_site(folder, "good", "idle")
    site.services.put(GOOD, "idle")

    with site.quiesce.quiesced("a test", WITHIN):
        break_record(folder)

    assert site.services.running() == {GOOD, "idle.service"}
    assert "restored from memory" in caplog.text


def forbid_writing(folder: Path) -> None:
    with contextlib.closing(sqlite3.connect(folder / FILE)) as other, other:
        other.execute(
            "CREATE TRIGGER IF NOT EXISTS full BEFORE UPDATE ON member"
            " BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )


def test_a_service_that_does_not_come_back_is_named_and_kept_in_the_record(folder: Path) -> None:
    site = a_site(folder, "good", "idle")
    site.services.put(GOOD, "idle")

    with (
        pytest.raises(EffectUnknownError, match=r"not running again: good\.service: .*exit-code"),
        site.quiesce.quiesced("a test", WITHIN),
    ):
        site.services.broken = {GOOD}

    assert site.services.running() == {"idle.service"}, "one that fails keeps no other down"
    assert site.record.stopped_count() == 1
    [left] = [r for r in site.record.unfinished()[0].members if r.is_outstanding]
    assert (left.member.name, left.is_stopped) == (GOOD, True)
    assert "exit-code" in left.trouble
    assert verbs(site).count("start good") == 3


def test_it_is_tried_again_until_it_runs(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    site = a_site(folder, "good")
    site.services.put(GOOD)
    with pytest.raises(EffectUnknownError), site.quiesce.quiesced("a test", WITHIN):
        site.services.broken = {GOOD}
    recovery = Recovery(site.quiesce, site.record)

    assert not recovery.run_once()
    assert "good.service was stopped by us and does not run again" in caplog.text
    assert recovery.stopped_count() == 1

    site.services.broken = set()
    assert recovery.run_once()
    assert recovery.stopped_count() == 0
    assert site.services.running() == {GOOD}


def test_a_service_that_comes_up_and_dies_is_not_called_restored(folder: Path) -> None:
    site = a_site(folder, "good")
    site.services.put(GOOD)

    def loop(call: Call) -> None:
        if call.verb == "start":
            [state] = site.services.states([GOOD]).values()
            looping = replace(state, active="activating", sub="auto-restart")
            site.services.assume(looping)

    site.services.after_call = loop
    with (
        pytest.raises(EffectUnknownError, match="does not stay up: it is activating"),
        site.quiesce.quiesced("a test", WITHIN),
    ):
        pass

    assert site.record.stopped_count() == 1


def test_a_silent_systemd_loses_nothing(folder: Path) -> None:
    site = a_site(folder, "good")
    site.services.put(GOOD)
    with pytest.raises(EffectUnknownError), site.quiesce.quiesced("a test", WITHIN):
        site.services.silent = "the bus is gone"
    assert Recovery(site.quiesce, site.record).run_once() is False

    site.services.silent = ""

    assert Recovery(site.quiesce, site.record).run_once()
    assert site.services.running() == {GOOD}


def die_at(verb: str, unit: str) -> Callable[[Call], None]:
    def die(call: Call) -> None:
        if (call.verb, call.unit) == (verb, unit):
            raise DiedError

    return die


def test_a_socket_is_brought_back_also_where_its_service_was_not_stopped_yet(
    folder: Path,
) -> None:
    """systemd starts no socket while its service runs: the service makes way for it, once more."""
    site = a_site(folder, "socketed")
    site.services.put(SOCKET, SOCKETED)
    site.services.before_call = die_at("stop", SOCKETED)
    with pytest.raises(DiedError), site.quiesce.quiesced("a test", WITHIN):
        pass
    assert site.services.running() == {SOCKETED}

    # At first the socket cannot be had, and its service is done with ...
    site.services.before_call = lambda call: refuse(call, SOCKET, "start")
    assert list(site.life().recover() or {}) == [SOCKET]
    # ... then it has to make way, and the recovery dies before it is started again.
    site.services.before_call = die_at("start", SOCKETED)
    with pytest.raises(DiedError):
        site.life().recover()
    assert site.services.running() == {SOCKET}
    site.services.before_call = lambda _call: None

    assert site.life().recover() == {}
    assert site.services.running() == {SOCKET, SOCKETED}


def test_a_service_that_did_not_run_before_is_not_stopped_for_its_socket(folder: Path) -> None:
    site = a_site(folder, "socketed")
    site.services.put(SOCKET)

    with (
        pytest.raises(EffectUnknownError, match=r"not running again: socketed\.socket"),
        site.quiesce.quiesced("a test", WITHIN),
    ):
        site.services.put(SOCKETED)

    assert site.services.running() == {SOCKETED}
    assert site.record.stopped_count() == 1


def test_only_one_quiesce_is_under_way(folder: Path) -> None:
    site = a_site(folder, "good")
    site.services.put(GOOD)
    other = a_site(folder, "idle")

    with site.quiesce.quiesced("MIG", WITHIN):
        with (
            pytest.raises(RefusedError, match="another quiesce is under way: MIG"),
            other.quiesce.quiesced("more", WITHIN),
        ):
            pytest.fail("it was entered")
        assert other.quiesce.recover() is None, "what is stopped for a purpose stays so"
        assert not Recovery(other.quiesce, other.record).run_once()
        assert site.services.running() == set()

    assert site.services.running() == {GOOD}


def test_a_child_that_was_given_the_lock_holds_it_on_unless_it_was_let_go(folder: Path) -> None:
    lock = QuiesceLock(folder)
    with lock.held("work"):
        inherited = fcntl.fcntl(lock.fileno(), fcntl.F_DUPFD_CLOEXEC, 0)
        assert QuiesceLock(folder).holder() is not None

    with contextlib.closing(open(inherited, "rb")):
        assert QuiesceLock(folder).holder() is None
    with pytest.raises(ValueError, match="not held"):
        lock.fileno()


def test_whoever_only_looks_keeps_nobody_out(folder: Path) -> None:
    lock = QuiesceLock(folder)
    looks = [True]

    def look() -> None:
        while looks:
            QuiesceLock(folder).holder()

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(50):
            with lock.held("work"):
                pass
    finally:
        looks.clear()
        looking.join()


def test_a_lock_that_cannot_be_made_refuses(folder: Path) -> None:
    (folder / "file").touch()

    with pytest.raises(RefusedError, match="Not a directory"):
        QuiesceLock(folder / "file" / "below").holder()


def test_containers_are_stopped_after_timers_and_before_units(folder: Path) -> None:
    site = a_site(folder, "good", containers=("exporter", "absent", "off"))
    site.services.put(GOOD)
    site.containers.put("exporter")
    site.containers.put("off", "d" * 64, running=False)
    order: list[str] = []
    site.services.before_call = lambda call: order.append(
        f"{call.verb}, exporter {'up' if site.containers.running else 'down'}"
    )

    with site.quiesce.quiesced("a test", WITHIN) as names:
        assert names == ("exporter", GOOD)
        assert not site.containers.running

    assert order == ["stop, exporter down", "start, exporter down"]
    assert site.containers.running == {"c" * 64}


def test_a_container_that_ignores_its_signal_is_left_running(folder: Path) -> None:
    site = a_site(folder, "good", containers=("exporter",))
    site.services.put(GOOD)
    site.containers.put("exporter")
    site.containers.ignores_signals = True

    with (
        pytest.raises(RefusedError, match="takes too long"),
        site.quiesce.quiesced("a test", WITHIN),
    ):
        pytest.fail("it was entered")

    assert site.services.running() == {GOOD}
    assert site.containers.running


def test_a_container_made_anew_meanwhile_is_left_alone(folder: Path) -> None:
    site = a_site(folder, containers=("exporter", "removed"))
    site.containers.put("exporter")
    site.containers.put("removed", "e" * 64)

    with site.quiesce.quiesced("a test", WITHIN):
        site.containers.put("exporter", "d" * 64, running=False)
        del site.containers.ids["removed"]

    assert site.containers.running == set()
    assert site.record.stopped_count() == 0


def test_a_person_can_give_up_what_never_comes_back(folder: Path) -> None:
    site = a_site(folder, "good")
    site.services.put(GOOD)
    with pytest.raises(EffectUnknownError), site.quiesce.quiesced("a test", WITHIN):
        site.services.broken = {GOOD}

    assert site.record.give_up(GOOD, NOON)

    assert site.record.unfinished() == ()
    assert not site.record.give_up(GOOD, NOON)


def test_nothing_asked_needs_no_systemd(folder: Path) -> None:
    site = a_site(folder)
    site.services.silent = "there is none"

    with site.quiesce.quiesced("a test", WITHIN) as names:
        assert names == ()


def test_history_is_kept_short_but_for_what_is_outstanding(folder: Path) -> None:
    site = a_site(folder, "good")
    site.services.put(GOOD)
    with pytest.raises(EffectUnknownError), site.quiesce.quiesced("the first", WITHIN):
        site.services.broken = {GOOD}

    for _ in range(120):
        site.record.begin("another", (), NOON)

    assert site.record.unfinished()[0].why == "the first"
    with contextlib.closing(sqlite3.connect(folder / FILE)) as other:
        assert other.execute("SELECT count(*) FROM quiesce").fetchone()[0] <= 102


def test_recovery_goes_on_by_itself(folder: Path) -> None:
    site = a_site(folder, "good")
    site.services.put(GOOD)
    with pytest.raises(EffectUnknownError), site.quiesce.quiesced("a test", WITHIN):
        site.services.broken = {GOOD}
    recovery = Recovery(site.quiesce, site.record, every=0.01 * SECOND)

    recovery.start()
    site.services.broken = set()

    eventually(lambda: site.services.running() == {GOOD}, 5, "it runs again")
    recovery.stop()


def test_a_broken_record_is_no_number(folder: Path) -> None:
    site = a_site(folder, "good")
    recovery = Recovery(site.quiesce, site.record)
    break_record(folder)

    assert str(recovery.stopped_count()) == "nan"
    assert recovery.run_once() is False


def test_the_record_can_be_read_by_others(folder: Path) -> None:
    site = a_site(folder, "good")
    site.services.put(GOOD)

    with site.quiesce.quiesced("MIG", WITHIN):
        [found] = Record.for_reading(folder).unfinished()

    assert (found.why, found.began_at) == ("MIG", site.clock.now())
    assert [r.member.name for r in found.outstanding] == [GOOD]
