from typing import Any

import pytest

from remediator.core.gpu_claims import GpuClaims, claims_of, resolve, unresolved
from remediator.core.gpus import GpuSlot, SlotReading

A = "GPU-aaaaaaaa-0000-0000-0000-000000000000"
B = "GPU-bbbbbbbb-0000-0000-0000-000000000000"
MIG = "MIG-cccccccc-0000-0000-0000-000000000000"
OTHER_MIG = "MIG-dddddddd-0000-0000-0000-000000000000"

WHOLE = GpuSlot(gpu=0, slot="0", uuid=A, parent_uuid=A, minor=7)
FIRST = GpuSlot(1, "1.0", MIG, B, "1g.10gb", 1 / 7, 3, 0, mig_enabled=True, minor=1)
SECOND = GpuSlot(1, "1.1", OTHER_MIG, B, "2g.20gb", 2 / 7, 5, 0, mig_enabled=True, minor=1)
SLOTS = (WHOLE, FIRST, SECOND)


def an_inspect(
    *requests: dict[str, Any],
    env: tuple[str, ...] = (),
    devices: tuple[dict[str, str], ...] = (),
    labels: dict[str, str] | None = None,
    runtime: str = "runc",
) -> dict[str, Any]:
    return {
        "HostConfig": {
            "DeviceRequests": list(requests) or None,
            "Devices": list(devices) or None,
            "Runtime": runtime,
        },
        "Config": {"Env": list(env) or None, "Labels": labels},
    }


def a_request(count: int = 0, *ids: str, driver: str = "", **more: Any) -> dict[str, Any]:
    request = {"Driver": driver, "Count": count, "DeviceIDs": list(ids) or None}
    return {**request, "Capabilities": [["gpu"]], **more}


@pytest.mark.parametrize(
    ("inspect", "expected"),
    [
        pytest.param({}, GpuClaims(), id="nothing at all"),
        pytest.param(an_inspect(a_request(-1)), GpuClaims(all=True), id="--gpus all"),
        pytest.param(an_inspect(a_request(2)), GpuClaims(count=2), id="--gpus 2"),
        pytest.param(an_inspect(a_request(0, "0", A)), GpuClaims(ids=("0", A)), id="ids"),
        pytest.param(an_inspect(a_request(0, "1:0")), GpuClaims(ids=("1:0",)), id="a MIG position"),
        pytest.param(
            an_inspect(a_request(0, "nvidia.com/gpu=0", driver="cdi", Capabilities=None)),
            GpuClaims(ids=("0",)),
            id="CDI, which has no capabilities",
        ),
        pytest.param(
            an_inspect(a_request(0, "nvidia.com/gpu=all", driver="cdi", Capabilities=None)),
            GpuClaims(all=True),
            id="all by CDI",
        ),
        pytest.param(
            an_inspect(a_request(0, "vendor.com/net=0", driver="cdi", Capabilities=None)),
            GpuClaims(),
            id="another vendor's CDI device",
        ),
        pytest.param(
            an_inspect(a_request(1, Capabilities=[["tpu"]])), GpuClaims(), id="no GPU capability"
        ),
        pytest.param(
            an_inspect(env=(f"NVIDIA_VISIBLE_DEVICES={A},{MIG}",)),
            GpuClaims(ids=(A, MIG)),
            id="the environment",
        ),
        pytest.param(
            an_inspect(env=("NVIDIA_VISIBLE_DEVICES=all",)), GpuClaims(all=True), id="all by env"
        ),
        *(
            pytest.param(
                an_inspect(env=(f"NVIDIA_VISIBLE_DEVICES={word}",)), GpuClaims(), id=f"env {word!r}"
            )
            for word in ("", "none", "void", "NONE")
        ),
        pytest.param(
            an_inspect(env=("NVIDIA_VISIBLE_DEVICES=0", "NVIDIA_VISIBLE_DEVICES=1")),
            GpuClaims(ids=("1",)),
            id="the last of two variables",
        ),
        pytest.param(
            an_inspect(
                devices=({"PathOnHost": "/dev/nvidia3", "PathInContainer": "/dev/nvidia0"},)
            ),
            GpuClaims(ids=("/dev/nvidia3",)),
            id="a node under another number",
        ),
        pytest.param(
            an_inspect(devices=({"PathOnHost": "/x/node", "PathInContainer": "/dev/nvidia0"},)),
            GpuClaims(ids=("/dev/nvidia0",)),
            id="a node from elsewhere",
        ),
        pytest.param(
            an_inspect(devices=({"PathOnHost": "/dev/nvidiactl"}, {"PathOnHost": "/dev/fuse"})),
            GpuClaims(),
            id="nodes that are no GPU",
        ),
        pytest.param(
            an_inspect(labels={"ds01.gpu.uuids": f"{A}, {B}", "ds01.gpu.uuid": A}),
            GpuClaims(ids=(A, B)),
            id="DS01's UUIDs",
        ),
        pytest.param(
            an_inspect(labels={"ds01.gpu.slots": "0:0,1.1", "ds01.gpu_slot": "2"}),
            GpuClaims(ids=("0:0", "1:1", "2")),
            id="DS01's slots",
        ),
        pytest.param(
            an_inspect(labels={"ds01.gpu.allocated": "2026-02-16T15:30:00Z"}),
            GpuClaims(count=1),
            id="allocated, nobody knows which",
        ),
        pytest.param(
            an_inspect(labels={"ds01.gpu.uuid": 'x"; rm -rf /'}), GpuClaims(), id="a hostile label"
        ),
        pytest.param(
            an_inspect(
                a_request(0, "0"),
                env=("NVIDIA_VISIBLE_DEVICES=1",),
                devices=({"PathOnHost": "/dev/nvidia2"},),
                labels={"ds01.gpu.uuid": A},
            ),
            GpuClaims(ids=("0", "1", "/dev/nvidia2", A)),
            id="the union of all four",
        ),
    ],
)
def test_claims(inspect: dict[str, Any], expected: GpuClaims) -> None:
    assert claims_of(inspect) == expected


IMAGES = ("NVIDIA_VISIBLE_DEVICES=all", "PATH=/bin")


@pytest.mark.parametrize(
    ("inspect", "image_env", "expected"),
    [
        pytest.param(an_inspect(env=IMAGES), IMAGES, GpuClaims(), id="has no effect under runc"),
        pytest.param(
            an_inspect(env=IMAGES, runtime="nvidia"),
            IMAGES,
            GpuClaims(all=True),
            id="gives all under NVIDIA's runtime",
        ),
        pytest.param(
            an_inspect(a_request(0, "0"), env=IMAGES, runtime="nvidia"),
            IMAGES,
            GpuClaims(ids=("0",)),
            id="is overridden by --gpus",
        ),
        pytest.param(
            an_inspect(env=IMAGES), None, GpuClaims(), id="may be the image's if that is gone"
        ),
        pytest.param(
            an_inspect(env=("NVIDIA_VISIBLE_DEVICES=0",)),
            IMAGES,
            GpuClaims(ids=("0",)),
            id="was changed by whoever ran it",
        ),
    ],
)
def test_a_value_of_the_image(
    inspect: dict[str, Any], image_env: tuple[str, ...] | None, expected: GpuClaims
) -> None:
    assert claims_of(inspect, image_env) == expected


@pytest.mark.parametrize(
    ("claims", "access", "known"),
    [
        pytest.param(GpuClaims(), "none", True, id="none"),
        pytest.param(GpuClaims(all=True), "all", True, id="all"),
        pytest.param(GpuClaims(count=2), "count", False, id="a mere count"),
        pytest.param(GpuClaims(ids=("0",)), "specific", True, id="named"),
    ],
)
def test_kinds_of_access(claims: GpuClaims, access: str, known: bool) -> None:
    assert (claims.access_type, claims.is_known) == (access, known)
    assert claims.is_gpu == (access != "none")


@pytest.mark.parametrize(
    ("claims", "slots"),
    [
        pytest.param(GpuClaims(), (), id="nothing"),
        pytest.param(GpuClaims(all=True), SLOTS, id="all"),
        pytest.param(GpuClaims(count=1), (), id="a mere count names none"),
        pytest.param(GpuClaims(ids=("0",)), (WHOLE,), id="an index"),
        pytest.param(GpuClaims(ids=(A,)), (WHOLE,), id="a GPU's UUID"),
        pytest.param(GpuClaims(ids=("/dev/nvidia7",)), (WHOLE,), id="a node, by minor number"),
        pytest.param(GpuClaims(ids=("/dev/nvidia0",)), (), id="a node is no index"),
        pytest.param(GpuClaims(ids=(MIG,)), (FIRST,), id="a MIG device's UUID"),
        pytest.param(GpuClaims(ids=("1:1",)), (SECOND,), id="a MIG position"),
        pytest.param(GpuClaims(ids=(f"MIG-{B}/5/0",)), (SECOND,), id="the old MIG form"),
        pytest.param(GpuClaims(ids=("1",)), (FIRST, SECOND), id="a GPU that is cut up"),
        pytest.param(
            GpuClaims(ids=(MIG, "/dev/nvidia1")), (FIRST,), id="a MIG device with its GPU's node"
        ),
        pytest.param(GpuClaims(ids=("9", "GPU-gone")), (), id="what is not there"),
    ],
)
def test_claims_resolve_to_slots(claims: GpuClaims, slots: tuple[GpuSlot, ...]) -> None:
    assert resolve(claims, SLOTS) == slots


def test_an_id_that_names_no_gpu_of_the_host_is_told() -> None:
    claims = GpuClaims(ids=("0", MIG, "GPU-gone", "9"))

    assert unresolved(claims, SLOTS) == ("GPU-gone", "9")


@pytest.mark.parametrize(
    ("used", "total", "reserved", "free"),
    [(10, 80, 5, 65), (10, 80, None, 70), (79, 80, 5, 0), (None, 80, 0, None), (10, None, 0, None)],
)
def test_memory_is_free_that_nobody_uses_and_the_driver_does_not_keep(
    used: int | None, total: int | None, reserved: int | None, free: int | None
) -> None:
    reading = SlotReading(WHOLE, 0, used, total, (), memory_reserved_bytes=reserved)

    assert reading.memory_free_bytes == free
