from datetime import timedelta

import pytest

from remediator.core.limits import LimitsBook

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("container_type", "idle", "runtime", "grace"),
    [
        ("devcontainer", None, 168 * HOUR, 30 * SECOND),
        ("compose", 30 * MINUTE, 72 * HOUR, 45 * SECOND),
        ("docker", 30 * MINUTE, 48 * HOUR, 60 * SECOND),
        ("api", None, 24 * HOUR, 30 * SECOND),
        ("unknown", 15 * MINUTE, 24 * HOUR, 30 * SECOND),
        ("made up", 15 * MINUTE, 24 * HOUR, 30 * SECOND),
    ],
)
def test_a_container_made_outside_has_the_limits_of_its_type(
    container_type: str, idle: timedelta | None, runtime: timedelta, grace: timedelta
) -> None:
    limits = LimitsBook().limits_for("alice", container_type, "docker")

    assert (limits.idle_timeout, limits.max_runtime, limits.sigterm_grace) == (idle, runtime, grace)


@pytest.mark.parametrize(
    ("group", "idle", "runtime", "cpu", "hold"),
    [
        ("student", 30 * MINUTE, 24 * HOUR, 2, 15 * MINUTE),
        ("researcher", HOUR, 48 * HOUR, 3, 15 * MINUTE),
        ("faculty", 2 * HOUR, 72 * HOUR, 3, 15 * MINUTE),
        ("admin", HOUR, 24 * HOUR, 2, HOUR),
        ("another", 30 * MINUTE, 24 * HOUR, 2, 15 * MINUTE),
    ],
)
def test_a_container_of_ds01_has_the_limits_of_its_owners_group(
    group: str, idle: timedelta, runtime: timedelta, cpu: float, hold: timedelta
) -> None:
    book = LimitsBook(members={"alice": group})

    limits = book.limits_for("alice", "docker", "orchestration")

    assert limits.group == group
    assert (limits.idle_timeout, limits.max_runtime) == (idle, runtime)
    assert (limits.cpu_idle_percent, limits.hold_after_stop) == (cpu, hold)


def test_the_nearer_layer_wins_key_by_key() -> None:
    book = LimitsBook(
        defaults={"idle_timeout": HOUR, "max_runtime": HOUR, "hold_after_stop": HOUR},
        groups={"g": {"idle_timeout": 2 * HOUR, "max_runtime": 2 * HOUR}},
        users={"alice": {"idle_timeout": None}},
        members={"alice": "g"},
    )

    limits = book.limits_for("alice", "docker", "atomic")

    assert limits.idle_timeout is None
    assert limits.max_runtime == 2 * HOUR
    assert limits.hold_after_stop == HOUR


def test_a_users_override_beats_the_type_which_beats_the_group() -> None:
    book = LimitsBook(
        default_group="g",
        groups={"g": {"idle_timeout": 5 * HOUR, "gpu_idle_percent": 9.0}},
        types={"docker": {"idle_timeout": HOUR, "max_runtime": HOUR}},
        users={"alice": {"max_runtime": None}},
    )

    limits = book.limits_for("alice", "docker", "docker")

    assert limits.idle_timeout == HOUR
    assert limits.max_runtime is None
    assert limits.gpu_idle_percent == 9


def test_what_the_file_says_by_default_beats_a_built_in_group() -> None:
    book = LimitsBook(defaults={"idle_timeout": MINUTE}, members={"alice": "faculty"})

    assert book.limits_for("alice", "docker", "atomic").idle_timeout == MINUTE


@pytest.mark.parametrize("container_type", ["devcontainer", "api", "docker"])
def test_nobodys_container_has_the_strictest_limits(container_type: str) -> None:
    limits = LimitsBook().limits_for("unknown", container_type, "vscode")

    assert limits.idle_timeout == 15 * MINUTE
    assert limits.max_runtime == 24 * HOUR


def test_strictest_means_the_shorter_even_if_unknown_ones_may_take_longer() -> None:
    book = LimitsBook(types={"docker": {"idle_timeout": MINUTE}})

    assert book.limits_for("unknown", "docker", "docker").idle_timeout == MINUTE
