"""Durations as Prometheus writes them: ``90s``, ``5m``, ``1h30m``, ``7d``.

Grammar: https://prometheus.io/docs/prometheus/latest/querying/basics/#time-durations
"""

import re
from datetime import timedelta

_UNITS = {
    "y": timedelta(days=365),
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
# Each unit at most once, the largest first.
_SHAPE = re.compile(
    r"(?:(\d{1,9})y)?(?:(\d{1,9})w)?(?:(\d{1,9})d)?(?:(\d{1,9})h)?"
    r"(?:(\d{1,9})m)?(?:(\d{1,9})s)?(?:(\d{1,9})ms)?",
    re.ASCII,
)


def parse_duration(text: str) -> timedelta:
    """Return the duration *text* stands for; ValueError if it is not one."""
    found = _SHAPE.fullmatch(text)
    if text == "0":
        return timedelta()
    if found is None or not any(found.groups()):
        raise ValueError(f'"{text}" is not a duration such as 30s, 10m or 1h30m')
    try:
        return sum(
            (int(n) * unit for n, unit in zip(found.groups(), _UNITS.values(), strict=True) if n),
            timedelta(),
        )
    except OverflowError:
        raise ValueError(f'"{text}" is longer than a duration can be') from None


def format_duration(duration: timedelta) -> str:
    """Return *duration* in the shortest form that `parse_duration` reads back."""
    left = duration
    parts = []
    for name in ("d", "h", "m", "s", "ms"):
        count, left = divmod(left, _UNITS[name])
        if count:
            parts.append(f"{count}{name}")
    return "".join(parts) or "0s"


def humanize(duration: timedelta) -> str:
    """Return *duration* for a person: two units at most, rounded to seconds."""
    seconds = round(duration.total_seconds())
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    parts = []
    for size, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {name}")
    return sign + (" ".join(parts[:2]) or "0 s")


def in_hours(duration: timedelta) -> str:
    """Return *duration* for a person, in hours where it is some: ``24 hours``, not ``1 d``."""
    hours = duration / _UNITS["h"]
    return f"{hours:.0f} hours" if hours > 1 and hours == round(hours) else humanize(duration)
