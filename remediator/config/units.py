"""Names of systemd units, as administrators write them."""

import re

# What systemd.unit(5) allows in a name, with the kinds that can be started and stopped.
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,200}\.(?:service|socket|timer|path|target)", re.ASCII)


def parse_unit(text: str) -> str:
    """Return *text* if it is the full name of a systemd unit; ValueError if it is not."""
    if _UNIT.fullmatch(text) is None:
        raise ValueError(f'"{text}" is not the full name of a unit such as dcgm-exporter.service')
    return text
