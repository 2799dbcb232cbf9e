"""What the exporter says of users, groups and containers outside DS01."""

import dataclasses

import pytest
from prometheus_client.metrics_core import Metric

from remediator.core.gpu_claims import GpuClaims
from remediator.core.limits import LimitsBook
from remediator.core.ownership import Owner
from remediator.errors import SourceError
from remediator.exporter.containers import collect_containers, collect_slots
from remediator.exporter.inventory import Tracked
from remediator.exporter.unmanaged import collect_unmanaged, is_managed
from remediator.exporter.users import collect_groups, collect_users
from tests.unit.gpu_views import (
    SECOND_SLICE,
    Collect,
    a_container,
    a_process,
    a_sample,
    a_view,
    rows,
)

MONITORING = {"ds01.monitoring": "true"}
EVERYTHING = GpuClaims(all=True)


def of(user: str, container: Tracked) -> Tracked:
    return dataclasses.replace(container, owner=Owner(user, "label"))


def by_user(metrics: list[Metric], name: str) -> dict[str, float]:
    return {labels["user"]: value for labels, value in rows(metrics, name)}


def users(*containers: Tracked, **view: object) -> list[Metric]:
    return list(collect_users(a_view(*containers, **view)))  # type: ignore[arg-type]


def test_a_user_holds_the_slots_of_all_running_containers() -> None:
    metrics = users(
        of("alice", a_container("a", gpus=("0",))),
        of("alice", a_container("b", gpus=("MIG-x",))),
        of("bob", a_container("c", gpus=("MIG-y",))),
    )

    assert by_user(metrics, "ds01_user_gpus_allocated") == {"alice": 2, "bob": 1}
    assert by_user(metrics, "ds01_user_containers_count") == {"alice": 2, "bob": 1}
    for name in ("ds01_user_gpu_equivalents", "ds01_user_mig_allocated"):
        assert by_user(metrics, name) == pytest.approx({"alice": 1 + 1 / 7, "bob": 2 / 7})


def test_a_slot_shared_by_two_containers_of_a_user_counts_once() -> None:
    metrics = users(a_container("a"), a_container("b"))

    assert by_user(metrics, "ds01_user_gpus_allocated") == {"alice": 1}
    assert by_user(metrics, "ds01_user_gpu_equivalents") == {"alice": 1}
    assert by_user(metrics, "ds01_user_containers_count") == {"alice": 2}


def test_a_slot_shared_by_two_users_is_held_by_both() -> None:
    metrics = users(of("alice", a_container("a")), of("bob", a_container("b")))

    assert by_user(metrics, "ds01_user_gpus_allocated") == {"alice": 1, "bob": 1}


def test_gpus_that_docker_chose_count_though_nobody_knows_which() -> None:
    unseen = a_container("a", claims=GpuClaims(count=2))
    seen = of("bob", a_container("b", claims=GpuClaims(count=1)))
    sample = a_sample(a_process("b" * 64, SECOND_SLICE))

    metrics = users(unseen, seen, gpus=sample)

    assert by_user(metrics, "ds01_user_gpus_allocated") == {"alice": 2, "bob": 1}
    assert by_user(metrics, "ds01_user_gpu_equivalents") == {"alice": 2, "bob": 2 / 7}


@pytest.mark.parametrize(
    "container",
    [
        pytest.param(a_container(state="exited", pid=0), id="stopped"),
        pytest.param(a_container(labels=MONITORING), id="infrastructure"),
        pytest.param(a_container(claims=GpuClaims()), id="without a GPU"),
    ],
)
def test_who_holds_nothing_is_not_there(container: Tracked) -> None:
    metrics = users(container)

    assert by_user(metrics, "ds01_user_gpus_allocated") == {}
    assert by_user(metrics, "ds01_user_containers_count") == {}


@pytest.mark.parametrize("collect", [collect_users, collect_unmanaged, collect_containers])
def test_nothing_is_said_of_containers_before_docker_told(collect: Collect) -> None:
    with pytest.raises(SourceError, match="Docker"):
        list(collect(a_view(confirmed_ago=None)))


def test_without_a_driver_the_containers_are_counted_all_the_same() -> None:
    collected = collect_users(a_view(a_container(), gpus=SourceError("no driver")))

    assert by_user([next(collected)], "ds01_user_containers_count") == {"alice": 1}
    with pytest.raises(SourceError, match="no driver"):
        next(collected)


def test_groups_have_the_members_that_the_limits_name() -> None:
    book = LimitsBook(groups={"lab": {}, "empty": {}}, members={"alice": "lab", "h.baker@x": "lab"})
    metrics = list(collect_groups(dataclasses.replace(a_view(), book=book)))

    named = [tuple(labels.values()) for labels, _ in rows(metrics, "ds01_user_group_info")]
    sizes = rows(metrics, "ds01_group_members_total")
    assert named == [("alice", "lab"), ("h.baker@x", "lab")]
    assert {labels["group"]: value for labels, value in sizes} == {"lab": 2, "empty": 0}


@pytest.mark.parametrize(
    ("labels", "managed"),
    [
        ({}, False),
        ({"ds01.user": "alice"}, False),
        ({"com.docker.compose.project": "x"}, False),
        ({"ds01.managed": "true"}, True),
        ({"ds01.managed": "True "}, True),
        ({"ds01.managed": "false", "ds01.interface": "atomic"}, False),
        ({"ds01.interface": "api"}, True),
        ({"ds01.interface": ""}, False),
        ({"aime.mlc.USER": "alice"}, True),
    ],
)
def test_ds01_made_what_it_says_it_made(labels: dict[str, str], managed: bool) -> None:
    assert is_managed(labels) is managed


def unmanaged(*containers: Tracked, **view: object) -> dict[str, tuple[str, ...]]:
    """Return the labels behind the name of each container shown, by that name."""
    metrics = list(collect_unmanaged(a_view(*containers, **view)))  # type: ignore[arg-type]
    found = [labels for labels, _ in rows(metrics, "ds01_unmanaged_gpu_container")]
    return {labels["container"]: tuple(labels.values())[1:] for labels in found}


@pytest.mark.parametrize(
    ("claims", "count", "access"),
    [
        (EVERYTHING, "ALL", "all"),
        (GpuClaims(count=2), "2", "count"),
        (GpuClaims(ids=("0", "GPU-a")), "1", "specific"),
        (GpuClaims(ids=("GPU-b",)), "2", "specific"),
        (GpuClaims(ids=("GPU-gone",)), "1", "specific"),
    ],
)
def test_a_container_outside_ds01_is_shown_with_its_access(
    claims: GpuClaims, count: str, access: str
) -> None:
    assert unmanaged(a_container(claims=claims)) == {"name-a": ("alice", count, access, "true")}


def test_a_container_that_got_its_gpu_by_privilege_is_shown_where_it_is_seen() -> None:
    sample = a_sample(a_process("a" * 64))

    found = unmanaged(a_container(claims=GpuClaims()), gpus=sample)

    assert found == {"name-a": ("alice", "1", "specific", "true")}


def test_only_gpu_containers_that_nobody_manages_are_shown() -> None:
    found = unmanaged(
        a_container("a", labels={"ds01.managed": "true"}),
        a_container("b", labels=MONITORING, claims=EVERYTHING),
        a_container("c", claims=GpuClaims()),
        a_container("d", state="exited", pid=0),
    )

    assert found == {"name-d": ("alice", "1", "specific", "false")}


def test_containers_outside_ds01_are_counted() -> None:
    metrics = list(
        collect_unmanaged(
            a_view(
                a_container("a", claims=EVERYTHING),
                a_container("b"),
                a_container("c", state="exited", pid=0, claims=EVERYTHING),
                a_container("d", labels={"ds01.managed": "true"}, claims=EVERYTHING),
            )
        )
    )

    assert rows(metrics, "ds01_unmanaged_gpu_count") == [({}, 3)]
    assert rows(metrics, "ds01_unmanaged_gpu_running") == [({}, 2)]
    assert rows(metrics, "ds01_unmanaged_gpu_all_access") == [({}, 2)]


def test_the_counts_are_there_where_all_is_managed() -> None:
    metrics = list(collect_unmanaged(a_view()))

    assert rows(metrics, "ds01_unmanaged_gpu_count") == [({}, 0)]


def test_a_name_without_end_is_cut_and_stays_its_own() -> None:
    long = "n" * 100_000
    view = a_view(a_container("a", name=long), a_container("b", name=long))

    for collect, name in (
        (collect_containers, "ds01_container_info"),
        (collect_slots, "ds01_gpu_allocated"),
        (collect_unmanaged, "ds01_unmanaged_gpu_container"),
    ):
        names = [labels["container"] for labels, _ in rows(list(collect(view)), name)]
        assert len(set(names)) == 2, name
        assert max(map(len, names)) < 300, name
