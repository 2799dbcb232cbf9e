"""What Prometheus tells of GPUs and their containers, as samples."""

from collections.abc import Mapping

HOUR = 3600.0
Told = tuple[Mapping[str, str], float]


def a_gpu(
    slot: str,
    busy: float | None = 0.0,
    *,
    heat: float = 40,
    used: float = 1024,
    free: float = 80 * 1024,
    instance: str = "gpu1:9101",
) -> list[Told]:
    """Return a whole GPU."""
    uuid = uuid_of(slot)
    labels = {"instance": instance, "gpu": slot, "slot": slot, "gpu_uuid": uuid}
    dcgm = {"instance": "gpu1:9400", "UUID": uuid, "gpu": slot}
    told = [
        _told("ds01_gpu_slot_info", 1, **labels, mig_enabled="false"),
        _told("DCGM_FI_DEV_GPU_TEMP", heat, **dcgm),
        _told("DCGM_FI_DEV_FB_USED", used, **dcgm),
        _told("DCGM_FI_DEV_FB_FREE", free - used, **dcgm),
    ]
    if busy is not None:
        told.append(_told("ds01:slot_utilization_percent", busy, UUID=uuid))
    return told


def a_mig_gpu(index: str, *instances: str, instance: str = "gpu1:9101") -> list[Told]:
    """Return a GPU whose MIG mode is on, with devices."""
    uuid = uuid_of(index)
    labels = {"instance": instance, "gpu": index}
    return [
        _told("ds01_gpu_slot_info", 1, **labels, slot=index, gpu_uuid=uuid, mig_enabled="true"),
        *(
            _told("ds01_mig_slot_info", 1, **labels, gpu_i_id=i, slot=f"{index}.{n}", mig_uuid=i)
            for n, i in enumerate(instances)
        ),
    ]


def a_container(
    name: str,
    owner: str,
    slot: str,
    *,
    idle: float | None = 0.0,
    limit: float | None = HOUR / 2,
    kept_until: float | None = None,
    exempt: str = "",
    running: bool = True,
    gpu_instance: str = "",
) -> list[Told]:
    """Return a container on a GPU; *idle* is its clock in seconds."""
    identity = {"instance": "gpu1:9101", "container_id": id_of(name)}
    gpu = {"UUID": uuid_of(slot.partition(".")[0]), "gpu_slot": slot, "GPU_I_ID": gpu_instance}
    told = [
        _told("ds01_container_info", 1, **identity, container=name, user=owner, exempt=exempt),
        _told("ds01_container_gpu", 1, **identity, **{k: v for k, v in gpu.items() if v}),
        _told("ds01_container_running", int(running), **identity),
    ]
    for metric, value in (
        ("ds01:container_idle_seconds", idle),
        ("ds01:container_idle_limit_seconds", limit),
        ("ds01_container_keep_alive_until_seconds", kept_until),
    ):
        if value is not None:
            told.append(_told(metric, value, **identity))
    return told


def id_of(name: str) -> str:
    """Return the full id of a container by its name."""
    return name.encode().hex().ljust(64, "0")[:64]


def uuid_of(gpu: str) -> str:
    """Return the UUID of a GPU by its index."""
    return f"GPU-{gpu * 8:.8}-1111-2222-3333-444444444444"


def _told(name: str, value: float, **labels: str) -> Told:
    return {"__name__": name, **labels}, value
