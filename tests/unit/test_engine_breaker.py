"""The metric that says whether the breaker is open, as the running worker keeps it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from remediator.core.alerts import Alert
from remediator.core.policy import Limit
from tests.builders import HOUR, a_policy, a_rule, an_alert
from tests.eventually import eventually
from tests.unit.engine_site import EngineSite, body_of, hurried


@pytest.fixture
def tight(folder: Path) -> Iterator[EngineSite]:
    """A machine whose breaker opens with the second container in an hour."""
    once = hurried("stop-container", Limit(1, 6 * HOUR))
    site = EngineSite(folder, a_policy(a_rule(once), open_after=(Limit(1, HOUR),)))
    yield site
    site.close()


def about(letter: str) -> Alert:
    return an_alert({"container_id": letter * 64, "container": letter}, fingerprint=letter)


def breaker_is(site: EngineSite, value: float, why: str) -> None:
    eventually(lambda: site.metric("breaker_open") == value, 5, why)


def test_it_opens_with_the_attempt_that_would_be_one_too_many(tight: EngineSite) -> None:
    with tight.working():
        tight.store(body_of(about("a")))
        eventually(lambda: tight.states() == ["succeeded"], 10, "the first one is stopped")
        breaker_is(tight, 0, "nothing is over the top")
        tight.store(body_of(about("b")))
        breaker_is(tight, 1, "it would be one too many")


def test_it_is_known_after_a_restart_and_ends_when_a_person_closes_it(tight: EngineSite) -> None:
    tight.journal.operations.open_breaker("too much", tight.clock.now())

    with tight.working():
        breaker_is(tight, 1, "the journal has it")
        tight.clock.advance(100 * HOUR)
        tight.inbox.give(b'{"action": "close-breaker", "reason": "x"}', "carol", tight.clock.now())
        breaker_is(tight, 0, "carol has closed it")
