"""However often a container is kept, it is kept no longer than allowed after the last time."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from remediator.core.extensions import Extension, Via, grant
from tests.builders import DAY, NOON

WAITS = st.timedeltas(timedelta(), 2 * DAY)
WISHES = st.timedeltas(timedelta(), 9 * DAY)


@given(st.lists(st.tuples(WAITS, WISHES), max_size=30), st.timedeltas(timedelta(minutes=1), DAY))
def test_no_series_of_wishes_keeps_beyond_the_most_or_takes_anything_away(
    wishes: list[tuple[timedelta, timedelta]], longest: timedelta
) -> None:
    now, last = NOON, None
    for wait, asked in wishes:
        now += wait
        granted = grant(asked, longest, last, now)

        assert granted.until <= now + longest
        if asked:
            assert granted.until >= now + min(asked, longest)
            assert last is None or granted.until >= last.until
        else:
            assert granted.until == now
        if granted.is_new:
            last = Extension(granted.until, "alice", Via.CLI, now)
