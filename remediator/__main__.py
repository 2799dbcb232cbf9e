"""``python -m remediator``."""

from remediator.cli.main import entry_point

entry_point()
