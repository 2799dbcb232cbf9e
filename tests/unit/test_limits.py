from datetime import datetime, timedelta

import pytest

from remediator.core.exemptions import Exemption
from remediator.core.limits import LimitsBook
from tests.builders import HOUR, MINUTE, NOON, SECOND


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
    limits = LimitsBook().limits_for("alice", container_type, "docker", NOON)

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

    limits = book.limits_for("alice", "docker", "orchestration", NOON)

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

    limits = book.limits_for("alice", "docker", "atomic", NOON)

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

    limits = book.limits_for("alice", "docker", "docker", NOON)

    assert limits.idle_timeout == HOUR
    assert limits.max_runtime is None
    assert limits.gpu_idle_percent == 9


def test_what_the_file_says_by_default_beats_a_built_in_group() -> None:
    book = LimitsBook(defaults={"idle_timeout": MINUTE}, members={"alice": "faculty"})

    assert book.limits_for("alice", "docker", "atomic", NOON).idle_timeout == MINUTE


@pytest.mark.parametrize("container_type", ["devcontainer", "api", "docker"])
def test_nobodys_container_has_the_strictest_limits(container_type: str) -> None:
    limits = LimitsBook().limits_for("unknown", container_type, "vscode", NOON)

    assert limits.idle_timeout == 15 * MINUTE
    assert limits.max_runtime == 24 * HOUR


def test_strictest_means_the_shorter_even_if_unknown_ones_may_take_longer() -> None:
    book = LimitsBook(types={"docker": {"idle_timeout": MINUTE}})

    assert book.limits_for("unknown", "docker", "docker", NOON).idle_timeout == MINUTE


def an_exemption(
    until: datetime | None = None, *limits: str, user: str = "alice", reason: str = "thesis"
) -> Exemption:
    return Exemption(user, frozenset(limits or ("idle_timeout", "max_runtime")), reason, "X", until)


@pytest.mark.parametrize("container_type", ["docker", "compose", "unknown"])
@pytest.mark.parametrize("interface", ["docker", "orchestration"])
def test_an_exemption_beats_everything_and_says_why(container_type: str, interface: str) -> None:
    exemption = an_exemption(None, "idle_timeout")
    book = LimitsBook(users={"alice": {"idle_timeout": MINUTE}}, exemptions=(exemption,))

    limits = book.limits_for("alice", container_type, interface, NOON)

    assert (limits.idle_timeout, limits.idle_exemption) == (None, exemption)
    assert limits.max_runtime is not None
    assert limits.runtime_exemption is None


def test_an_exemption_is_its_users_own() -> None:
    book = LimitsBook(exemptions=(an_exemption(user="bob"),))

    assert book.limits_for("alice", "docker", "atomic", NOON) == LimitsBook().limits_for(
        "alice", "docker", "atomic", NOON
    )


@pytest.mark.parametrize(
    ("now", "holds"),
    [
        pytest.param(NOON - timedelta(microseconds=1), True, id="just before its end"),
        pytest.param(NOON, False, id="at its end"),
        pytest.param(NOON + HOUR, False, id="later"),
    ],
)
def test_an_exemption_ends_to_the_instant(now: datetime, holds: bool) -> None:
    book = LimitsBook(exemptions=(an_exemption(NOON),))

    limits = book.limits_for("alice", "docker", "docker", now)

    assert (limits.idle_timeout is None) is holds
    assert (limits.max_runtime is None) is holds
    assert (limits.runtime_exemption is not None) is holds
    assert bool(book.exemptions_at(now)) is holds


def test_of_several_exemptions_the_one_that_holds_longest_is_the_reason() -> None:
    ends = (NOON - HOUR, NOON + HOUR, NOON + 2 * HOUR)
    runtime = an_exemption(NOON + 3 * HOUR, "max_runtime")
    dated = [an_exemption(end, "idle_timeout") for end in ends]
    book = LimitsBook(exemptions=(*dated, runtime))
    for_ever = LimitsBook(exemptions=(*dated, an_exemption(None, "idle_timeout"), *dated))

    limits = book.limits_for("alice", "docker", "docker", NOON)

    assert limits.idle_exemption == dated[2]
    assert limits.runtime_exemption == runtime
    forever_limits = for_ever.limits_for("alice", "docker", "docker", NOON)
    assert forever_limits.idle_exemption == an_exemption(None, "idle_timeout")


def test_nobodys_container_is_never_exempt() -> None:
    book = LimitsBook(exemptions=(an_exemption(user="unknown"),))

    assert book.limits_for("unknown", "docker", "docker", NOON).idle_timeout == 15 * MINUTE


@pytest.mark.parametrize(
    ("until", "text"),
    [
        (None, "exempt for ever: thesis (approved by X)"),
        ("2026-07-01T00:00:00Z", "exempt until 2026-06-30: thesis (approved by X)"),
        ("2026-06-30T23:59:59Z", "exempt until 2026-06-30: thesis (approved by X)"),
        ("2026-06-30T14:30:00Z", "exempt until 2026-06-30 14:30 UTC: thesis (approved by X)"),
    ],
)
def test_an_exemption_is_told_with_its_last_day(until: str | None, text: str) -> None:
    end = None if until is None else datetime.fromisoformat(until)

    assert str(an_exemption(end)) == text
