"""DS01's slices: found in each layout of cgroups, and named after users and groups."""

from pathlib import Path
from typing import Any

import pytest

from remediator.core.limits import LimitsBook
from remediator.errors import SourceError
from remediator.exporter.inventory import Snapshot
from remediator.exporter.user_slices import slice_collector, slice_name
from remediator.exporter.view import View, look
from remediator.sources.user_slices import SliceUse, UserSlices
from tests.unit.gpu_views import NOON, a_sample, rows

ALICE = "ds01.slice/ds01-lab.slice/ds01-lab-alice.slice"


class Tree:
    """A cgroup file system in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.source = UserSlices(folder)

    def put(self, path: str, text: object) -> None:
        file = self._folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def v1(self, group: str, cpu: int = 2_500_000_000, memory: int = 1000) -> None:
        self.put(f"cpu,cpuacct/{group}/cpuacct.usage", cpu)
        self.put(f"memory/{group}/memory.usage_in_bytes", memory)

    def v2(self, group: str, cpu: int = 2_500_000, memory: int | None = 1000) -> None:
        self.put(f"{group}/cpu.stat", f"usage_usec {cpu}\nuser_usec 1")
        if memory is not None:
            self.put(f"{group}/memory.current", memory)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_host_without_slices_has_none(tree: Tree) -> None:
    assert tree.source.use() == ()


def test_version_1_is_read(tree: Tree) -> None:
    tree.v1(ALICE)

    assert tree.source.use() == (SliceUse("lab-alice", 2.5, 1000),)


def test_version_2_is_read(tree: Tree) -> None:
    tree.v2(ALICE)

    assert tree.source.use() == (SliceUse("lab-alice", 2.5, 1000),)


def test_a_hybrid_has_its_controllers_in_version_1(tree: Tree) -> None:
    tree.v1(ALICE)
    tree.v2(f"unified/{ALICE}", cpu=99_000_000, memory=None)

    assert tree.source.use() == (SliceUse("lab-alice", 2.5, 1000),)


def test_a_hybrid_without_accounts_in_version_1_has_the_rest_in_version_2(tree: Tree) -> None:
    tree.put(f"memory/{ALICE}/memory.usage_in_bytes", 7)
    tree.put(f"cpu,cpuacct/{ALICE}/tasks", "")
    tree.v2(f"unified/{ALICE}", memory=None)

    assert tree.source.use() == (SliceUse("lab-alice", 2.5, 7),)


def test_a_slice_without_an_account_lacks_only_that(tree: Tree) -> None:
    tree.v2(ALICE, memory=None)

    assert tree.source.use() == (SliceUse("lab-alice", 2.5, None),)


def test_containers_in_a_slice_are_part_of_it(tree: Tree) -> None:
    tree.v2(ALICE)
    tree.v2(f"{ALICE}/docker-{'a' * 64}.scope", cpu=1)

    assert [use.name for use in tree.source.use()] == ["lab-alice"]


def test_only_the_innermost_slices_are_users(tree: Tree) -> None:
    tree.v2("ds01.slice")
    tree.v2("ds01.slice/ds01-my.slice")
    tree.v2("ds01.slice/ds01-my.slice/ds01-my-lab.slice")
    tree.v2("ds01.slice/ds01-my.slice/ds01-my-lab.slice/ds01-my-lab-bob.slice")
    tree.v2("system.slice/ssh.service")

    assert [use.name for use in tree.source.use()] == ["my-lab-bob"]


def test_slices_that_cannot_be_listed_are_an_error(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "ds01.slice").symlink_to("ds01.slice")

    with pytest.raises(SourceError, match=r"ds01\.slice"):
        tree.source.use()


@pytest.mark.parametrize(
    ("user", "name"),
    [
        ("alice", "alice"),
        ("h.baker@hertie-school.lan", "h_baker"),
        ("a-b", "a_b"),
        ("_x..y_", "x_y"),
        ("j\N{LATIN SMALL LETTER O WITH DIAERESIS}rg", "j_rg"),
        ("a:1", "a:1"),
    ],
)
def test_a_slice_is_named_as_ds01_does(user: str, name: str) -> None:
    assert slice_name(user) == name


class Slices:
    """Slices of these names, each with a second and a byte."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def use(self) -> tuple[SliceUse, ...]:
        return tuple(SliceUse(name, 1.0, 1) for name in self._names)


def a_view(**members: str) -> View:
    groups: dict[str, Any] = {group: {} for group in members.values()}
    book = LimitsBook(members=members, groups=groups)
    return look(NOON, Snapshot((), NOON, None), a_sample(), book=book, limits_good=True)


def found(view: View, *names: str) -> list[tuple[str, str]]:
    metrics = list(slice_collector(Slices(*names))(view))
    cpu = rows(metrics, "ds01_user_cpu_usage_seconds_total")
    assert [labels for labels, _ in cpu] == [
        labels for labels, _ in rows(metrics, "ds01_user_memory_current_bytes")
    ]
    return [(labels["user"], labels["group"]) for labels, _ in cpu]


def test_a_slice_shows_the_whole_name_of_the_member() -> None:
    view = a_view(**{"h.baker@hertie-school.lan": "lab"})

    assert found(view, "lab-h_baker") == [("h.baker@hertie-school.lan", "lab")]


def test_a_slice_of_nobody_known_shows_its_own_name() -> None:
    assert found(a_view(), "lab-h_baker") == [("h_baker", "lab")]


def test_a_member_is_found_in_a_group_that_was_left() -> None:
    assert found(a_view(**{"h.baker": "staff"}), "lab-h_baker") == [("h.baker", "lab")]


def test_the_member_of_the_slices_own_group_is_meant() -> None:
    view = a_view(**{"h.baker@a": "lab", "h.baker@b": "staff"})

    assert found(view, "lab-h_baker", "staff-h_baker") == [
        ("h.baker@a", "lab"),
        ("h.baker@b", "staff"),
    ]


def test_a_name_that_fits_two_members_is_nobodys() -> None:
    view = a_view(**{"h.baker@a": "lab", "h.baker@b": "lab"})

    assert found(view, "lab-h_baker") == [("h_baker", "lab")]


def test_a_group_may_have_dashes_and_no_users_yet() -> None:
    view = a_view(bob="my-lab")

    assert found(view, "my-lab-bob", "my-lab", "lab") == [("bob", "my-lab")]


def test_a_slice_without_an_account_is_left_out_of_it() -> None:
    class Bare:
        def use(self) -> tuple[SliceUse, ...]:
            return (SliceUse("lab-alice", None, None),)

    metrics = list(slice_collector(Bare())(a_view()))

    assert rows(metrics, "ds01_user_cpu_usage_seconds_total") == []
    assert rows(metrics, "ds01_user_memory_current_bytes") == []
