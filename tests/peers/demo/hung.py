"""The DCGM exporter hangs: its process is there, and answers nobody."""

from collections.abc import Mapping
from typing import Any

from tests.peers.dcgm_host import UNIT, DcgmUnit, answers
from tests.peers.demo.scenario import World
from tests.peers.demo.timeline import Timeline
from tests.peers.site import Site

_BEFORE_AND_AFTER = 2


class Hung:
    """The exporter is restarted without force, and its values are fresh again."""

    name = "hung"
    title = "The DCGM exporter hangs"
    alerts = ("DS01DCGMExporterDown", "DS01DCGMStale")
    gpus = 1
    last_words = "acted by mail to admins"
    verdict = "The exporter was restarted once, by SIGTERM alone, and measures again."

    def __init__(self) -> None:
        self._exporter: DcgmUnit | None = None

    def rules(self) -> list[Mapping[str, Any]]:
        """Return the rule about the exporter."""
        return [
            {
                "name": "DCGM exporter",
                "match": ['alertname=~"DS01DCGMExporterDown|DS01DCGMStale"'],
                "do": [
                    {
                        "restart-dcgm": None,
                        "attempts": ["2 per 6h"],
                        "timeout": "2m",
                        "verify": {"within": "60s"},
                    }
                ],
                "tell": ["admins"],
            }
        ]

    def prepare(self, site: Site) -> None:
        """Boot a systemd with the exporter as a unit."""
        systemd = site.stage.systemd_host(site.engine)
        self._exporter = DcgmUnit(site.engine, systemd, [site.gpus.uuid(0)])
        self._exporter.install()
        site.scrape = {"dcgm-exporter": [self._exporter.address]}
        site.more_settings = {
            "gpu_metrics": False,
            "dbus_address": systemd.bus_address,
            "dcgm_unit": UNIT,
            "dcgm_url": f"http://{self._exporter.address}/metrics",
        }

    def begin(self, world: World) -> None:
        """Hang it."""
        if self._exporter is not None:
            self._exporter.kill("STOP")
        world.console.print(f"  {UNIT} is stopped in its tracks: active to systemd, and silent")

    def measure(self, world: World, timeline: Timeline) -> None:
        """Tell that Prometheus gets no answer."""
        for sample in world.prometheus.query('up{job="dcgm-exporter"} == 0'):
            text = f"{sample.labels['instance']} does not answer Prometheus"
            timeline.tell("down", "metric crossed", text)

    def judge(self, world: World) -> str | None:
        """It was started twice in all, and answers."""
        del world
        if self._exporter is None or self._exporter.starts() != _BEFORE_AND_AFTER:
            return "it was not restarted exactly once"
        return None if answers(self._exporter.address) else "it does not answer"
