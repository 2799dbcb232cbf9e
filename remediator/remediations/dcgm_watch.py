"""Watch DCGM's page and the driver side by side, for as long as it takes to tell."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from remediator.core.dcgm import Figures, GpuFigures, judge, moving
from remediator.core.gpus import Gpu, GpuGauges
from remediator.core.observation import Report, Source, Verdict
from remediator.errors import SourceError


class Page(Protocol):
    """The page of the exporter."""

    def read(self) -> Figures:
        """Return what it says of each GPU; SourceError if there is no usable answer."""
        ...


class Driver(Protocol):
    """The questions asked of NVML."""

    def gpus(self) -> tuple[Gpu, ...]:
        """Return every GPU."""
        ...

    def gauges(self, gpu_uuid: str) -> GpuGauges:
        """Return what a GPU's instruments show."""
        ...


@dataclass(frozen=True, slots=True)
class Watched:
    """What was found: the driver's and DCGM's reports, and the page as it was last read."""

    reports: tuple[Report, ...]
    page: Figures = field(default_factory=dict)

    @property
    def xids(self) -> Mapping[str, int]:
        """The last XID of each GPU that the page shows one of."""
        return {uuid: figures.xid for uuid, figures in self.page.items() if figures.xid}


@dataclass(frozen=True, slots=True)
class DcgmWatch:
    """One exporter and the driver it asks.

    dcgm-exporter measures every 30 s unless told otherwise, so its values may stand still for
    that long: it is watched for *watch_for*, and read again each *pause* until one has moved.
    """

    page: Page
    driver: Driver
    watch_for: timedelta = timedelta(seconds=40)
    pause: timedelta = timedelta(seconds=2)

    def look(self) -> Watched:
        """Return what the driver and DCGM say of whether DCGM measures; blocks while it watches.

        A silent driver comes first: what cannot be measured no restart will bring back.
        """
        try:
            driver = self._driver_figures()
        except SourceError as error:
            return Watched((Report(Source.NVML, Verdict.SILENT, str(error)),))
        answers = Report(Source.NVML, Verdict.AGREES, f"the driver answers for {len(driver)} GPUs")
        try:
            page = self.page.read()
            now, watched = self._watch(page)
        except SourceError as error:
            return Watched((answers, Report(Source.DCGM, Verdict.AGREES, str(error))))
        try:
            driver_now = self._driver_figures()
        except SourceError as error:
            return Watched((Report(Source.NVML, Verdict.SILENT, str(error)),))
        verdict, says = judge((page, now), (driver, driver_now), watched)
        return Watched((answers, Report(Source.DCGM, verdict, says)), now)

    def _watch(self, page: Figures) -> tuple[Figures, timedelta]:
        """Return the page once it has moved, or when it was watched for long enough."""
        began = time.monotonic()
        while True:
            time.sleep(self.pause.total_seconds())
            now = self.page.read()
            watched = timedelta(seconds=time.monotonic() - began)
            if moving(page, now) or watched >= self.watch_for:
                return now, watched

    def _driver_figures(self) -> Figures:
        """Return what the driver measures; SourceError if it does so for no GPU."""
        figures = {}
        trouble = "the driver has no GPU"
        for gpu in self.driver.gpus():
            if gpu.lost is not None:
                trouble = f"GPU {gpu.uuid or gpu.index} is lost: {gpu.lost}"
                continue
            try:
                figures[gpu.uuid] = _figures(self.driver.gauges(gpu.uuid))
            except SourceError as error:
                trouble = str(error)
        if not figures:
            raise SourceError(trouble)
        return figures


def _figures(gauges: GpuGauges) -> GpuFigures:
    return GpuFigures(
        energy_millijoules=gauges.energy_millijoules,
        power_watts=gauges.power_watts,
        temperature_celsius=gauges.temperature_celsius,
    )
