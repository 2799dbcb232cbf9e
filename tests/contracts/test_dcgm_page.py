"""What DCGM's page promises to its reader, kept by the reader of the real one and by the fake."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from remediator.core.dcgm import GpuFigures, moving
from remediator.errors import SourceError
from remediator.remediations.dcgm_watch import Page
from remediator.sources.dcgm_page import DcgmPage
from tests.builders import SECOND
from tests.fakes_dcgm import FakePage
from tests.peers.dcgm import DcgmExporter
from tests.peers.ports import LOOPBACK, free_port

UUID = "GPU-0"
SHOWN = GpuFigures(5000.0, 60.5, 35.0, 79)
FAMILIES = (
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION",
    "DCGM_FI_DEV_POWER_USAGE",
    "DCGM_FI_DEV_GPU_TEMP",
    "DCGM_FI_DEV_XID_ERRORS",
)


@dataclass
class Rig:
    """A page that shows `SHOWN` of one GPU and stands still, and a way to break it."""

    page: Page
    show: Callable[[str, GpuFigures], None]
    break_it: Callable[[], None]


def show(exporter: DcgmExporter, uuid: str, figures: GpuFigures) -> None:
    values = (*figures.measured, figures.xid)
    for family, value in zip(FAMILIES, values, strict=True):
        if value is not None:
            exporter.set(family, value, UUID=uuid)


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.integration)])
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    if request.param == "fake":
        fake = FakePage()
        fake.frozen = True
        fake.show(UUID, SHOWN)
        yield Rig(fake, fake.show, lambda: setattr(fake, "down", "no answer"))
        return
    with_peer = DcgmExporter()
    show(with_peer, UUID, SHOWN)
    with_peer.start()
    page = DcgmPage(f"http://{with_peer.address}/metrics", SECOND)
    yield Rig(
        page,
        lambda uuid, figures: show(with_peer, uuid, figures),
        lambda: setattr(with_peer, "answers", False),
    )
    with_peer.stop()


def test_what_is_measured_is_told_of_each_gpu(rig: Rig) -> None:
    rig.show("GPU-1", GpuFigures(power_watts=300.0))

    assert rig.page.read() == {UUID: SHOWN, "GPU-1": GpuFigures(power_watts=300.0)}


def test_what_stands_still_does_not_move_and_what_is_measured_anew_does(rig: Rig) -> None:
    before = rig.page.read()
    assert moving(before, rig.page.read()) is None

    rig.show(UUID, GpuFigures(6000.0, 60.5, 35.0, 79))

    assert moving(before, rig.page.read()) == "energy (mJ) of GPU-0 went from 5000 to 6000"


def test_a_page_that_is_broken_is_no_answer(rig: Rig) -> None:
    rig.break_it()

    with pytest.raises(SourceError):
        rig.page.read()


@pytest.fixture
def exporter() -> Iterator[DcgmExporter]:
    peer = DcgmExporter()
    show(peer, UUID, SHOWN)
    peer.start()
    yield peer
    peer.stop()


def read(exporter: DcgmExporter, largest: int = 10**6) -> object:
    return DcgmPage(f"http://{exporter.address}/metrics", 0.3 * SECOND, largest).read()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("hang", "no answer from"),
        ("trickle", "takes longer than 0.3 s"),
        ("huge", "more than 1000000 bytes"),
        ("nonsense", "makes no sense"),
    ],
)
def test_an_exporter_that_misbehaves_is_no_answer(
    exporter: DcgmExporter, fault: str, says: str
) -> None:
    exporter.fault = fault

    with pytest.raises(SourceError, match=says):
        read(exporter)


@pytest.mark.integration
def test_a_status_but_200_is_no_answer(exporter: DcgmExporter) -> None:
    exporter.answers = False

    with pytest.raises(SourceError, match="answers with status 503"):
        read(exporter)


def test_nobody_there_is_no_answer() -> None:
    with pytest.raises(SourceError, match="ConnectionError"):
        DcgmPage(f"http://{LOOPBACK}:{free_port()}/metrics", SECOND).read()


@pytest.mark.integration
def test_blank_values_and_other_families_are_no_measurement(exporter: DcgmExporter) -> None:
    for family in FAMILIES:
        exporter.set(family, 9223372036854775794.0, UUID=UUID)
    exporter.set("DCGM_FI_DEV_POWER_USAGE", float("nan"), UUID="GPU-1")
    exporter.set("DCGM_FI_DEV_POWER_USAGE_INSTANT", 3.0, UUID="GPU-2")
    exporter.set("DCGM_FI_DEV_GPU_UTIL", 3.0, UUID="GPU-2")

    assert read(exporter) == {}


@pytest.mark.integration
def test_the_label_of_older_versions_is_read_as_well(exporter: DcgmExporter) -> None:
    exporter.set("DCGM_FI_DEV_GPU_TEMP", 40.0, uuid="GPU-9")
    exporter.set("DCGM_FI_DEV_GPU_TEMP", 41.0)

    assert read(exporter) == {UUID: SHOWN, "GPU-9": GpuFigures(temperature_celsius=40.0)}


@pytest.mark.integration
def test_under_mig_a_gpu_is_told_of_once(exporter: DcgmExporter) -> None:
    for instance in ("1", "2"):
        exporter.set("DCGM_FI_DEV_GPU_TEMP", 35.0, UUID=UUID, GPU_I_ID=instance)

    assert read(exporter) == {UUID: SHOWN}
