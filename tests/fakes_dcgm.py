"""DCGM's page and a driver with instruments that move, in memory."""

from collections.abc import Callable
from dataclasses import replace

from remediator.core.dcgm import Figures, GpuFigures
from remediator.core.gpus import GpuGauges
from remediator.errors import SourceError
from tests.fakes import FakeDriver, a_gpu

# What two looks lie apart: millijoules.
_STEP = 1000.0


class FakePage:
    """A page that measures anew for each reader, unless it is ``frozen``; ``down`` says why.

    ``before_read`` happens before each answer.
    """

    def __init__(self, *uuids: str) -> None:
        self.figures = {uuid: GpuFigures(5000.0, 60.0, 35.0, 0) for uuid in uuids or ("GPU-0",)}
        self.frozen = False
        self.down = ""
        self.reads = 0
        self.before_read: Callable[[], None] = lambda: None

    def show(self, uuid: str, figures: GpuFigures) -> None:
        """Show just this of a GPU."""
        self.figures[uuid] = figures

    def read(self) -> Figures:
        self.reads += 1
        self.before_read()
        if self.down:
            raise SourceError(self.down)
        if not self.frozen:
            self.figures = {uuid: _later(one) for uuid, one in self.figures.items()}
        return {u: one for u, one in self.figures.items() if one != GpuFigures()}


class MeteredDriver(FakeDriver):
    """A driver whose energy counters grow at each look, unless they ``stand_still``."""

    def __init__(self, gpus: int = 1) -> None:
        super().__init__()
        self.stand_still = False
        for index in range(gpus):
            self.add(a_gpu(index))
            self.gauges_of[f"GPU-{index}"] = GpuGauges(35.0, None, 60.0, 9000.0)

    def gauges(self, gpu_uuid: str) -> GpuGauges:
        gauges = super().gauges(gpu_uuid)
        if not self.stand_still and gauges.energy_millijoules is not None:
            grown = gauges.energy_millijoules + _STEP
            self.gauges_of[gpu_uuid] = replace(gauges, energy_millijoules=grown)
        return gauges


def _later(figures: GpuFigures) -> GpuFigures:
    energy = figures.energy_millijoules
    return replace(figures, energy_millijoules=None if energy is None else energy + _STEP)
