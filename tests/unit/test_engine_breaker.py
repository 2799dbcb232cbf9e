from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from remediator.core.alerts import Alert
from remediator.core.policy import Limit
from tests.builders import HOUR, a_policy, a_rule, an_alert
from tests.eventually import eventually
from tests.unit.engine_site import EngineSite, body_of, hurried


@pytest.fixture
def tight(folder: Path) -> Iterator[EngineSite]:
    """A machine on which two containers may be stopped in an hour."""
    once = hurried("stop-container", Limit(1, 6 * HOUR))
    site = EngineSite(folder, a_policy(a_rule(once), budget=(Limit(2, HOUR),)))
    yield site
    site.close()


def spend(site: EngineSite) -> None:
    """Spend the budget of `tight`."""
    site.deliver(about("a"), about("b"))
    site.round()
    assert site.states() == ["succeeded", "succeeded"]


def breaker_is(site: EngineSite, value: float, why: str) -> None:
    eventually(lambda: site.metric("breaker_open") == value, 5, why)


def about(letter: str) -> Alert:
    return an_alert({"container_id": letter * 64, "container": letter}, fingerprint=letter)


def settles(site: EngineSite, *states: str) -> None:
    eventually(lambda: site.states() == [*states], 10, f"attempts are {states}")


def test_the_breaker_opens_with_the_attempt_that_spends_the_budget(tight: EngineSite) -> None:
    with tight.working():
        tight.store(body_of(about("a")))
        settles(tight, "succeeded")
        tight.store(body_of(about("b")))
        breaker_is(tight, 0, "one of two is left")
        settles(tight, "succeeded", "succeeded")
        breaker_is(tight, 1, "the budget is spent")


def test_the_breaker_closes_when_the_window_is_over_without_any_alert(tight: EngineSite) -> None:
    spend(tight)
    with tight.working():
        breaker_is(tight, 1, "the budget is spent")
        tight.clock.advance(HOUR)
        breaker_is(tight, 0, "the window is over")


def test_the_breaker_is_still_open_after_a_restart(tight: EngineSite) -> None:
    spend(tight)
    again = EngineSite(tight.folder, tight.policy, clock=tight.clock)
    before = again.metric("breaker_open")
    with again.working():
        breaker_is(again, 1, "the journal has the attempts")
    again.close()

    assert before == 0


def test_a_policy_with_a_larger_budget_closes_the_breaker(tight: EngineSite) -> None:
    spend(tight)
    with tight.working():
        breaker_is(tight, 1, "the budget is spent")
        tight.policy = replace(tight.policy, budget=(Limit(3, HOUR),))
        breaker_is(tight, 0, "one more is allowed")


def test_what_only_tells_people_never_opens_the_breaker(folder: Path) -> None:
    told = a_policy(a_rule(hurried("notify-only")), budget=(Limit(1, HOUR),))
    site = EngineSite(folder, told)
    site.deliver(about("a"))
    site.round()
    with site.working():
        site.store(body_of(about("b")))
        settles(site, "succeeded", "succeeded")
        site.store(b"")
        eventually(lambda: site.metric("deliveries_unreadable_total") == 1, 5, "another round")
        assert site.metric("breaker_open") == 0
    site.close()
