"""The services around the GPUs as a reset sees them, over the real quiesce."""

import fcntl
from pathlib import Path

import pytest

from remediator.errors import EffectUnknownError, SourceError
from remediator.quiesce.for_gpus import GpuServices
from remediator.quiesce.lock import FILE, QuiesceLock
from remediator.quiesce.quiesce import Quiesced
from remediator.sources.nvml import NvmlSource
from tests.unit.mortal import DiedError
from tests.unit.quiesce_site import WITHIN, QuiesceSite

GOOD, OTHER = "good.service", "idle.service"


@pytest.fixture
def site(folder: Path) -> QuiesceSite:
    made = QuiesceSite(folder, Quiesced((GOOD, OTHER)))
    made.services.put(GOOD)
    return made


def services(site: QuiesceSite) -> GpuServices:
    return GpuServices(site.quiesce, site.record)


def test_what_ran_is_down_inside_and_runs_after_it(site: QuiesceSite) -> None:
    with services(site).quiesced("a reset", WITHIN) as names:
        assert names == (GOOD,)
        assert site.services.running() == set()
        assert services(site).unrestored() == (GOOD,)

    assert site.services.running() == {GOOD}
    assert services(site).unrestored() == ()


def test_whoever_has_the_descriptor_keeps_others_from_restoring(site: QuiesceSite) -> None:
    with services(site).quiesced("a reset", WITHIN):
        inherited = fcntl.fcntl(services(site).held_by(), fcntl.F_DUPFD_CLOEXEC, 0)

        assert QuiesceLock(site.folder).holder() is not None
    with open(inherited, "rb"):
        assert QuiesceLock(site.folder).holder() is None


def test_what_a_dead_process_stopped_is_told_and_recovered(site: QuiesceSite) -> None:
    site.quiesce = site.life(lives=3)
    with pytest.raises(DiedError), services(site).quiesced("a reset", WITHIN):
        pass
    site.quiesce = site.life()
    assert services(site).unrestored() == (GOOD,)

    services(site).recover()

    assert site.services.running() == {GOOD}
    assert services(site).unrestored() == ()


def test_what_cannot_be_restored_is_told(site: QuiesceSite) -> None:
    site.services.broken.add(GOOD)
    with (
        pytest.raises(EffectUnknownError, match="not running again: good"),
        services(site).quiesced("a reset", WITHIN),
    ):
        pass

    services(site).recover()

    assert services(site).unrestored() == (GOOD,)


def test_while_a_quiesce_is_under_way_nothing_is_to_be_started(site: QuiesceSite) -> None:
    assert services(site).under_way("other.service") is None

    with services(site).quiesced("a reset", WITHIN):
        said = services(site).under_way("other.service") or ""

    assert said.startswith("services are stopped on purpose: a reset (process ")
    assert services(site).under_way(GOOD) is None


@pytest.mark.parametrize("name", [GOOD, "good"])
def test_what_a_dead_process_stopped_is_left_to_whoever_restores_it(
    site: QuiesceSite, name: str
) -> None:
    site.quiesce = site.life(lives=3)
    with pytest.raises(DiedError), services(site).quiesced("a reset", WITHIN):
        pass
    site.quiesce = site.life()

    assert services(site).under_way(name) is not None
    assert services(site).under_way(OTHER) is None


def test_where_the_lock_cannot_be_looked_at_nobody_can_tell(site: QuiesceSite) -> None:
    (site.folder / FILE).unlink(missing_ok=True)
    (site.folder / FILE).mkdir()

    with pytest.raises(SourceError, match=r"quiesce\.lock: Is a directory"):
        services(site).under_way(GOOD)


def test_the_driver_is_not_opened_while_another_program_resets() -> None:
    with pytest.raises(SourceError, match="another program resets a GPU"):
        NvmlSource(lambda: True).gpus()
