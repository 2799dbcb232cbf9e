"""D-Bus goes away while systemd restarts a unit that Remediator asked it to."""

import itertools
from typing import Any

import yaml

from tests.chaos.world import World
from tests.eventually import eventually
from tests.peers.dcgm_host import UNIT, DcgmUnit
from tests.peers.gpu.host import GpuHost
from tests.peers.site import ROOT, Site
from tests.peers.stage import Stage
from tests.peers.systemd_host import SystemdHost

_OF_IT = "FROM attempt WHERE remediation = 'restart-dcgm' AND state <> 'refused'"
_SETTLED = f"SELECT state {_OF_IT} AND ended_at NOT NULL"
_ATTEMPTS = f"SELECT count(*) {_OF_IT}"


class BusRestarted:
    """A second site, with a booted systemd, the shipped policy and an exporter that hangs."""

    name = "D-Bus killed amid a unit's restart"
    idle = 1
    task = "idle"

    def __init__(self) -> None:
        self._strikes = itertools.count(1)

    def strike(self, world: World) -> None:
        """Kill the bus while the unit stops: it has to be restarted, and only once."""
        # Of its own each time: what an earlier journal tells holds the next restart back.
        folder = world.stage.folder / f"bus-{next(self._strikes)}"
        with Stage(folder) as stage, GpuHost(1) as gpus:
            host = stage.systemd_host(world.engine)
            exporter = DcgmUnit(world.engine, host, [gpus.uuid(0)])
            exporter.install(options="ExecStop=/bin/sleep 2")
            site = self._site(world, stage, gpus, host, exporter)
            site.start()
            exporter.kill("STOP")
            eventually(lambda: exporter.is_("deactivating"), 90, "systemd stops the exporter")
            host.systemctl("kill", "--signal=KILL", "dbus.service")
            eventually(lambda: site.ask(_SETTLED) is not None, 120, "the attempt is settled")
            found = (site.ask(_SETTLED), site.ask(_ATTEMPTS), exporter.starts())
            if found != ("succeeded", 1, 2):
                raise AssertionError(f"outcome, attempts and starts of the unit are {found}")

    def _site(
        self, world: World, stage: Stage, gpus: GpuHost, host: SystemdHost, exporter: DcgmUnit
    ) -> Site:
        policy: dict[str, Any] = yaml.safe_load(
            (ROOT / "compose" / "policy.example.yaml").read_text()
        )
        settings = {
            "gpu_metrics": False,
            "dbus_address": host.bus_address,
            "dcgm_unit": UNIT,
            "dcgm_url": f"http://{exporter.address}/metrics",
        }
        return Site(
            stage,
            world.engine,
            gpus,
            policy={**policy, "mode": "act"},
            waits="1s",
            scrape={"dcgm-exporter": [exporter.address]},
            more_settings=settings,
        )
