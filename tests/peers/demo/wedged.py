"""A GPU is wedged, and its services hold it: it works again only after a reset."""

import contextlib
from collections.abc import Mapping
from typing import Any

from remediator.errors import JournalError
from tests.eventually import eventually
from tests.peers.demo.scenario import World
from tests.peers.demo.timeline import Timeline
from tests.peers.gpu_services import CONFIGURED, EXPORTER, RUNNING, GpuUnits
from tests.peers.site import Site

# No real device has this number: who holds /dev/nvidiaN is looked for in the whole of /proc.
_MINOR = 945
_WAITING = "SELECT incident FROM approval WHERE answer = 'waiting'"


class Wedged:
    """With an administrator's approval the GPU is reset, its services out of the way meanwhile."""

    name = "wedged"
    title = "A GPU is wedged: its driver wants it reset"
    alerts = ("DS01GPUNeedsReset",)
    gpus = 0
    last_words = "acted by mail to admins"
    verdict = "The GPU was reset once and is well; exactly the services that ran before run again."

    def __init__(self) -> None:
        self._units: GpuUnits | None = None

    def rules(self) -> list[Mapping[str, Any]]:
        """Return the rule about resets."""
        return [
            {
                "name": "wedged GPU",
                "match": ['alertname="DS01GPUNeedsReset"'],
                "mode": "approve",
                "do": [
                    {
                        "reset-gpu": None,
                        "attempts": ["1 per 24h"],
                        "timeout": "60s",
                        "verify": {"within": "15s"},
                    }
                ],
                "tell": ["admins"],
            }
        ]

    def prepare(self, site: Site) -> None:
        """Boot a systemd with the services around a GPU, which hold it."""
        systemd = site.stage.systemd_host(site.engine)
        site.gpus.add_gpu(minor=_MINOR)
        self._units = GpuUnits(systemd, _MINOR)
        self._units.install()
        self._units.start()
        site.more_settings = {
            "dbus_address": systemd.bus_address,
            "gpu_services": list(CONFIGURED),
            "dcgm_unit": EXPORTER,
        }

    def begin(self, world: World) -> None:
        """Wedge the GPU."""
        eventually(lambda: len(world.gpus.holders(0)) >= len(RUNNING) - 1, 15, "services hold it")
        world.gpus.set(0, recovery_action=1, reset_required=1)
        for name in sorted(RUNNING):
            world.console.print(f"  {name} runs")
        holders = len(world.gpus.holders(0))
        world.console.print(f"  GPU 0 is wedged, and held by {holders} services and exporters")

    def measure(self, world: World, timeline: Timeline) -> None:
        """Tell what the driver advises, and be the administrator who approves."""
        for sample in world.prometheus.query("ds01_gpu_recovery_action > 0"):
            text = f"the driver advises recovery action {sample.value:.0f}: reset the GPU"
            timeline.tell("advice", "metric crossed", text)
        with contextlib.suppress(JournalError):
            incident = world.site.ask(_WAITING)
            if incident is not None:
                timeline.tell("approve", "$", f"remediator approve {incident}")
                world.site.run("approve", str(incident))

    def judge(self, world: World) -> str | None:
        """One reset, and the same services as before."""
        resets = world.gpus.get(0, "reset_count")
        running = self._units.running() if self._units else frozenset()
        if resets != "1":
            return f"there were {resets} resets"
        if running != RUNNING:
            return f"running are {', '.join(sorted(running))}"
        return None
