"""After any quiesce, cut off at any moment or not, exactly what ran before runs again."""

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from remediator.core.services import unit_name
from remediator.quiesce.quiesce import Quiesced
from tests.fakes_services import Call, FakeServices, Habit
from tests.unit.mortal import DiedError
from tests.unit.quiesce_site import WITHIN, QuiesceSite

_SERVICES = 5
_FOREVER = 10**9


@dataclass(frozen=True)
class World:
    """Units that hang together somehow, those that run, and those that are asked for."""

    habits: dict[str, Habit]
    up: tuple[str, ...]
    asked: tuple[str, ...]

    def services(self) -> FakeServices:
        fake = FakeServices(self.habits)
        # Sockets and timers run before their services, as systemd wants it.
        fake.put(*sorted(self.up, key=lambda name: name.endswith(".service")))
        fake.eager = {name for name in self.habits if not name.endswith(".service")}
        return fake


@st.composite
def worlds(draw: st.DrawFn) -> World:
    names = [unit_name(f"u{number}") for number in range(_SERVICES)]
    habits: dict[str, Habit] = {}
    for number, name in enumerate(names):
        requires = draw(st.sets(st.sampled_from(names[:number]), max_size=2)) if number else set()
        wants = draw(st.sets(st.sampled_from(names), max_size=1)) - {name}
        loops = draw(st.integers(0, 4)) == 0
        habits[name] = Habit(
            requires=tuple(sorted(requires)),
            wants=tuple(sorted(wants)),
            restart="always",
            loops=loops,
        )
    for suffix in ("socket", "timer"):
        for name in draw(st.sets(st.sampled_from(names), max_size=2)):
            habits[f"{name.partition('.')[0]}.{suffix}"] = Habit(starts=(name,))
    everything = st.sampled_from(sorted(habits))
    up = set(habits) - draw(st.sets(everything, max_size=4))
    asked = draw(st.sets(st.sampled_from(names), min_size=1, max_size=3))
    return World(habits, tuple(sorted(up)), tuple(sorted(asked)))


def a_site(world: World, folder: str) -> QuiesceSite:
    return QuiesceSite(Path(folder), Quiesced(world.asked), world.services())


@settings(deadline=None)  # it writes to the disk
@given(worlds())
def test_all_that_is_asked_for_is_down_meanwhile_and_what_ran_runs_afterwards(
    world: World,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        site = a_site(world, folder)
        before = site.services.running()

        with site.quiesce.quiesced("a property", WITHIN):
            meanwhile = site.services.running()

        assert not meanwhile & set(world.asked)
        assert site.services.running() == before
        assert site.record.unfinished() == ()


@settings(deadline=None)  # it writes to the disk
@given(worlds(), st.integers(0, 60), st.sampled_from(["before", "after", "write"]))
def test_whenever_it_is_cut_off_exactly_what_ran_is_brought_back(
    world: World, moment: int, where: str
) -> None:
    """It dies before or after one change of the machine, or after one write to the record."""
    with tempfile.TemporaryDirectory() as folder:
        site = a_site(world, folder)
        before = site.services.running()
        quiesce = site.life(moment + 1 if where == "write" else _FOREVER)
        if where != "write":
            setattr(site.services, f"{where}_call", dying_after(moment))

        with contextlib.suppress(DiedError), quiesce.quiesced("a property", WITHIN):
            pass

        site.services.before_call = site.services.after_call = lambda _call: None
        assert site.life().recover() == {}
        assert site.services.running() == before
        assert site.record.stopped_count() == 0


def dying_after(moment: int) -> Callable[[Call], None]:
    left = [moment]

    def die(_call: Call) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise DiedError

    return die


@settings(deadline=None)  # it writes to the disk
@given(worlds(), st.lists(st.integers(0, 20), max_size=3))
def test_a_recovery_that_is_cut_off_again_and_again_comes_to_its_end(
    world: World, moments: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        site = a_site(world, folder)
        before = site.services.running()
        with contextlib.suppress(DiedError), site.quiesce.quiesced("a property", WITHIN):
            site.services.before_call = dying_after(0)

        for moment in moments:
            site.services.before_call = dying_after(moment)
            with contextlib.suppress(DiedError):
                site.life().recover()
        site.services.before_call = lambda _call: None

        assert site.life().recover() == {}
        assert site.services.running() == before
