"""What a scenario of the demo is: a trouble on a machine, and what must have become of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rich.console import Console

from tests.peers.demo.timeline import Timeline
from tests.peers.gpu.host import GpuHost
from tests.peers.prometheus import Prometheus
from tests.peers.site import Site
from tests.peers.stage import Stage


@dataclass(frozen=True, slots=True)
class World:
    """The machine that a scenario is played on; everything of it runs when `begin` is called."""

    console: Console
    stage: Stage
    gpus: GpuHost
    site: Site
    prometheus: Prometheus


class Scenario(Protocol):
    """One trouble, from its cause to the proof that it is over.

    ``alerts`` are the alerting rules that speak of it, ``gpus`` how many GPUs it needs, and
    ``last_words`` how the notice to the administrators begins with which it is over.
    """

    name: str
    title: str
    alerts: Sequence[str]
    gpus: int
    last_words: str

    def rules(self) -> list[Mapping[str, Any]]:
        """Return the rules of the policy."""
        ...

    def prepare(self, site: Site) -> None:
        """Set up what has to be there before the programs start."""
        ...

    def begin(self, world: World) -> None:
        """Bring the trouble about, and say what it is."""
        ...

    def measure(self, world: World, timeline: Timeline) -> None:
        """Tell what Prometheus sees of it by now."""
        ...

    def judge(self, world: World) -> str | None:
        """Return what is not as it should be, None if all is well."""
        ...

    @property
    def verdict(self) -> str:
        """Return the sentence that says that all is well."""
        ...
