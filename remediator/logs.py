"""Logs to standard error: a line for a person, or a JSON object for a machine."""

import json
import logging
import sys
from datetime import UTC, datetime

from remediator.core.notices import clean

_LONGEST = 2000


class _Line(logging.Formatter):
    """One line for each record: whatever text came from outside cannot start a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        message = "\n  ".join(
            clean(line, _LONGEST) for line in record.getMessage().splitlines() or [""]
        )
        text = f"{at} {record.levelname.lower():7} {record.name}: {message}"
        if record.exc_info:
            # An exception's own text may come from outside as well.
            for line in self.formatException(record.exc_info).splitlines():
                margin = line[: len(line) - len(line.lstrip(" "))]
                text += f"\n  {margin}{clean(line, _LONGEST)}"
        return text


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=True)


def set_up_logging(level: str, *, as_json: bool) -> None:
    """Log to standard error from *level* on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if as_json else _Line())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("urllib3", "docker"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
