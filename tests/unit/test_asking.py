"""What an address of the page asks for, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remediator.journal.search import Query
from remediator.web.asking import local_path, number_of, query_of, within
from tests.builders import DAY, NOON


def test_an_address_is_read_as_it_is_meant() -> None:
    query = query_of(
        {
            "q": " two words ",
            "owner": "bob",
            "state": "open",
            "since": "2026-03-01",
            "until": "2026-03-01",
            "before": "17",
        }
    )

    midnight = NOON.replace(hour=0)
    assert query == Query("two words", "bob", "", "", "", "open", midnight, midnight + DAY, 17)
    assert query_of({"until": "2026-03-01T13:00:00+01:00"}).until == NOON
    assert query_of({"since": "2026-03-01T12:00"}).since == NOON


@pytest.mark.parametrize(
    "arguments",
    [
        {"state": "ajar"},
        {"since": "yesterday"},
        {"until": "9999-12-31"},
        {"before": "0"},
        {"before": "-1"},
        {"before": "1.5"},
        {"before": "٣"},
        {"before": str(2**63)},
        {"q": "x" * 201},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(arguments: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        query_of(arguments)


def test_a_number_may_be_left_out_and_has_its_limit() -> None:
    assert number_of({}, "incident") is None
    assert within({}, "limit", 50, 200) == 50
    assert within({"limit": "200"}, "limit", 50, 200) == 200
    with pytest.raises(ValueError, match="at most 200"):
        within({"limit": "201"}, "limit", 50, 200)


@given(st.text(max_size=30))
def test_no_path_leads_to_another_server(text: str) -> None:
    path = local_path("/" + text)

    assert path.startswith("/")
    assert not path.startswith(("//", "/\\"))
    assert path == "/" or not any(ord(character) <= 0x20 for character in path)
