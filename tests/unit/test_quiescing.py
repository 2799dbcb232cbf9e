"""What has to be stopped, in which order, and what has to run again."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from remediator.core.quiescing import (
    Member,
    MemberKind,
    involved,
    obstacles,
    plan,
    pulled_in,
    restore_order,
)
from remediator.core.services import UnitLinks, UnitState
from tests.builders import HOUR, NOON, SECOND

BOX = Member("exporter", MemberKind.CONTAINER, ran=True, must_stop=True)


def up(name: str) -> UnitState:
    return UnitState(name, active="active", sub="running", active_since=NOON - HOUR)


def down(name: str) -> UnitState:
    return UnitState(name)


def world(*states: UnitState) -> Mapping[str, UnitState]:
    return {state.name: state for state in states}


def linked(names: Mapping[str, UnitState], **links: UnitLinks) -> Mapping[str, UnitLinks]:
    """Return links by the first part of a unit's name."""
    return {name: links.get(name.partition(".")[0], UnitLinks()) for name in names}


A, B, C = "a.service", "b.service", "c.service"


def test_all_that_hangs_on_a_running_unit_is_involved_along_the_whole_chain() -> None:
    states = world(up(A), up(B), up(C), up("c.socket"))
    links = linked(
        states,
        a=UnitLinks(takes_down=(B,)),
        b=UnitLinks(takes_down=(C,)),
        c=UnitLinks(started_by=("c.socket",)),
    )

    assert involved([A], states, links) == (A, B, C, "c.socket")


def test_what_is_not_known_yet_is_named_and_not_gone_on_from() -> None:
    states = world(up(A))
    links = linked(states, a=UnitLinks(takes_down=(B,)))

    assert involved([A], states, links) == (A, B)


def test_of_a_unit_that_is_down_only_what_starts_it_matters() -> None:
    states = world(down(A), up("s.socket"))
    links = linked(states, a=UnitLinks(started_by=("s.socket",), takes_down=(B,)))

    assert involved([A], states, links) == (A, "s.socket")


def test_what_starts_others_is_stopped_first_and_dependents_before_what_they_need() -> None:
    states = world(up(A), up(B), up(C), up("c.timer"))
    links = linked(states, a=UnitLinks(takes_down=(B, C)), c=UnitLinks(started_by=("c.timer",)))

    members = plan([A], states, links, NOON, [BOX])

    assert [member.name for member in members] == ["c.timer", "exporter", B, C, A]


def test_without_links_the_order_is_the_one_asked_for() -> None:
    states = world(up(C), up(A), up(B))

    assert [m.name for m in plan([C, A, B], states, linked(states), NOON)] == [C, A, B]


def test_two_that_require_each_other_are_both_planned() -> None:
    states = world(up(A), up(B))
    links = linked(states, a=UnitLinks(takes_down=(B,)), b=UnitLinks(takes_down=(A,)))

    assert {member.name for member in plan([A], states, links, NOON)} == {A, B}


def test_what_ran_is_restored_in_reverse_with_sockets_first_and_timers_last() -> None:
    names = ("t.timer", "s.socket", "exporter", B, A)
    members = [Member(name, ran=True) for name in names]

    assert [m.name for m in restore_order(members)] == ["s.socket", A, B, "exporter", "t.timer"]


@pytest.mark.parametrize(
    ("state", "ran", "must_stop"),
    [
        pytest.param(up(A), True, True, id="active"),
        pytest.param(down(A), False, False, id="stopped by the admin, though enabled"),
        pytest.param(replace(down(A), active="failed"), False, False, id="failed"),
        pytest.param(replace(up(A), active="reloading"), True, True, id="reloading"),
        pytest.param(
            replace(up(A), active="activating", sub="auto-restart"), True, True, id="crash loop"
        ),
        pytest.param(
            replace(up(A), active="deactivating", job=1, job_type="stop"),
            *(False, True),
            id="being stopped: waited for, not restored",
        ),
        pytest.param(
            replace(down(A), job=1, job_type="start"), True, True, id="waits to be started"
        ),
        pytest.param(replace(down(A), load="not-found"), False, False, id="missing"),
        pytest.param(replace(down(A), load="masked"), False, False, id="masked"),
    ],
)
def test_exactly_what_runs_or_comes_back_by_itself_is_restored(
    state: UnitState, ran: bool, must_stop: bool
) -> None:
    states = world(state)

    [member] = plan([A], states, linked(states), NOON)

    assert (member.ran, member.must_stop) == (ran, must_stop)
    assert member.was == str(state)
    assert bool(restore_order([member])) is ran


def test_a_socket_whose_service_is_down_comes_back_alone() -> None:
    states = world(down(A), up("a.socket"))
    links = linked(states, a=UnitLinks(started_by=("a.socket",)))

    members = plan([A], states, links, NOON)

    assert [m.name for m in members if m.must_stop] == ["a.socket"]
    assert [m.name for m in restore_order(members)] == ["a.socket"]


@pytest.mark.parametrize(
    ("state", "steady"),
    [
        pytest.param(up(A), True, id="never restarted"),
        pytest.param(
            replace(up(A), active="activating", sub="auto-restart"), False, id="between two tries"
        ),
        pytest.param(
            replace(up(A), n_restarts=3, active_since=NOON - 20 * SECOND), False, id="during a try"
        ),
        pytest.param(replace(up(A), active_since=NOON - SECOND), False, id="during the first try"),
        pytest.param(replace(up(A), active_since=NOON - 20 * SECOND), True, id="runs for a while"),
        pytest.param(replace(up(A), n_restarts=3), True, id="crashed long ago"),
        pytest.param(down(A), False, id="down"),
    ],
)
def test_a_crash_loop_need_not_be_steady_afterwards(state: UnitState, steady: bool) -> None:
    states = world(state)

    assert [m.steady for m in plan([A], states, linked(states), NOON)] == [steady]


@pytest.mark.parametrize(
    ("wanted", "alone"),
    [
        pytest.param(up(B), False, id="it runs anyway"),
        pytest.param(down(B), True, id="it was stopped: starting A plainly would start it"),
        pytest.param(replace(down(B), load="masked"), False, id="masked"),
        pytest.param(replace(down(B), load="not-found"), False, id="missing"),
    ],
)
def test_what_was_down_is_not_started_along(wanted: UnitState, alone: bool) -> None:
    states = world(up(A))
    links = linked(states, a=UnitLinks(pulls_in=(B, "system.slice", "basic.target")))
    assert pulled_in([A], states, links) == (B,)

    [member] = plan([A], {**states, B: wanted}, {**links, B: UnitLinks()}, NOON)

    assert member.alone is alone


def test_what_runs_already_pulls_in_what_was_down() -> None:
    states = world(up(A), up(B), down(C))
    links = linked(states, a=UnitLinks(pulls_in=(B,)), b=UnitLinks(pulls_in=(C, A)))

    assert [member.alone for member in plan([A], states, links, NOON)] == [True]


def test_what_a_unit_that_is_down_would_pull_in_does_not_matter() -> None:
    states = world(down(A))

    assert pulled_in([A], states, linked(states, a=UnitLinks(pulls_in=(B,)))) == ()


@pytest.mark.parametrize(
    ("state", "why"),
    [
        pytest.param(up("docker.service"), "is never stopped", id="containers would die"),
        pytest.param(up("systemd-logind.service"), "is never stopped", id="systemd itself"),
        pytest.param(up("remediator-worker.service"), "is never stopped", id="ourselves"),
        pytest.param(up("multi-user.target"), "is never stopped", id="everything"),
        pytest.param(up("data.mount"), "not a unit that can be stopped", id="a file system"),
        pytest.param(replace(up(A), load="masked"), "runs, but is masked", id="masked"),
        pytest.param(replace(up(A), load="not-found"), "runs, but is not-found", id="file gone"),
        pytest.param(replace(up(A), is_transient=True), "could not be started again", id="run"),
        pytest.param(replace(up(A), can_start=False), "could not be started again", id="manual"),
        pytest.param(replace(up(A), can_stop=False), "does not let itself", id="refuses"),
    ],
)
def test_what_could_not_be_brought_back_is_not_stopped(state: UnitState, why: str) -> None:
    [said] = obstacles([A], world(state))

    assert why in said
    assert said.startswith(state.name)
    assert ("which would go down as well" in said) is (state.name != A)


def test_what_is_down_is_no_obstacle() -> None:
    states = world(down("docker.service"), replace(down(A), load="masked"), down("data.mount"))

    assert obstacles([A], states) == ()


def test_what_runs_and_can_be_brought_back_is_no_obstacle() -> None:
    assert obstacles([A], world(up(A))) == ()
