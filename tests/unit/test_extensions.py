"""What is granted of a wish to keep a container."""

from datetime import datetime, timedelta

import pytest

from remediator.core.extensions import Extension, Granted, Via, grant, run_of
from remediator.core.targets import Named, PhysicalGpu, Subject, Target
from tests.builders import DAY, HOUR, MINUTE, NOON, TARGET, an_extension


@pytest.mark.parametrize(
    ("asked", "last", "expected"),
    [
        pytest.param(4 * HOUR, None, Granted(NOON + 4 * HOUR, True, False), id="as asked"),
        pytest.param(DAY, None, Granted(NOON + DAY, True, False), id="the most"),
        pytest.param(9 * DAY, None, Granted(NOON + DAY, True, True), id="cut"),
        pytest.param(timedelta.max, None, Granted(NOON + DAY, True, True), id="for ever"),
        pytest.param(
            2 * HOUR, NOON + HOUR, Granted(NOON + 2 * HOUR, True, False), id="longer than was"
        ),
        pytest.param(HOUR, NOON + HOUR, Granted(NOON + HOUR, False, False), id="just as long"),
        pytest.param(
            MINUTE, NOON + HOUR, Granted(NOON + HOUR, False, False), id="never shorter than was"
        ),
        pytest.param(HOUR, NOON - HOUR, Granted(NOON + HOUR, True, False), id="one that is over"),
        pytest.param(timedelta(), NOON + HOUR, Granted(NOON, True, False), id="taken back"),
        pytest.param(timedelta(), NOON, Granted(NOON, False, False), id="over already"),
        pytest.param(timedelta(), None, Granted(NOON, False, False), id="nothing to take back"),
    ],
)
def test_grant(asked: timedelta, last: datetime | None, expected: Granted) -> None:
    before = None if last is None else an_extension(last)

    assert grant(asked, DAY, before, NOON) == expected


def test_an_extension_is_over_at_its_end() -> None:
    kept = Extension(NOON, "alice", Via.CLI, NOON - HOUR)

    assert kept.holds_at(NOON - timedelta(microseconds=1))
    assert not kept.holds_at(NOON)


@pytest.mark.parametrize("via", Via)
def test_every_way_is_known_by_its_word(via: Via) -> None:
    assert Via.of(via.value) is via
    assert an_extension(via=via).by.startswith("by alice")


@pytest.mark.parametrize("text", ["", "CLI", "link\n", "fax"])
def test_any_other_way_is_unknown(text: str) -> None:
    assert Via.of(text) is Via.UNKNOWN


@pytest.mark.parametrize(
    ("target", "run"),
    [
        (TARGET, (TARGET.id, TARGET.started_at)),
        (Named(Subject("container", "c")), ("c", None)),
        (Named(Subject("gpu", "GPU-a")), None),
        (PhysicalGpu("GPU-a"), None),
        (None, None),
    ],
)
def test_only_a_container_has_a_run(
    target: Target | None, run: tuple[str, datetime | None] | None
) -> None:
    assert run_of(target) == run
