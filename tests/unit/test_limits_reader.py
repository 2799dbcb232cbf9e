import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from remediator.config.exemptions import parse_end
from remediator.config.layers import parse_old_duration
from remediator.config.limits import read_limits
from remediator.core.exemptions import Exemption
from remediator.core.limits import Limits, LimitsBook
from remediator.core.ownership import UNKNOWN
from remediator.errors import ConfigError
from tests.builders import HOUR, MINUTE, NOON, SECOND

COMPOSE = Path(__file__).parents[2] / "compose"
EXAMPLE = COMPOSE / "limits.example.yaml"
SAMPLES = Path(__file__).parents[1] / "data" / "limits"
BAD = sorted(SAMPLES.glob("bad.*"))
DS01 = SAMPLES / "good.ds01"


def write(folder: Path, text: str = "", **beside: str) -> Path:
    """Write a limits file, and beside it overrides, exemptions and members of groups."""
    path = folder / "limits.yaml"
    path.write_text(text or "default_group: student\n")
    names = {"overrides": "user-overrides.yaml", "exemptions": "lifecycle-exemptions.yaml"}
    for name, content in beside.items():
        file = folder / names.get(name, f"groups/{name}.members")
        file.parent.mkdir(exist_ok=True)
        file.write_text(content)
    return path


def book_of(folder: Path, text: str = "", **beside: str) -> LimitsBook:
    return read_limits(write(folder, text, **beside))


def problems_of(folder: Path, text: str = "", **beside: str) -> list[str]:
    """Return the problems of the files, without the folder's name."""
    with pytest.raises(ConfigError) as caught:
        read_limits(write(folder, text, **beside))
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def own_limits(book: LimitsBook, user: str, now: datetime = NOON) -> Limits:
    """Return the limits of a container that *user* made with DS01's own commands."""
    return book.limits_for(user, "docker", "orchestration", now)


@pytest.mark.parametrize("folder", BAD, ids=lambda folder: folder.name)
def test_bad_files_are_refused_with_everything_that_is_wrong_in_order(folder: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_limits(folder / "resource-limits.yaml")

    told = str(caught.value).replace(f"{folder}/", "") + "\n"
    assert told == (folder / "expected.txt").read_text()


def test_there_are_bad_files_of_every_kind() -> None:
    kinds = {path.parts[-1] for folder in BAD for path in folder.rglob("*") if path.is_file()}

    assert kinds >= {"user-overrides.yaml", "lifecycle-exemptions.yaml", "student.members"}
    assert len(BAD) > 15


def test_both_spellings_of_ds01s_own_file_mean_the_same() -> None:
    newer = read_limits(DS01 / "resource-limits.yaml")
    older = read_limits(DS01 / "resource-limits.older.yaml")

    assert newer == older


@pytest.mark.parametrize(
    ("user", "group", "idle", "runtime", "hold"),
    [
        pytest.param("nobody.known", "student", HOUR / 2, 24 * HOUR, HOUR / 4, id="default group"),
        pytest.param("c.three", "student", HOUR / 2, 24 * HOUR, HOUR / 4, id="member"),
        pytest.param(
            "a.one@students.example.org", "student", 90 * MINUTE, 24 * HOUR, HOUR / 4, id="override"
        ),
        pytest.param("dana", "researcher", HOUR, 96 * HOUR, HOUR / 2, id="override of one key"),
        pytest.param("h.baker@example.org", "researcher", None, None, HOUR / 2, id="exempt"),
        pytest.param("root-admin", "admin", HOUR, 24 * HOUR, HOUR, id="no newline at the end"),
        pytest.param("old.user", "student", HOUR / 2, 24 * HOUR, HOUR / 4, id="archived"),
    ],
)
def test_ds01s_own_files_are_read_unchanged(
    user: str, group: str, idle: timedelta | None, runtime: timedelta | None, hold: timedelta
) -> None:
    limits = own_limits(read_limits(DS01 / "resource-limits.yaml"), user)

    assert limits.group == group
    assert (limits.idle_timeout, limits.max_runtime) == (idle, runtime)
    assert limits.hold_after_stop == hold


def test_ds01s_own_file_says_what_holds_outside_and_for_the_whole_host() -> None:
    book = read_limits(DS01 / "resource-limits.yaml")

    outside = book.limits_for("c.three", "compose", "docker", NOON)
    assert (outside.max_runtime, outside.sigterm_grace) == (72 * HOUR, 45 * SECOND)
    assert (book.high_demand_threshold, book.high_demand_idle_reduction) == (0.85, 0.4)
    assert book.void_exemptions == ()


@pytest.mark.parametrize("interface", ["docker", "orchestration"])
@pytest.mark.parametrize("container_type", ["devcontainer", "compose", "docker", "api", UNKNOWN])
@pytest.mark.parametrize("user", ["alice", UNKNOWN])
def test_the_example_says_what_holds_without_a_file(
    user: str, container_type: str, interface: str
) -> None:
    written = read_limits(EXAMPLE).limits_for(user, container_type, interface, NOON)
    built_in = LimitsBook(default_group="student").limits_for(user, container_type, interface, NOON)

    assert written == built_in


@pytest.mark.parametrize("group", ["student", "researcher", "faculty", "admin"])
def test_the_examples_groups_are_the_built_in_ones(group: str) -> None:
    example = read_limits(EXAMPLE)
    written = own_limits(LimitsBook(example.defaults, group, example.groups), "x")

    assert written == own_limits(LimitsBook(default_group=group), "x")


def test_the_examples_beside_it_are_good_and_void_nothing(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE, tmp_path / "resource-limits.yaml")
    for name in ("user-overrides", "lifecycle-exemptions"):
        shutil.copy(COMPOSE / f"{name}.example.yaml", tmp_path / f"{name}.yaml")

    book = read_limits(tmp_path / "resource-limits.yaml")

    assert book.users
    assert len(book.exemptions) > 1
    assert book.void_exemptions == ()


def test_fractions_and_every_unit_are_read(tmp_path: Path) -> None:
    text = "defaults: {idle_timeout_h: 0.005, max_runtime_m: 1.5, gpu_hold_after_stop_s: 3}\n"

    limits = own_limits(book_of(tmp_path, text), "alice")

    assert limits.idle_timeout == timedelta(seconds=18)
    assert limits.max_runtime == timedelta(seconds=90)
    assert limits.hold_after_stop == timedelta(seconds=3)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0.5h", HOUR / 2),
        (".25h", HOUR / 4),
        ("30m", HOUR / 2),
        ("1h30m", 1.5 * HOUR),
        ("24 h", 24 * HOUR),
        (" 90s ", 90 * SECOND),
        ("7d", 7 * 24 * HOUR),
        ("0", timedelta()),
    ],
)
def test_durations_of_the_older_spelling(text: str, duration: timedelta) -> None:
    assert parse_old_duration(text) == duration


@pytest.mark.parametrize("text", ["", "h", "1,5h", "-1h", "1e3h", ".h", "0.5", "inf", "87601h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|longer"):
        parse_old_duration(text)


def test_null_exempts(tmp_path: Path) -> None:
    text = "user_overrides:\n  alice: {idle_timeout_h: null, max_runtime: ~}\n"

    limits = own_limits(book_of(tmp_path, text), "alice")

    assert (limits.idle_timeout, limits.max_runtime) == (None, None)
    assert limits.idle_exemption is None


def test_members_and_group_policies_are_read(tmp_path: Path) -> None:
    text = "groups:\n  lab:\n    members: [alice]\n    policies: {gpu_idle_threshold: 7}\n"

    book = book_of(tmp_path, text, lab="bob\nalice\n", faculty="carol\n", archived="bob\ndora\n")

    groups = {user: book.group_of(user) for user in ("alice", "bob", "carol", "dora")}
    assert groups == {"alice": "lab", "bob": "lab", "carol": "faculty", "dora": "default"}
    assert own_limits(book, "bob").gpu_idle_percent == 7


def test_a_group_whose_name_is_no_file_name_has_no_members_file(tmp_path: Path) -> None:
    book = book_of(tmp_path, 'groups: {"../x": {members: [alice]}, "a\\0b": {}}\n', x="bob\n")

    assert book.members == {"alice": "../x"}


@pytest.mark.parametrize("kind", ["a folder", "a link to nowhere"])
@pytest.mark.parametrize(
    "name", ["groups/student.members", "user-overrides.yaml", "lifecycle-exemptions.yaml"]
)
def test_a_file_that_is_there_and_cannot_be_read_is_a_problem(
    tmp_path: Path, name: str, kind: str
) -> None:
    (tmp_path / "groups").mkdir()
    if kind == "a folder":
        (tmp_path / name).mkdir()
    else:
        os.symlink(tmp_path / "nowhere", tmp_path / name)

    [problem] = problems_of(tmp_path)

    assert problem.startswith(f"{name}:1:1: cannot be read: ")


def test_a_file_where_the_folder_of_groups_should_be_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "groups").write_text("")

    assert "groups/admin.members:1:1: cannot be read: Not a directory" in problems_of(tmp_path)


@pytest.mark.parametrize("text", ["", "# nobody\n", "---\n", "{}\n", "alice:\n"])
def test_overrides_may_be_empty(tmp_path: Path, text: str) -> None:
    assert own_limits(book_of(tmp_path, overrides=text), "alice").idle_timeout == HOUR / 2


def test_a_user_in_both_files_of_overrides_has_those_of_both_key_by_key(tmp_path: Path) -> None:
    text = "user_overrides: {alice: {idle_timeout_h: 1, max_runtime_h: 2}, bob: {max_runtime_h: 3}}"

    book = book_of(tmp_path, text, overrides="alice: {idle_timeout_h: 4}\ncarol: {max_runtime: 5h}")

    assert book.users == {
        "alice": {"idle_timeout": 4 * HOUR, "max_runtime": 2 * HOUR},
        "bob": {"max_runtime": 3 * HOUR},
        "carol": {"max_runtime": 5 * HOUR},
    }


@pytest.mark.parametrize("text", ["exemptions: []\n", "exemptions:\n", "exemptions: ~\nmore: 1\n"])
def test_the_list_of_exemptions_may_be_empty(tmp_path: Path, text: str) -> None:
    book = book_of(tmp_path, exemptions=text)

    assert (book.exemptions, book.void_exemptions) == ((), ())


def test_an_exemption_is_read_with_its_reason_and_end(tmp_path: Path) -> None:
    text = """\
exemptions:
  - username: " alice "
    exempt_from: [idle_timeout_h, max_runtime]
    reason: |
      PhD
      thesis
    approved_by: X
    expires_on: 2026-06-30
    whatever: else
"""
    book = book_of(tmp_path, exemptions=text)

    both = frozenset({"idle_timeout", "max_runtime"})
    end = datetime(2026, 7, 1, tzinfo=UTC)
    assert book.exemptions == (Exemption("alice", both, "PhD thesis", "X", end),)


def test_void_entries_are_told_and_cost_nobody_else_an_exemption() -> None:
    folder = SAMPLES / "void.exemptions"
    book = read_limits(folder / "resource-limits.yaml")

    told = "\n".join(book.void_exemptions).replace(f"{folder}/", "") + "\n"
    assert told == (folder / "expected.txt").read_text()
    assert [exemption.user for exemption in book.exemptions] == ["good", "last"]
    assert len(book.void_exemptions) == 20


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("2026-06-30", datetime(2026, 7, 1, tzinfo=UTC)),
        ("2026-06-30T23:59:59Z", datetime(2026, 6, 30, 23, 59, 59, tzinfo=UTC)),
        ("2026-06-30t23:59:59z", datetime(2026, 6, 30, 23, 59, 59, tzinfo=UTC)),
        ("2026-06-30 12:30", datetime(2026, 6, 30, 12, 30, tzinfo=UTC)),
        ("2026-06-30T00:00:00+02:00", datetime(2026, 6, 29, 22, tzinfo=UTC)),
        ("2026-06-30T12:00:00.5-04:00", datetime(2026, 6, 30, 16, 0, 0, 500_000, tzinfo=UTC)),
        ("2024-02-29", datetime(2024, 3, 1, tzinfo=UTC)),
        ("9999-12-31", None),
        ("9999-12-31T23:59:59-05:00", None),
    ],
)
def test_an_exemption_ends_with_its_day_or_at_its_moment(text: str, end: datetime | None) -> None:
    assert parse_end(text) == end


@pytest.mark.parametrize("text", ["2026-13-01", "2025-02-29", "2026-6-30", "soon", "null", "30.6."])
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a date such as 2026-06-30"):
        parse_end(text)


def test_several_files_are_judged_at_once_even_if_the_limits_file_is_broken(tmp_path: Path) -> None:
    told = problems_of(
        tmp_path, "defaults: {", student="a b", overrides="- a", exemptions="exemptions: {}"
    )

    assert [problem.split(":")[0] for problem in told] == [
        "groups/student.members",
        "lifecycle-exemptions.yaml",
        "limits.yaml",
        "user-overrides.yaml",
    ]
