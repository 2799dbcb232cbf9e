from datetime import timedelta
from pathlib import Path

import pytest

from remediator.config.limits import read_limits
from remediator.config.limits_file import LimitsFile
from remediator.core.limits import LimitsBook
from remediator.core.ownership import UNKNOWN
from remediator.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "compose" / "limits.example.yaml"


def problems_of(folder: Path, text: str) -> list[str]:
    """Return the problems of a limits file, without the folder's name."""
    path = folder / "limits.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_limits(path)
    return [str(problem).removeprefix(f"{folder}/") for problem in caught.value.problems]


def book_of(folder: Path, text: str) -> LimitsBook:
    path = folder / "limits.yaml"
    path.write_text(text)
    return read_limits(path)


@pytest.mark.parametrize("interface", ["docker", "orchestration"])
@pytest.mark.parametrize("container_type", ["devcontainer", "compose", "docker", "api", UNKNOWN])
@pytest.mark.parametrize("user", ["alice", UNKNOWN])
def test_the_example_says_what_holds_without_a_file(
    user: str, container_type: str, interface: str
) -> None:
    written = read_limits(EXAMPLE).limits_for(user, container_type, interface)
    built_in = LimitsBook(default_group="student").limits_for(user, container_type, interface)

    assert written == built_in


@pytest.mark.parametrize("group", ["student", "researcher", "faculty", "admin"])
def test_the_examples_groups_are_the_built_in_ones(group: str) -> None:
    example = read_limits(EXAMPLE)
    written = LimitsBook(example.defaults, group, example.groups).limits_for(
        "x", "docker", "atomic"
    )

    assert written == LimitsBook(default_group=group).limits_for("x", "docker", "atomic")


def test_fractions_and_every_unit_are_read(tmp_path: Path) -> None:
    text = "defaults: {idle_timeout_h: 0.005, max_runtime_m: 1.5, gpu_hold_after_stop_s: 3}\n"

    limits = book_of(tmp_path, text).limits_for("alice", "docker", "atomic")

    assert limits.idle_timeout == timedelta(seconds=18)
    assert limits.max_runtime == timedelta(seconds=90)
    assert limits.hold_after_stop == timedelta(seconds=3)


def test_null_exempts(tmp_path: Path) -> None:
    text = "user_overrides:\n  alice: {idle_timeout_h: null, max_runtime_h: ~}\n"

    limits = book_of(tmp_path, text).limits_for("alice", "docker", "docker")

    assert (limits.idle_timeout, limits.max_runtime) == (None, None)


def test_members_and_group_policies_are_read(tmp_path: Path) -> None:
    text = "groups:\n  lab:\n    members: [alice]\n    policies: {gpu_idle_threshold: 7}\n"

    book = book_of(tmp_path, text)

    assert (book.group_of("alice"), book.group_of("bob")) == ("lab", "default")
    assert book.limits_for("alice", "docker", "docker").gpu_idle_percent == 7


def test_demand_is_read(tmp_path: Path) -> None:
    text = "policies: {high_demand_threshold: 0.9, high_demand_idle_reduction: 0.25}\n"

    book = book_of(tmp_path, text)

    assert (book.high_demand_threshold, book.high_demand_idle_reduction) == (0.9, 0.25)


def test_what_is_not_about_the_lifecycle_is_ignored(tmp_path: Path) -> None:
    text = """\
defaults: {max_mig_instances: 3, memory: 32g, container_hold_after_stop_h: 0.5, max_tasks: 32768}
enforcement: {aggregate_limits: true}
groups:
  student: {aggregate: {cpu_quota: "9600%"}, allow_full_gpu: true, max_containers_per_user: 3}
gpu_allocation: {mig_instances_per_gpu: 4}
container_types:
  docker: {default_mig_count: {student: 1, admin: null}}
monitoring: {infrastructure_label: ds01.protected}
bare_metal_access: {default_grant_duration: 24h}
"""
    assert book_of(tmp_path, text).limits_for("x", "docker", "docker").group == "default"


def test_every_problem_is_told_with_its_place(tmp_path: Path) -> None:
    text = """\
defaults:
  idle_timout_h: 1
  idle_timeout: 2h
  max_runtime_h: 24h
  grace_period_m: null
groups:
  a: {members: [alice, 7]}
  b: {members: [alice], high_demand_threshold: 0.8}
policies:
  high_demand_threshold: 80
  sigterm_grace_s: -1
  keepalive_max_duration_h: 24
  keepalive_max_duration_h: 24
container_types:
  devcontainers: {idle_timeout_h: 1}
max_runtime_h: 3
user_override: {}
"""
    assert problems_of(tmp_path, text) == [
        'limits.yaml:2:18: defaults.idle_timout_h: unknown field "idle_timout_h"'
        ' (did you mean "idle_timeout_h"?)',
        'limits.yaml:3:17: defaults.idle_timeout: unknown field "idle_timeout"'
        ' (did you mean "idle_timeout_h"?)',
        'limits.yaml:4:18: defaults.max_runtime_h: expected a number from 0 to 87600, got "24h"',
        "limits.yaml:5:19: defaults.grace_period_m:"
        " expected a number from 0 to 5256000, got nothing",
        'limits.yaml:8:17: groups.b.members[0]: "alice" is already a member of group "a"',
        'limits.yaml:8:48: groups.b.high_demand_threshold: "high_demand_threshold" holds for'
        " the whole host: it belongs under policies",
        "limits.yaml:10:26: policies.high_demand_threshold:"
        ' expected a number from 0 to 1, got "80"',
        "limits.yaml:11:20: policies.sigterm_grace_s:"
        ' expected a number from 0 to 315360000, got "-1"',
        'limits.yaml:13:3: policies: field "keepalive_max_duration_h" is given twice',
        'limits.yaml:15:18: container_types.devcontainers: unknown container type "devcontainers"'
        ' (did you mean "devcontainer"?)',
        'limits.yaml:16:16: max_runtime_h: "max_runtime_h" belongs under defaults or policies',
        'limits.yaml:17:16: user_override: unknown section "user_override"'
        ' (did you mean "user_overrides"?)',
    ]


@pytest.mark.parametrize(
    "text", ["", "- a\n", "defaults: [1]\n", "defaults: {idle_timeout_h: .inf}"]
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str) -> None:
    assert problems_of(tmp_path, text)


def test_a_program_does_not_start_with_broken_limits(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        LimitsFile(tmp_path / "missing.yaml")


def test_without_a_file_the_strict_limits_hold() -> None:
    limits = LimitsFile(None)
    limits.refresh()
    limits.reload()

    assert limits.book == LimitsBook()
    assert limits.is_good


def test_an_edit_takes_effect(tmp_path: Path) -> None:
    path = tmp_path / "limits.yaml"
    path.write_text("default_group: one\n")
    limits = LimitsFile(path)

    path.write_text("default_group: another\n")
    limits.refresh()

    assert limits.book.default_group == "another"


def test_a_broken_edit_changes_nothing_and_is_seen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "limits.yaml"
    path.write_text("default_group: one\n")
    limits = LimitsFile(path)

    path.write_text("default_group: [broken\n")
    for _ in range(3):
        limits.refresh()

    assert limits.book.default_group == "one"
    assert not limits.is_good
    assert len(caplog.records) == 1
    path.unlink()
    limits.refresh()
    assert not limits.is_good
    path.write_text("default_group: mended\n")
    limits.refresh()
    assert (limits.book.default_group, limits.is_good) == ("mended", True)
