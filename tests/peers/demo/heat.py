"""A GPU gets too hot; with less power it cools down."""

from collections.abc import Mapping
from typing import Any

from tests.peers.demo.scenario import World
from tests.peers.demo.timeline import Timeline
from tests.peers.gpu.host import GpuHost
from tests.peers.gpu.image import run_gpu_container
from tests.peers.site import Site

_HOT, _COOL = 93, 61


class Heat:
    """The power limit is lowered, the GPU cools down, and the limit is put back."""

    name = "overheating"
    title = "A GPU gets too hot"
    alerts = ("DS01GPUHighTemperature", "DS01GPUCriticalTemperature")
    gpus = 1
    last_words = "restored by mail to admins"
    verdict = "The GPU has cooled down, and its power limit is what it was; the work goes on."

    def __init__(self) -> None:
        self._before = ""
        self._lowest = 0

    def rules(self) -> list[Mapping[str, Any]]:
        """Return the rule about heat."""
        return [
            {
                "name": "hot GPU",
                "match": ['alertname=~"DS01GPUHighTemperature|DS01GPUCriticalTemperature"'],
                "do": [
                    {
                        "cap-power": {"limit": "70%"},
                        "attempts": ["3 per 24h"],
                        "verify": {"within": "15s"},
                    },
                    {"notify-only": None},
                ],
                "tell": ["admins"],
            }
        ]

    def prepare(self, site: Site) -> None:
        """Remember the limit before."""
        self._before = site.gpus.get(0, "power_limit_mw")

    def begin(self, world: World) -> None:
        """Start a job, and heat its GPU."""
        run_gpu_container(
            world.site.docker, world.gpus, "training", gpus=(0,), task="busy", util=95
        )
        world.gpus.set(0, temp=_HOT)
        watts = int(self._before) // 1000
        world.console.print(f"  training   works at 95 %, its GPU is at {_HOT} °C and {watts} W")

    def measure(self, world: World, timeline: Timeline) -> None:
        """Tell the temperature, and let physics do what less power does."""
        for sample in world.prometheus.query("ds01:gpu_temperature_celsius > 85"):
            timeline.tell("hot", "metric crossed", f"the GPU is at {sample.value:.0f} °C")
        limit = _limit(world.gpus)
        if limit < int(self._before):
            self._lowest = limit
            world.gpus.set(0, temp=_COOL)
            text = f"with {limit / 1000:.0f} W the GPU cools down to {_COOL} °C"
            timeline.tell("cool", "physics", text)

    def judge(self, world: World) -> str | None:
        """It was lowered, and is back; the job runs."""
        if not self._lowest:
            return "the power limit was never lowered"
        if str(_limit(world.gpus)) != self._before:
            return f"the power limit is {_limit(world.gpus)} mW, it was {self._before} mW"
        (training,) = world.site.docker.containers.list(all=True)
        return None if training.status == "running" else f"training is {training.status}"


def _limit(gpus: GpuHost) -> int:
    return int(gpus.get(0, "power_limit_mw"))
