"""A process holds a GPU and belongs to no container; another one belongs to a living one."""

import signal
import subprocess
from collections.abc import Mapping
from typing import Any

from docker.models.containers import Container

from tests.peers.demo.scenario import World
from tests.peers.demo.timeline import Timeline
from tests.peers.gpu.image import run_gpu_container
from tests.peers.site import Site

# Nobody's: an account for people that no setting permits to use GPUs outside containers.
_NOBODY = 65534


class Orphan:
    """A process that outlived everything it belonged to is ended; a container's is not touched."""

    name = "orphan"
    title = "A process holds a GPU and belongs to no container"
    alerts = ("DS01GPUOrphanProcess",)
    gpus = 2
    last_words = "acted by mail to admins"
    verdict = "The orphan is gone, ended by SIGTERM; the container's process runs untouched."

    def __init__(self) -> None:
        self._orphan: subprocess.Popen[bytes] | None = None
        self._training: Container | None = None

    def rules(self) -> list[Mapping[str, Any]]:
        """Return the rule about orphans."""
        return [
            {
                "name": "orphan on a GPU",
                "match": ['alertname="DS01GPUOrphanProcess"'],
                "do": [
                    {
                        "kill-orphan": {"wait": "5s"},
                        "attempts": ["1 per 24h"],
                        "timeout": "30s",
                        "verify": {"within": "15s"},
                    }
                ],
                "tell": ["admins"],
            }
        ]

    def prepare(self, site: Site) -> None:
        """Nothing has to be there before."""

    def begin(self, world: World) -> None:
        """Start a container, and a process that nobody owns."""
        self._training = run_gpu_container(
            world.site.docker, world.gpus, "training", gpus=(0,), task="busy", util=80
        )
        self._orphan = world.gpus.start_task(1, uid=_NOBODY)
        world.console.print("  training   a container on GPU 0, its process is its own")
        world.console.print(f"  pid {self._orphan.pid}  on GPU 1, of no container and no user")

    def measure(self, world: World, timeline: Timeline) -> None:
        """Tell what the exporter calls an orphan."""
        for sample in world.prometheus.query("ds01_gpu_orphan_process == 1"):
            pid = sample.labels["pid"]
            timeline.tell(f"orphan {pid}", "metric crossed", f"pid {pid} looks like an orphan")

    def judge(self, world: World) -> str | None:
        """Exactly the orphan must be gone."""
        del world
        if self._orphan is None or self._training is None:
            return "it was never begun"
        ended = self._orphan.poll()
        if ended not in {-signal.SIGTERM, 128 + signal.SIGTERM}:
            return f"the orphan's exit status is {ended}"
        self._training.reload()
        return None if self._training.status == "running" else "training does not run"
