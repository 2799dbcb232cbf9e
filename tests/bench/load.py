"""Post deliveries as fast as they are answered, with `wrk`, and what that tells."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.peers.missing import require_tool

_SCRIPT = """
local file = io.open(os.getenv("BENCH_BODY"), "rb")
wrk.method, wrk.body = "POST", file:read("*a")
wrk.headers["Content-Type"] = "application/json"
if os.getenv("BENCH_TOKEN") then
  wrk.headers["Authorization"] = "Bearer " .. os.getenv("BENCH_TOKEN")
end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("TOLD %d %d %d %d %d\\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """What one stretch of posting told: answers, per second, and milliseconds of each."""

    answers: int
    rate: float
    median: float
    p99: float


def post(
    url: str, body: Path, *, connections: int = 8, seconds: float = 3, token: str = ""
) -> Load:
    """Post *body* over and over on so many *connections*; every answer has to be 200."""
    script = body.with_suffix(".lua")
    script.write_text(_SCRIPT)
    environment = {**os.environ, "BENCH_BODY": str(body)}
    if token:
        environment["BENCH_TOKEN"] = token
    told = subprocess.run(
        [
            *(require_tool("wrk"), "--threads", "1", "--connections", str(connections)),
            # It knows whole seconds only.
            *(
                "--duration",
                f"{max(1, round(seconds))}s",
                "--timeout",
                "10s",
                "--script",
                str(script),
                url,
            ),
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(line for line in told.stdout.splitlines() if line.startswith("TOLD "))
    answers, took, errors, median, p99 = (float(word) for word in line.split()[1:])
    if errors or not answers:
        raise RuntimeError(f"{url}: {errors:.0f} of {answers:.0f} deliveries failed: {told.stdout}")
    return Load(int(answers), answers / took * 1e6, median / 1000, p99 / 1000)
