"""Notices that come at once are told as one: no flood, nothing lost, nothing urgent held back."""

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from remediator.core.notices import DigestRule, Letter, Matter, NoticeKind, warning
from remediator.core.policy import Audience
from remediator.engine.telling import tell
from remediator.errors import NotifyError
from tests.builders import HOUR, MINUTE, NOON, SECOND, a_rung, an_alert
from tests.unit.engine_site import EngineSite, open_journal
from tests.unit.mortal import DiedError, MortalDatabase

URGENT = sorted(
    set(NoticeKind)
    - {NoticeKind.ACTED, NoticeKind.INFORMED, NoticeKind.RESTORED, NoticeKind.WARNING},
    key=lambda kind: kind.value,
)


@pytest.fixture
def site(folder: Path) -> Iterator[EngineSite]:
    site = EngineSite(folder)
    yield site
    site.close()


def put(
    site: EngineSite,
    *names: str,
    to: str = "alice",
    kind: NoticeKind = NoticeKind.ACTED,
    patience: timedelta = 30 * SECOND,
    notifier: str = "mail",
) -> None:
    for name in names:
        letter = Letter(
            kind, notifier, to, name, f"{name}.\n", "", f"why {name}", f"do {name}", patience
        )
        site.journal.notices.put(None, [letter], site.clock.now())


def told(site: EngineSite) -> list[str]:
    return [envelope.letter.subject for envelope in site.mail.sent]


def wait(site: EngineSite, seconds: int = 60) -> None:
    for _ in range(seconds):
        site.send()
        site.clock.advance(SECOND)


def states(site: EngineSite) -> list[str]:
    return [row[0] for row in site.ask("SELECT state FROM notice ORDER BY id")]


def test_the_first_is_told_at_once_and_the_others_as_one(site: EngineSite) -> None:
    put(site, "a")
    site.send()
    for name in "bcdefgh":
        put(site, name)
        site.send()
        site.clock.advance(SECOND)
    assert told(site) == ["a"]

    wait(site)

    assert told(site) == ["a", "b, and 6 more"]
    body = site.mail.sent[1].letter.body
    for name in "bcdefgh":
        assert f"{name}\n  - Why: why {name}\n  - To do: do {name}\n" in body
    assert states(site) == ["sent"] * 8
    assert site.metric("notices_total", notifier="mail", result="sent") == 8
    results = {row[0] for row in site.ask("SELECT result FROM notice WHERE id > 1")}
    assert results == {"mail took it, in a digest of 7"}


def test_what_comes_at_the_very_same_moment_is_one(site: EngineSite) -> None:
    put(site, *"abcdef")
    site.send()

    assert told(site) == ["a, and 5 more"]


def test_two_are_no_flood(site: EngineSite) -> None:
    put(site, "a")
    site.send()
    put(site, *"bc")
    wait(site)

    assert told(site) == [*"abc"]


def test_none_waits_longer_than_its_patience(site: EngineSite) -> None:
    put(site, "a")
    site.send()
    for name in "bcdefghijklmnopqrstuvwxyz":
        put(site, name)
        wait(site, 3)

    assert len(told(site)) <= 4
    for row in site.ask("SELECT julianday(sent_at) - julianday(created_at) FROM notice"):
        assert row[0] is None or row[0] * 86400 <= 31


@pytest.mark.parametrize("kind", URGENT)
def test_what_is_urgent_is_neither_held_back_nor_joined(site: EngineSite, kind: NoticeKind) -> None:
    put(site, *"abcdef", kind=kind, patience=timedelta())
    site.send()

    assert told(site) == [*"abcdef"]


def test_what_is_held_back_is_in_nobodys_way(site: EngineSite) -> None:
    put(site, "first")
    site.send()
    put(site, *(f"held {n}" for n in range(100)))
    put(site, "failed", kind=NoticeKind.FAILED, patience=timedelta())
    site.send()

    assert told(site) == ["first", "failed"]


def test_only_the_same_kind_recipient_and_notifier_are_one(site: EngineSite) -> None:
    put(site, "a", "b")
    put(site, "c", to="bob")
    put(site, "d", kind=NoticeKind.INFORMED)
    put(site, "e", notifier="wall")
    wait(site)

    assert sorted(told(site)) == [*"abcd"]


def test_warnings_wait_for_a_part_of_their_notice_period_only(site: EngineSite) -> None:
    def warn(title: str, period: timedelta) -> None:
        matter = Matter(1, "gpu1", title, "alice", "DS01ContainerIdle", ())
        notice = warning(matter, a_rung(), site.clock.now() + period, period)
        tell(site.parts, notice, (Audience.ADMINS,))

    site.journal.incidents.attach(
        an_alert(), subject="container:c", fault="f", delivery=1, at=NOON, receiver="r"
    )
    warn("first", MINUTE)
    site.send()
    for title in "abcd":
        warn(title, MINUTE)
    wait(site, 3)
    assert len(site.mail.sent) == 1
    site.send()

    assert len(site.mail.sent) == 2, "a minute's warning is held back for three seconds at most"
    assert site.mail.sent[1].letter.subject.endswith("and 3 more")


def test_what_waited_for_a_dead_server_comes_in_fewer_mails_and_whole(site: EngineSite) -> None:
    site.mail.failures.extend(NotifyError("down") for _ in range(10_000))
    for number in range(40):
        put(site, f"c{number}")
        wait(site, 90)
    assert told(site) == []

    site.mail.failures.clear()
    for _ in range(60):
        site.send()
        site.clock.advance(MINUTE)

    assert set(states(site)) == {"sent"}
    assert len(told(site)) < 40 / 2
    everything = "\n".join(e.letter.subject + e.letter.body for e in site.mail.sent)
    assert all(f"c{number}\n" in everything or f"c{number}." in everything for number in range(40))


def test_a_second_copy_of_a_digest_is_the_same_digest(site: EngineSite) -> None:
    put(site, *"abcd")
    site.mail.failures.extend(NotifyError("no answer in time") for _ in range(3))
    site.send()
    put(site, *"efg")
    wait(site, 60)

    # The other one was due first, and must not take in what may have been told already.
    journal = site.journal.name[:12]
    assert [envelope.name for envelope in site.mail.sent] == [
        f"digest-5.{journal}",
        f"digest-1.{journal}",
    ]
    assert told(site) == ["e, and 2 more", "a, and 3 more"]


def test_what_was_parted_is_never_joined_again(site: EngineSite) -> None:
    put(site, *"abcd")
    site.mail.failures.append(NotifyError("message too big", permanent=True))
    site.mail.failures.extend(NotifyError("busy") for _ in range(12))
    site.send()
    put(site, *"efg")
    wait(site, 90)

    assert told(site) == ["e, and 2 more", *"abcd"]


def test_a_digest_that_is_refused_is_sent_one_by_one(site: EngineSite) -> None:
    put(site, *"abcd")
    site.mail.failures.append(NotifyError("message too big", permanent=True))
    site.mail.failures.append(NotifyError("no such user", permanent=True))
    wait(site)

    assert told(site) == [*"bcd"]
    assert states(site) == ["failed", "sent", "sent", "sent"]


def test_more_than_fit_into_one_go_in_several(site: EngineSite) -> None:
    put(site, *(f"c{number}" for number in range(250)))
    wait(site)

    assert told(site) == ["c0, and 99 more", "c100, and 99 more", "c200, and 49 more"]
    assert set(states(site)) == {"sent"}


def test_a_rule_without_patience_joins_nothing(folder: Path) -> None:
    site = EngineSite(folder, digest=DigestRule(3, timedelta()))
    for _ in range(5):
        put(site, "x", patience=min(30 * SECOND, site.parts.digest.within))
    site.send()

    assert told(site) == ["x"] * 5
    site.close()


def test_a_crash_after_any_write_loses_nothing_and_repeats_only_what_can_be_told(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    for lives in range(1, 8):
        folder = tmp_path_factory.mktemp("life")
        site = EngineSite(folder)
        put(site, *"abcdef")
        site.close()
        mortal = MortalDatabase(open_journal(folder), lives)
        dying = EngineSite(folder, database=mortal)  # type: ignore[arg-type]
        with contextlib.suppress(DiedError):
            wait(dying, 10)
        before = [(e.name, e.letter.body) for e in dying.mail.sent]
        dying.close()
        living = EngineSite(folder, clock=dying.clock)
        living.clock.advance(HOUR)
        wait(living, 10)

        sent = before + [(e.name, e.letter.body) for e in living.mail.sent]
        assert set(states(living)) == {"sent"}
        assert len(set(sent)) == 1, "a second copy has the first one's name and words"
        assert 1 <= len(sent) <= 2
        living.close()
