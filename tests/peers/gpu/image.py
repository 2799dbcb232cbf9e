"""Containers that use simulated GPUs, and the image that they are made of."""

import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

from docker import DockerClient
from docker.errors import ImageNotFound
from docker.models.containers import Container

from tests.peers.dockerd import busybox_image
from tests.peers.gpu import build
from tests.peers.gpu.host import GpuHost


def build_gpu_image(client: DockerClient) -> str:
    """Return the tag of an image with busybox and gpu-task; it is made once per engine."""
    program = build.task().read_bytes()
    tag = f"gpu-task:{hashlib.sha256(program).hexdigest()[:12]}"
    try:
        client.images.get(tag)
    except ImageNotFound:
        dockerfile = f'FROM {busybox_image(client)}\nCOPY gpu-task /bin/\nCMD ["gpu-task"]\n'
        context = _archive({"Dockerfile": dockerfile.encode(), "gpu-task": program})
        client.images.build(fileobj=context, custom_context=True, tag=tag, rm=True)
    return tag


def run_gpu_container(
    client: DockerClient,
    host: GpuHost,
    name: str,
    *,
    gpus: Sequence[int | str] = (0,),
    task: str = "idle",
    util: int = 0,
    labels: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    **more: Any,
) -> Container:
    """Start a container that uses *gpus* of *host* and return it, running.

    A GPU is an index, or the UUID of a MIG instance. `util` is how busy the GPU is while the
    container lives, `task` a mode of gpu-task.c; `more` goes to `containers.run`. The GPUs are
    given as devices and NVIDIA_VISIBLE_DEVICES, since `--gpus` needs NVIDIA's own runtime.
    """
    options: dict[str, Any] = {
        "command": ["gpu-task", task],
        "network_mode": "none",
        "stop_signal": "SIGTERM",
        "devices": device_options(host, gpus),
        "labels": dict(labels or {}),
        "environment": {
            "NVIDIA_VISIBLE_DEVICES": ",".join(_uuid(host, gpu) for gpu in gpus),
            "GPU_TASK_UTIL": str(util),
            **(environment or {}),
        },
        **more,
    }
    container = client.containers.run(build_gpu_image(client), detach=True, name=name, **options)
    container.reload()  # what `run` returns is from before the start
    return container


def device_options(host: GpuHost, gpus: Sequence[int | str]) -> list[str]:
    """Return Docker's `--device` values for *gpus*, each node once."""
    indexes = dict.fromkeys(_index(host, gpu) for gpu in gpus)
    return [f"{host.device(index)}:/dev/nvidia{host.get(index, 'minor')}:rwm" for index in indexes]


def _index(host: GpuHost, gpu: int | str) -> int:
    if isinstance(gpu, int):
        return gpu
    for index, known in enumerate(host.read().gpus):
        if gpu in {known.values["uuid"], *(mig.uuid for mig in known.migs)}:
            return index
    raise ValueError(f"{gpu} is no GPU or MIG instance of this host")


def _uuid(host: GpuHost, gpu: int | str) -> str:
    return host.uuid(gpu) if isinstance(gpu, int) else gpu


def _archive(files: Mapping[str, bytes]) -> io.BytesIO:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
    archive.seek(0)
    return archive
