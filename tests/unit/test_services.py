"""When a unit counts as running, as quiet, and as settled."""

from dataclasses import replace

import pytest

from remediator.core.services import UnitState, unit_name, unsettled

UP = UnitState("a.service", active="active", sub="running", invocation_id="1")


@pytest.mark.parametrize(
    ("state", "is_running", "is_quiet"),
    [
        pytest.param(UP, True, False, id="active"),
        pytest.param(UnitState("a.service"), False, True, id="inactive"),
        pytest.param(UnitState("a.service", active="failed"), False, True, id="failed"),
        pytest.param(replace(UP, active="reloading"), True, False, id="reloading"),
        pytest.param(
            replace(UP, active="activating", sub="auto-restart"), True, False, id="crash loop"
        ),
        pytest.param(
            replace(UP, active="deactivating", restart="always"), True, False, id="dies, comes back"
        ),
        pytest.param(replace(UP, active="deactivating"), False, False, id="dies, stays away"),
        pytest.param(
            replace(UP, active="deactivating", restart="always", job=1, job_type="stop"),
            *(False, False),
            id="told to stop",
        ),
        pytest.param(
            replace(UP, job=1, job_type="stop"), False, False, id="told to stop, still active"
        ),
        pytest.param(
            replace(UP, active="deactivating", job=1, job_type="restart"),
            *(True, False),
            id="being restarted",
        ),
        pytest.param(
            UnitState("a.service", job=1, job_type="start"), True, False, id="waits for its start"
        ),
    ],
)
def test_running_is_what_comes_back_and_quiet_what_does_not(
    state: UnitState, is_running: bool, is_quiet: bool
) -> None:
    assert (state.is_running, state.is_quiet) == (is_running, is_quiet)


@pytest.mark.parametrize(
    ("now", "trouble"),
    [
        pytest.param(UP, None, id="stays up"),
        pytest.param(replace(UP, invocation_id="2"), "started anew", id="another run"),
        pytest.param(replace(UP, n_restarts=1), "started anew", id="restarted by systemd"),
        pytest.param(
            replace(UP, active="failed", sub="failed", result="exit-code"),
            "failed (exit-code)",
            id="failed",
        ),
        pytest.param(replace(UP, active="inactive", sub="dead"), "inactive", id="ended"),
        pytest.param(
            replace(UP, active="activating", sub="auto-restart"), "auto-restart", id="crash loop"
        ),
        pytest.param(
            replace(UP, active="activating", sub="start"), "still activating", id="still starting"
        ),
        pytest.param(
            replace(UP, job=1, job_type="stop"), "stop job waiting", id="about to be stopped"
        ),
        pytest.param(
            UnitState("a.service", kind="oneshot"), None, id="a oneshot that has done its work"
        ),
        pytest.param(
            UnitState("a.service", kind="oneshot", result="exit-code"),
            "inactive",
            id="a oneshot that has not",
        ),
    ],
)
def test_a_unit_has_settled_when_this_run_of_it_stays_up(
    now: UnitState, trouble: str | None
) -> None:
    found = unsettled(UP, now)

    assert (found is None) == (trouble is None)
    assert (trouble or "") in (found or "")


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (UP, "active (running)"),
        (UnitState("a.service", active="failed", result="timeout"), "failed (timeout)"),
        (UnitState("a.service", load="masked"), "masked, inactive"),
        (replace(UP, job=3, job_type="stop"), "active (running), stop job waiting"),
    ],
)
def test_a_state_is_said_in_a_word_or_two(state: UnitState, text: str) -> None:
    assert str(state) == text


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("nvidia-dcgm", "nvidia-dcgm.service"),
        ("nvidia-dcgm.service", "nvidia-dcgm.service"),
        ("nvsm.socket", "nvsm.socket"),
        ("dbus-org.freedesktop.thing", "dbus-org.freedesktop.thing.service"),
    ],
)
def test_what_names_no_kind_of_unit_is_a_service(text: str, name: str) -> None:
    assert unit_name(text) == name
