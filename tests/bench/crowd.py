"""Many containers of many users on a real engine."""

import itertools
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from docker import DockerClient

from tests.peers.dockerd import busybox_image
from tests.peers.gpu.host import GpuHost
from tests.peers.gpu.image import device_options

_THREADS = 4


class Crowd:
    """Containers that idle, spread over the users and over the GPUs of *host*."""

    def __init__(
        self,
        client: DockerClient,
        host: GpuHost,
        users: int = 50,
        command: Sequence[str] = ("sleep", "1000000"),
    ) -> None:
        self._api = client.api
        self._command = list(command)
        self._image = busybox_image(client)
        self._users = users
        gpus = range(len(host.read().gpus))
        self._gpus = [(host.uuid(gpu), device_options(host, [gpu])) for gpu in gpus]
        self._numbers = itertools.count()
        self.ids: list[str] = []

    def start(self, count: int) -> list[str]:
        """Start *count* more and return their ids."""
        with ThreadPoolExecutor(_THREADS) as threads:
            started = list(threads.map(lambda _: self.start_one(), range(count)))
        self.ids += started
        return started

    def start_one(self) -> str:
        """Start one that is not counted among `ids`, and return its id."""
        number = next(self._numbers)
        gpu, devices = self._gpus[number % len(self._gpus)]
        container = self._api.create_container(
            self._image,
            self._command,
            name=f"crowd-{number}",
            labels={"ds01.user": f"user{number % self._users}"},
            environment={"NVIDIA_VISIBLE_DEVICES": gpu},
            host_config=self._api.create_host_config(network_mode="none", devices=devices),
        )
        self._api.start(container["Id"])
        return str(container["Id"])

    def remove(self, ids: Iterable[str]) -> None:
        """Remove containers, running as they are."""
        gone = list(ids)
        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(lambda one: self._api.remove_container(one, force=True), gone))
        self.ids = [one for one in self.ids if one not in gone]

    def pass_through(self, count: int) -> None:
        """Start and remove *count* containers, a few at a time."""

        def live_and_die(_: int) -> None:
            self._api.remove_container(self.start_one(), force=True)

        with ThreadPoolExecutor(_THREADS) as threads:
            list(threads.map(live_and_die, range(count)))


def grow_to(crowd: Crowd, count: int) -> Sequence[str]:
    """Start as many as are missing to *count*; return all."""
    crowd.start(max(count - len(crowd.ids), 0))
    return crowd.ids
