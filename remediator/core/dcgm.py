"""What DCGM says of the GPUs beside what the driver says: whether it still measures.

That an exporter answers proves nothing: it may serve what it measured an hour ago. What counts
is whether its values move while the driver's own do. Nothing here asks either of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from remediator.core.durations import humanize
from remediator.core.observation import Verdict


@dataclass(frozen=True, slots=True)
class GpuFigures:
    """What is measured of one physical GPU and seldom stands still; None where it is not told.

    ``energy_millijoules`` grows in every GPU that has power. ``xid`` is the last one, 0 for none.
    """

    energy_millijoules: float | None = None
    power_watts: float | None = None
    temperature_celsius: float | None = None
    xid: int | None = None

    @property
    def measured(self) -> tuple[float | None, ...]:
        """What moves by itself: an XID stays what it is."""
        return (self.energy_millijoules, self.power_watts, self.temperature_celsius)


Figures = Mapping[str, GpuFigures]


def moving(before: Figures, now: Figures) -> str | None:
    """Return one change between two looks, as text; None if nothing that both show has moved."""
    for uuid in sorted(before.keys() & now.keys()):
        pairs = zip(_NAMES, before[uuid].measured, now[uuid].measured, strict=True)
        for name, old, new in pairs:
            if old is not None and new is not None and old != new:
                return f"{name} of {uuid} went from {old:g} to {new:g}"
    return None


def judge(
    page: tuple[Figures, Figures], driver: tuple[Figures, Figures], watched: timedelta
) -> tuple[Verdict, str]:
    """Return whether DCGM has fallen silent behind its page, from two looks at it and the driver.

    One GPU that moves is proof that DCGM measures: it fails for all of them or for none. Where
    not even the driver's values move, nothing is proven.
    """
    moves = moving(*page)
    if moves is not None:
        return Verdict.DISAGREES, f"its values are fresh: {moves}"
    if not any(value is not None for gpu in page[1].values() for value in gpu.measured):
        says = f"it answers without one measured value, and the driver has {len(driver[1])} GPUs"
        return Verdict.AGREES, says
    moves = moving(*driver)
    if moves is None:
        says = f"neither its values nor the driver's have changed within {humanize(watched)}"
        return Verdict.SILENT, says
    says = f"its values have not changed within {humanize(watched)}, the driver's have: {moves}"
    return Verdict.AGREES, says


def same_xids(before: Mapping[str, int], now: Figures) -> str:
    """Return the XIDs that are still shown from before, as text; nothing if there are none."""
    return ", ".join(
        f"XID {xid} of {uuid}"
        for uuid, xid in sorted(before.items())
        if xid and uuid in now and now[uuid].xid == xid
    )


_NAMES = ("energy (mJ)", "power (W)", "temperature (C)")
