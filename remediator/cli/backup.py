"""``remediator backup``: copy the journal and the inbox while the programs run."""

import argparse
import contextlib
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from remediator.cli.programs import Subparsers, add_settings, settings_of
from remediator.errors import SetupError
from remediator.inbox import store
from remediator.journal import journal

_ABOUT = """\
Copy the journal and the inbox into a new folder, each as it stands at one moment, while everything
goes on. The copies are checked and synced before this says so. To restore, stop the programs, put
the two files in the place of those that are there (with their -wal and -shm files removed), and
start again: the worker pauses, since what was done after the copy is forgotten.
"""
_AT_A_TIME = 1000


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "backup", help="copy journal and inbox while the programs run", description=_ABOUT
    )
    add_settings(parser)
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="a folder that is not there yet"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Copy both; SetupError if one is missing, cannot be read, or is damaged."""
    settings = settings_of(options)
    sources = [
        settings.state_dir / journal.FILE,
        settings.inbox_dir / store.FILE,
    ]
    missing = [str(path) for path in sources if not path.exists()]
    if missing:
        raise SetupError(f"there is no {' and no '.join(missing)}: nothing is copied")
    folder: Path = options.folder
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise SetupError(f"cannot make {folder}: {error.strerror}") from error
    for source in sources:
        size = _copy(source, folder / source.name)
        print(f"{folder / source.name}: {size} bytes, checked")
    print(f"complete at {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
    return 0


def _copy(source: Path, target: Path) -> int:
    """Copy one database and return the size of the copy."""
    try:
        with (
            contextlib.closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as origin,
            contextlib.closing(sqlite3.connect(target)) as copy,
        ):
            # A little at a time: whoever writes need not wait for the whole of it.
            origin.backup(copy, pages=_AT_A_TIME)
            # The copy is to be one file, without a log beside it.
            copy.execute("PRAGMA journal_mode = DELETE")
            (verdict,) = copy.execute("PRAGMA integrity_check(1)").fetchone()
    except sqlite3.Error as error:
        raise SetupError(f"{source} cannot be copied to {target}: {error}") from error
    if verdict != "ok":
        raise SetupError(f"{source} is damaged, and so is its copy {target}: {verdict}")
    _sync(target)
    return target.stat().st_size


def _sync(path: Path) -> None:
    for place in (path, path.parent):
        file = os.open(place, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
