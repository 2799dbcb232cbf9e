"""Bring a database to the newest schema of its package.

A schema is a list of migrations; ``user_version`` says how many have been applied.
"""

import sqlite3
from importlib import resources
from pathlib import Path

from remediator.errors import StoreError


def check_version(
    connection: sqlite3.Connection, path: Path, package: str, error: type[StoreError]
) -> None:
    """Close *connection* and raise *error* if the database lacks migrations of *package*."""
    version, newest = _version(connection), len(_migrations(package))
    if version < newest:
        connection.close()
        raise error(
            f"{path} has schema version {version}, {newest} is needed:"
            " restart the program that writes it"
        )


def migrate(connection: sqlite3.Connection, package: str) -> None:
    """Apply the migrations that are still missing."""
    migrations = _migrations(package)
    version = _version(connection)
    if version > len(migrations):
        raise sqlite3.DatabaseError(
            f"schema version {version} is newer than this program's {len(migrations)}"
        )
    for number, script in enumerate(migrations[version:], start=version + 1):
        connection.executescript(f"BEGIN;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _migrations(package: str) -> list[str]:
    """Return the scripts ``schema/001.sql``, ``schema/002.sql``, … in order."""
    files = sorted(
        (file for file in resources.files(package).joinpath("schema").iterdir()),
        key=lambda file: file.name,
    )
    return [file.read_text(encoding="utf-8") for file in files if file.name.endswith(".sql")]
