"""The command that keeps a container: what it does, what it refuses, and that it comes in time."""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from remediator.core.attempts import AttemptState
from remediator.core.extensions import Via
from remediator.core.matchers import Matcher
from remediator.core.notices import NoticeKind
from remediator.core.policy import Audience, Warn
from remediator.errors import EffectUnknownError, RefusedError, SourceError
from remediator.journal.operations import CommandRecord
from remediator.journal.story import tell
from tests.builders import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    OTHER_TARGET,
    SECOND,
    TARGET,
    a_keepable,
    a_policy,
    a_rule,
    an_alert,
)
from tests.unit.engine_site import EngineSite, hurried

IDLE = an_alert({"container_id": TARGET.id})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[EngineSite]:
    """A site that warns the owner five minutes ahead."""
    site = EngineSite(tmp_path, a_policy(a_rule(hurried(), warn=Warn(5 * MINUTE, (OWNER,)))))
    yield site
    site.close()


OWNER = Audience.OWNER


def extend(
    site: EngineSite, duration: str = "4h", container: str = "idle", **more: object
) -> CommandRecord:
    return site.command("extend", container=container, duration=duration, via="cli", **more)


def warn(site: EngineSite) -> None:
    site.deliver(IDLE)
    site.round()
    assert site.reasons() == ["warning_due", "warned"]


def test_the_answer_says_until_when(site: EngineSite) -> None:
    told = extend(site, reason="a run begins soon")

    assert told.accepted
    assert told.answer == (
        "idle is kept from the idle stop until 2026-03-01 16:00 UTC (4 h);"
        " its maximum runtime counts on"
    )
    kept = site.journal.extensions.last(TARGET.id, TARGET.started_at)
    assert kept is not None
    assert (kept.until, kept.actor, kept.via) == (NOON + 4 * HOUR, "alice", Via.CLI)
    assert site.ask("SELECT name, reason FROM extension") == [("idle", "a run begins soon")]


def test_no_more_is_given_than_the_limits_allow(site: EngineSite) -> None:
    site.containers.known["idle"] = replace(a_keepable(), longest=2 * HOUR)

    told = extend(site, "9d")

    assert "until 2026-03-01 14:00 UTC (2 h, which is the most at a time)" in told.answer


def test_a_running_countdown_stops_at_once(site: EngineSite) -> None:
    warn(site)
    site.clock.advance(5 * MINUTE - 5 * SECOND)
    site.journal.incidents.look_again(1, NOON + HOUR)

    assert extend(site).accepted
    assert site.due_at() == site.clock.now()
    site.round()
    site.clock.advance(3 * HOUR)
    site.round()

    assert site.states() == []
    assert site.reasons()[-1] == "exempt"
    assert site.due_at() == NOON + 5 * MINUTE - 5 * SECOND + 3 * HOUR + 5 * MINUTE
    story = tell(site.journal, 1)
    assert story is not None
    assert story.kept == "until 2026-03-01 16:04 UTC, by alice"
    assert [e.text for e in story.events if e.what == "command"] == [
        "extend by alice, followed: idle is kept from the idle stop until 2026-03-01 16:04 UTC"
        " (4 h); its maximum runtime counts on"
    ]


def test_after_its_end_a_new_warning_comes_first(site: EngineSite) -> None:
    warn(site)
    extend(site, "10m")
    site.round()
    site.clock.advance(10 * MINUTE)

    site.round()
    assert site.told(NoticeKind.WARNING) == ["alice"] * 4
    assert site.states() == []
    site.clock.advance(5 * MINUTE)
    site.round()

    assert site.states() == ["succeeded"]


def test_it_is_looked_at_again_when_it_ends(site: EngineSite) -> None:
    warn(site)
    extend(site, "20s")
    site.round()

    assert site.due_at() == NOON + 15 * SECOND
    site.clock.advance(15 * SECOND)
    site.round()
    assert site.due_at() == NOON + 20 * SECOND


def test_what_was_kept_before_anything_fired_is_not_even_warned(site: EngineSite) -> None:
    extend(site)

    site.deliver(IDLE)
    site.round()

    assert site.reasons() == ["exempt"]
    assert site.told() == []


def test_a_planned_stop_is_not_begun_once_the_answer_is_given(site: EngineSite) -> None:
    site.policy = a_policy(a_rule(hurried()))
    site.deliver(IDLE)
    (planned,) = site.look()
    assert extend(site).accepted

    # At once: nothing is reconsidered that has not had to wait.
    site.carrying.carry_out(planned)

    assert site.states() == ["refused"]
    assert site.stop_container.executed == []
    assert site.ask("SELECT message FROM attempt") == [("not carried out: it is kept by alice",)]


def test_a_stop_planned_while_the_answer_was_waiting_for_the_journal_is_not_begun(
    site: EngineSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.policy = a_policy(a_rule(hurried()))
    site.deliver(IDLE)
    planned: list[int] = []
    begin = site.journal.transaction

    def late() -> AbstractContextManager[None]:
        monkeypatch.undo()
        site.clock.advance(SECOND / 100)
        planned.extend(site.look())
        return begin()

    monkeypatch.setattr(site.journal, "transaction", late)
    assert extend(site).accepted

    site.carrying.carry_out(planned[0])

    assert site.states() == ["refused"]
    assert site.stop_container.executed == []


def test_a_stop_that_had_to_wait_is_not_begun_either(site: EngineSite) -> None:
    site.policy = a_policy(a_rule(hurried()))
    site.deliver(IDLE)
    (planned,) = site.look()
    extend(site)
    site.clock.advance(SECOND)

    site.carrying.carry_out(planned)

    assert site.states() == ["refused"]


def test_a_stop_for_another_reason_goes_on(site: EngineSite) -> None:
    name = "DS01ContainerMaxRuntime"
    site.policy = a_policy(a_rule(hurried(), alertname=name))
    site.deliver(an_alert({"container_id": TARGET.id}, name=name))
    (planned,) = site.look()
    extend(site)

    site.carrying.carry_out(planned)

    assert site.states() == ["succeeded"]


def test_a_stop_that_was_decided_in_spite_of_the_extension_is_not_refused_for_it(
    site: EngineSite,
) -> None:
    """One policy rule, and so one incident, about idleness and about the runtime."""
    rule = replace(a_rule(hurried()), matchers=(Matcher("alertname", "=~", "DS01Container.*"),))
    site.policy = a_policy(rule)
    overdue = an_alert({"container_id": TARGET.id}, name="DS01ContainerMaxRuntime", fingerprint="r")
    extend(site)
    site.clock.advance(SECOND)
    site.deliver(IDLE, overdue)

    site.round()

    assert site.reasons()[:2] == ["exempt", None]
    assert site.states() == ["succeeded"]


def test_what_has_begun_cannot_be_called_back(site: EngineSite) -> None:
    site.policy = a_policy(a_rule(hurried()))
    site.stop_container.outcomes.append(EffectUnknownError("no answer"))
    site.stop_container.outcomes.popleft()
    site.stop_container.verdicts.clear()
    site.stop_container.verdicts.append(RuntimeError("not yet"))
    site.deliver(IDLE)
    (planned,) = site.look()
    site.carry_out(planned)
    assert site.states() == [AttemptState.UNKNOWN.value]

    told = extend(site)

    assert not told.accepted
    assert told.answer == "too late: stop-container of idle has begun"
    assert site.ask("SELECT count(*) FROM extension") == [(0,)]


def test_a_shorter_wish_takes_nothing_away(site: EngineSite) -> None:
    extend(site, "8h", actor="bob")

    told = extend(site, "1h")

    assert told.accepted
    assert (
        told.answer == "idle is kept until 2026-03-01 20:00 UTC already, by bob: nothing is changed"
    )
    assert site.ask("SELECT count(*) FROM extension") == [(1,)]


def test_an_extension_is_taken_back_and_a_warning_comes_first(site: EngineSite) -> None:
    warn(site)
    extend(site)
    site.clock.advance(MINUTE)

    told = extend(site, "0")
    site.round()

    assert told.answer == "idle is not kept any more; a warning comes before anything is done"
    assert site.reasons()[-2:] == ["warning_due", "warned"]
    site.clock.advance(5 * MINUTE)
    site.round()
    assert site.states() == ["succeeded"]


def test_nothing_can_be_taken_back_that_was_not_given(site: EngineSite) -> None:
    told = extend(site, "0s")

    assert (told.accepted, told.answer) == (False, "nobody keeps idle by a command")


def test_an_incident_stands_for_its_container(site: EngineSite) -> None:
    warn(site)

    told = extend(site, container="1")

    assert told.accepted
    assert told.incident == 1
    assert told.argument["container_id"] == TARGET.id


def test_a_container_with_the_name_of_a_number_goes_before_the_incident(site: EngineSite) -> None:
    warn(site)
    site.containers.known["1"] = a_keepable(OTHER_TARGET, "1")

    told = extend(site, container="1")

    assert told.argument["container_id"] == OTHER_TARGET.id
    assert told.incident is None


def test_a_container_that_was_started_anew_is_another_one(site: EngineSite) -> None:
    extend(site)
    site.containers.known["idle"] = a_keepable(replace(TARGET, started_at=NOON))

    assert site.journal.extensions.last(TARGET.id, NOON) is None
    before = TARGET.started_at.isoformat()
    told = extend(site, started_at=before)
    assert (told.accepted, told.answer) == (False, "idle was started anew and is another one now")
    assert extend(site, started_at=NOON.isoformat()).accepted


@pytest.mark.parametrize(
    ("argument", "answer"),
    [
        ({"container": "idle"}, '"" is not a duration'),
        ({"container": "idle", "duration": "4 hours"}, '"4 hours" is not a duration'),
        ({"container": "idle", "duration": "-1h"}, '"-1h" is not a duration'),
        ({"duration": "4h"}, "extend needs a container"),
        ({"container": "other", "duration": "4h"}, 'there is no container "other"'),
        ({"container": "7", "duration": "4h"}, 'there is no container "7"'),
        ({"container": "²", "duration": "4h"}, 'there is no container "²"'),
        ({"container": "9" * 40, "duration": "4h"}, "there is no container"),
        ({"container": "2", "duration": "4h"}, "incident 2 is not about a container"),
        ({"container": ["idle"], "duration": "4h"}, "there is no container"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused_with_a_sentence(
    site: EngineSite, argument: dict[str, object], answer: str
) -> None:
    site.deliver(IDLE, an_alert({"UUID": "GPU-a"}, fingerprint="g"))

    told = site.command("extend", "alice", **argument)

    assert not told.accepted
    assert answer in told.answer
    assert site.ask("SELECT count(*) FROM extension") == [(0,)]


@pytest.mark.parametrize("error", [RefusedError("it is one of two"), SourceError("no answer")])
def test_what_cannot_be_told_is_refused_and_the_next_command_is_followed(
    site: EngineSite, error: Exception
) -> None:
    site.containers.refuses = error
    assert extend(site).answer == str(error)

    site.containers.refuses = None
    assert extend(site).accepted


def test_hostile_names_are_cleaned(site: EngineSite) -> None:
    site.containers.known["x"] = a_keepable(name="a\x1b[31m\nb\u202e")

    told = site.command(
        "extend", "bob\x1b[2J\n", container="x", duration="1h", via="\x1b", container_id="no"
    )

    assert told.answer.startswith("a[31m b is kept")
    kept = site.journal.extensions.last(TARGET.id, None)
    assert kept is not None
    assert (kept.actor, kept.via) == ("bob[2J", Via.UNKNOWN)


def test_an_old_extension_is_forgotten_with_old_incidents(site: EngineSite) -> None:
    extend(site)

    site.journal.forget(NOON + 4 * HOUR, 10)
    assert site.ask("SELECT count(*) FROM extension") == [(1,)]
    site.journal.forget(NOON + DAY, 10)

    assert site.ask("SELECT count(*) FROM extension") == [(0,)]


def test_only_the_newest_extension_of_a_run_is_in_force(site: EngineSite) -> None:
    site.containers.known["other"] = a_keepable(OTHER_TARGET, "other")
    extend(site, "2h")
    extend(site, "4h")
    extend(site, "4h", container="other")
    extend(site, "0", container="other")
    run = (TARGET.id, TARGET.started_at)

    assert site.journal.extensions.in_force(site.clock.now()) == {run: NOON + 4 * HOUR}
    assert site.journal.extensions.in_force(NOON + 4 * HOUR) == {}


def test_the_warning_offers_the_link_and_the_command(site: EngineSite) -> None:
    site.links.page_url = "https://gpu.example.org"
    warn(site)

    (body, _) = [row[0] for row in site.ask("SELECT body FROM notice ORDER BY id")]

    assert "\n    https://gpu.example.org/extend?k=cccccccccccc-1-86400\n" in body
    assert "\n    remediator extend 1 4h\n" in body
    assert "for up to 24 hours at a time" in body
