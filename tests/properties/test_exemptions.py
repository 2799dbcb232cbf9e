"""The promise of the exemptions file: one entry without sense costs nobody else an exemption."""

import contextlib
import re
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from remediator.config.exemptions import parse_end
from remediator.config.limits import read_limits
from remediator.core.limits import LimitsBook
from remediator.errors import ConfigError
from tests.builders import NOON

KEYS = ["username", "exempt_from", "reason", "approved_by", "approved_on", "expires_on", "<<"]
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20)
# Four digits, as a person would write a year.
days = st.dates(date(1000, 1, 1))
dates = days | st.builds(datetime.combine, days, st.times())
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts | dates
names = st.sampled_from(["idle_timeout_h", "max_runtime_h", "idle_timeout", "everything"])
things = st.recursive(
    scalars | names,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | texts, inner, max_size=5)
    ),
    max_leaves=8,
)
entries = things | st.fixed_dictionaries(
    {"username": st.just("alice") | things, "exempt_from": st.lists(names) | things},
    optional=dict.fromkeys(KEYS[2:], things),
)


def an_entry(user: str, **more: Any) -> dict[str, Any]:
    known = {"username": user, "exempt_from": ["idle_timeout_h"], "reason": "r", "approved_by": "a"}
    return {**known, "expires_on": None, **more}


def book_of(text: str) -> LimitsBook:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "limits.yaml"
        path.write_text("default_group: student\n")
        path.with_name("lifecycle-exemptions.yaml").write_text(text, encoding="utf-8")
        return read_limits(path)


@given(entries)
def test_whatever_one_entry_holds_the_others_hold(garbage: object) -> None:
    written = [an_entry("before"), garbage, an_entry("after")]

    book = book_of(yaml.safe_dump({"exemptions": written}, allow_unicode=True))

    users = [exemption.user for exemption in book.exemptions]
    assert (users[0], users[-1]) == ("before", "after")
    assert len(book.exemptions) + len(book.void_exemptions) == 3
    for user in ("before", "after"):
        assert book.limits_for(user, "docker", "docker", NOON).idle_timeout is None


@given(entries, st.booleans())
def test_an_entry_that_is_not_void_says_who_why_and_from_what(garbage: object, last: bool) -> None:
    written = [an_entry("other"), garbage][:: -1 if last else 1]

    book = book_of(yaml.safe_dump({"exemptions": written}, allow_unicode=True))

    for exemption in book.exemptions:
        assert exemption.user.strip()
        assert exemption.reason.strip()
        assert exemption.approved_by.strip()
        assert exemption.limits <= {"idle_timeout", "max_runtime"}
        assert exemption.limits
        assert str(exemption).startswith("exempt ")
    for told in book.void_exemptions:
        assert "lifecycle-exemptions.yaml:" in told


@given(st.text(st.characters(codec="utf-8"), max_size=200) | things.map(yaml.safe_dump))
def test_any_file_of_exemptions_is_read_or_refused_with_its_place(text: str) -> None:
    told: list[str] = []
    try:
        told += book_of(text).void_exemptions
    except ConfigError as error:
        told += (str(problem) for problem in error.problems)
        told = told or ["refused without a reason"]

    assert all(re.search(r"lifecycle-exemptions\.yaml:\d+:\d+: ", line) for line in told)


@given(st.text(max_size=30) | dates.map(lambda end: end.isoformat()))
def test_an_end_is_a_moment_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        end = parse_end(text)
        assert end is None or end.tzinfo is UTC
