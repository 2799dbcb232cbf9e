"""Send the parsers what their coverage makes interesting: ``python -m tests.chaos.fuzz RUNS``.

Ends with 0 after that many inputs, all of which were read or refused as promised. An input that
was not is printed with what it raised. Its first byte says which parser it is for.
"""

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["remediator"]):
    from tests.chaos.parsers import SEEDS, TARGETS

_NAMES = tuple(TARGETS)


def _one(data: bytes) -> None:
    if data:
        TARGETS[_NAMES[data[0] % len(_NAMES)]](data[1:])


def _run(runs: int, seed: int) -> None:
    with tempfile.TemporaryDirectory(prefix="corpus-") as folder:
        for number, name in enumerate(_NAMES):
            for part, text in enumerate(SEEDS[name]):
                Path(folder, f"{name}-{part}").write_bytes(bytes([number]) + text)
        options = [f"-atheris_runs={runs}", f"-seed={seed}", "-max_len=4096", "-verbosity=0"]
        atheris.Setup([sys.argv[0], *options, "-artifact_prefix=/tmp/", folder], _one)
        atheris.Fuzz()


if __name__ == "__main__":
    _run(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
