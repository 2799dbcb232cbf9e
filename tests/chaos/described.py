"""schemathesis: what the API's own description allows, and what it does not, sent to a receiver."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import requests

_CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance"
    ",response_schema_conformance"
)
_CASES = re.compile(r"(\d+) generated")


def send_described(
    url: str, token: str, examples: int, folder: Path, *more: str
) -> tuple[int, str]:
    """Return how many requests were sent to the receiver at *url*, and what was wrong, if any.

    *more* are arguments of schemathesis.
    """
    headers = {"Authorization": f"Bearer {token}"}
    described = requests.get(f"{url}/api/v1/openapi.json", headers=headers, timeout=10)
    described.raise_for_status()
    file = folder / "openapi.json"
    file.write_text(described.text)
    command = [
        *(str(Path(sys.executable).with_name("schemathesis")), "run", str(file), "--url", url),
        *("--header", f"Authorization: Bearer {token}", "--checks", _CHECKS, "--no-color"),
        *("--max-examples", str(examples), "--seed", "1", "--suppress-health-check", "all"),
    ]
    done = _run([*command, *more], folder)
    found = _CASES.search(done.stdout)
    sent = int(found[1]) if found else 0
    return sent, "" if done.returncode == 0 and sent else done.stdout + done.stderr


def _run(command: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, timeout=600
    )
