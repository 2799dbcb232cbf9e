"""Three containers hold a GPU each: one works, one lies idle, and one is idle but exempt."""

from collections.abc import Mapping, Sequence
from typing import Any

from docker.models.containers import Container

from tests.peers.demo.scenario import World
from tests.peers.demo.timeline import Timeline
from tests.peers.gpu.image import run_gpu_container
from tests.peers.site import POLICY, Site

_PROTECTED = {"ds01.user": "carol", "ds01.protected": "true"}
_CONTAINERS: Sequence[tuple[str, str, int, dict[str, str], str]] = (
    ("training", "busy", 80, {"ds01.user": "bob"}, "bob's, GPU 0 at 80 %: busy"),
    ("notebook", "idle", 0, {"ds01.user": "alice"}, "alice's, GPU 1 at 0 %: forgotten"),
    ("inference", "idle", 0, _PROTECTED, "carol's, GPU 2 at 0 %: idle, but protected"),
)


class Idle:
    """A forgotten container is warned about, stopped and removed; the others are not touched."""

    name = "idle"
    title = "A container is forgotten, and holds a GPU"
    alerts = ("DS01ContainerIdle", "DS01ContainerIdleSoon", "DS01ContainerIdleFinal")
    gpus = 3
    last_words = "acted by mail to admins"
    verdict = "The idle container is gone; the busy and the exempt one run untouched."

    def __init__(self) -> None:
        self._started: dict[str, str] = {}

    def rules(self) -> list[Mapping[str, Any]]:
        """Return the rules about idle containers."""
        return list(POLICY["rules"])

    def prepare(self, site: Site) -> None:
        """Nothing has to be there before."""

    def begin(self, world: World) -> None:
        """Start the containers."""
        for gpu, (name, task, util, labels, about) in enumerate(_CONTAINERS):
            container = run_gpu_container(
                world.site.docker,
                world.gpus,
                name,
                gpus=(gpu,),
                task=task,
                util=util,
                labels=labels,
            )
            self._started[name] = _started_at(container)
            world.console.print(f"  {name:<10} {about}")
        limit = _limit_seconds(world.site)
        world.console.print(f"\nThe idle limit is {limit:.0f} s here (30 min at a real site).")

    def measure(self, world: World, timeline: Timeline) -> None:
        """Tell whose clock runs, and who is over the limit."""
        limit = _limit_seconds(world.site)
        names = {
            sample.labels["container_id"]: sample.labels["container"]
            for sample in world.prometheus.query("ds01_container_info")
        }
        for sample in world.prometheus.query("ds01:container_idle_seconds"):
            name = names.get(sample.labels["container_id"], "?")
            if sample.value > 0:
                text = f"{name}: GPU, CPU and network are all below their thresholds"
                timeline.tell(f"quiet {name}", "metric crossed", text)
            if sample.value > limit:
                text = f"{name}: idle for {sample.value:.0f} s, limit {limit:.0f} s"
                timeline.tell(f"limit {name}", "limit crossed", text)

    def judge(self, world: World) -> str | None:
        """Exactly the idle container must be gone."""
        left = world.site.docker.containers.list(all=True)
        found = {c.name: _started_at(c) for c in left if c.status == "running"}
        wanted = {name: at for name, at in self._started.items() if name != "notebook"}
        if found == wanted and len(left) == len(wanted):
            return None
        states = ", ".join(f"{c.name} {c.status}" for c in left) or "none"
        return f"containers left: {states}"


def _limit_seconds(site: Site) -> float:
    return float(site.limits["container_types"]["docker"]["idle_timeout_h"]) * 3600


def _started_at(container: Container) -> str:
    return str(container.attrs["State"]["StartedAt"])
