from dataclasses import replace
from datetime import timedelta

import pytest

from remediator.core.notices import (
    Matter,
    Notice,
    NoticeKind,
    Text,
    WayToKeep,
    acted,
    approval_wanted,
    breaker_opened,
    clean,
    escalated,
    failed,
    informed,
    restored,
    warning,
)
from remediator.core.policy import Rung
from remediator.notifiers.templates import Templates
from remediator.notifiers.wording import Wording
from tests.builders import HOUR, MINUTE, NOON, a_rung

MATTER = Matter(
    incident=7,
    host="gpu-1",
    title="train",
    owner="alice",
    alert="DS01ContainerIdle",
    evidence=("prometheus: idle for 31 min", "nvml: no process"),
)
NASTY = "a\x1b[2J\r\n\n-- \nFrom: root\u202e\u200b{0.incident}"
KEPT = Rung("stop-container", options={"remove": False})


def never() -> None:
    raise AssertionError("a built-in template fails")


def said(notice: Notice) -> Text:
    """Return *notice* in our words."""
    return Wording(Templates(), never).write(notice)


def test_a_warning_says_what_will_happen_when_why_and_how_to_prevent_it() -> None:
    notice = warning(MATTER, a_rung(), NOON + 5 * MINUTE, 5 * MINUTE)

    local = (NOON + 5 * MINUTE).astimezone().strftime("%H:%M:%S %Z on %d %B %Y")
    assert notice.kind is NoticeKind.WARNING
    assert said(notice).subject == "train on gpu-1 will be stopped and removed in 5 min"
    assert said(notice).body.startswith(
        "Your container train on gpu-1 will be stopped and removed"
        f" at {local}, in 5 min.\n\n"
        "Why: DS01ContainerIdle\n  - prometheus: idle for 31 min\n  - nvml: no process\n\n"
    )
    assert "\n    touch /workspace/.keep-alive\n" in said(notice).body
    assert said(notice).body.endswith("\n\n-- \nRemediator on gpu-1, incident 7\n")


def test_who_ran_too_long_is_told_that_no_keep_alive_helps() -> None:
    matter = replace(MATTER, alert="DS01ContainerMaxRuntime")

    notice = warning(matter, a_rung(), NOON + 60 * MINUTE, 60 * MINUTE)

    assert said(notice).body.startswith(
        "Your container train on gpu-1 has reached its maximum runtime and will be stopped and"
    )
    assert "touch" not in said(notice).body
    assert "A keep-alive does not change this." in said(notice).body


@pytest.mark.parametrize(
    ("longest", "example", "told"),
    [
        (24 * HOUR, "4h", "for up to 24 hours at a time"),
        (2 * HOUR, "2h", "for up to 2 hours at a time"),
        (HOUR, "1h", "for up to 1 h at a time"),
        (90 * MINUTE, "1h30m", "for up to 1 h 30 min at a time"),
        (20 * MINUTE, "20m", "for up to 20 min at a time"),
    ],
)
def test_a_warning_says_for_how_long_it_can_be_kept(
    longest: timedelta, example: str, told: str
) -> None:
    matter = replace(MATTER, keep=WayToKeep(longest))

    body = said(warning(matter, a_rung(), NOON, 5 * MINUTE)).body

    assert f"\n    remediator extend 7 {example}\n" in body
    assert told in body
    assert "this page" not in body


def test_a_warning_has_the_link_if_there_is_one() -> None:
    matter = replace(MATTER, keep=WayToKeep(url="https://gpu.example.org/extend?k=x"))

    body = said(warning(matter, a_rung(), NOON, 5 * MINUTE)).body

    assert "\n    https://gpu.example.org/extend?k=x\n" in body


@pytest.mark.parametrize("alert", ["DS01ContainerNeverStarted", "DS01StoppedContainerHoldsGPU"])
def test_whose_container_does_not_run_is_told_to_start_it(alert: str) -> None:
    matter = replace(MATTER, alert=alert)

    notice = warning(matter, a_rung("remove-container"), NOON, 60 * MINUTE)

    assert said(notice).subject == "train on gpu-1 will be removed in 1 h"
    assert "\n    docker start train\n" in said(notice).body
    assert "touch" not in said(notice).body


def test_a_warning_about_something_unknown_says_where_to_look() -> None:
    notice = warning(replace(MATTER, alert="Else"), a_rung(), NOON, MINUTE)

    assert "remediator incidents show 7" in said(notice).body


def test_a_container_that_is_kept_is_not_called_removed() -> None:
    warned = warning(MATTER, KEPT, NOON, 5 * MINUTE)
    done = acted(MATTER, KEPT.remediation, KEPT.options, "it has stopped")

    assert said(warned).subject == "train on gpu-1 will be stopped in 5 min"
    assert said(done).subject == "train on gpu-1 was stopped"


def test_a_remediation_without_a_word_of_its_own_is_named() -> None:
    assert (
        said(acted(MATTER, "cap-power", {}, "x")).subject
        == "train on gpu-1 was limited in its power"
    )


def test_what_was_done_is_told_with_its_outcome() -> None:
    notice = acted(MATTER, "stop-container", {}, "it ended by itself after 2 s")

    assert notice.kind is NoticeKind.ACTED
    assert said(notice).subject == "train on gpu-1 was stopped and removed"
    assert "was stopped and removed: it ended by itself after 2 s.\n" in said(notice).body
    assert "Files in mounted folders are untouched." in said(notice).body


@pytest.mark.parametrize(
    ("notice", "kind", "subject", "sentence"),
    [
        (
            failed(MATTER, "stop-container", "it still runs"),
            NoticeKind.FAILED,
            "stop-container failed for train on gpu-1",
            "stop-container did not succeed: it still runs.",
        ),
        (
            escalated(MATTER, "2 attempts"),
            NoticeKind.ESCALATED,
            "train on gpu-1 needs a person",
            "Remediator has come to its end: 2 attempts.",
        ),
        (
            informed(MATTER, "It will be stopped soon"),
            NoticeKind.INFORMED,
            "DS01ContainerIdle: train on gpu-1",
            "It will be stopped soon",
        ),
        (
            informed(MATTER, " \n"),
            NoticeKind.INFORMED,
            "DS01ContainerIdle: train on gpu-1",
            "DS01ContainerIdle fires.",
        ),
    ],
)
def test_other_notices_say_where_to_look(
    notice: Notice, kind: NoticeKind, subject: str, sentence: str
) -> None:
    assert notice.kind is kind
    assert said(notice).subject == subject
    assert said(notice).body.startswith(f"{sentence}\n\nWhy: DS01ContainerIdle\n")
    assert "\n    remediator incidents show 7\n" in said(notice).body


def test_what_only_informs_of_a_container_says_how_to_keep_it() -> None:
    assert "touch /workspace/.keep-alive" in said(informed(MATTER, "soon", keepable=True)).body


def test_without_evidence_the_alert_is_the_reason() -> None:
    notice = escalated(replace(MATTER, evidence=()), "x")

    assert "\n\nWhy: DS01ContainerIdle\n\nNothing more is done" in said(notice).body


@pytest.mark.parametrize(
    "notice",
    [
        warning(replace(MATTER, title=NASTY), a_rung(), NOON, MINUTE),
        acted(replace(MATTER, title=NASTY), "stop-container", {}, NASTY),
        failed(replace(MATTER, host=NASTY), "stop-container", NASTY),
        escalated(replace(MATTER, alert=NASTY), NASTY),
        informed(replace(MATTER, evidence=(NASTY,)), NASTY),
        informed(replace(MATTER, alert=NASTY, title=NASTY), ""),
    ],
    ids=lambda notice: notice.kind.value,
)
def test_text_from_outside_neither_starts_a_line_nor_hides_nor_is_interpreted(
    notice: Notice,
) -> None:
    text = f"{said(notice).subject}\n{said(notice).body}"

    assert "\nFrom:" not in text
    assert text.count("\n-- \n") == 1
    assert not set(text) & {"\x1b", "\r", "\u202e", "\u200b"}
    assert "{0.incident}" in text
    assert "\n" not in said(notice).subject


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        (" a\t b\r\nc ", "a b c"),
        ("a\x00\x07\x7f\x9bb", "ab"),
        ("a\u202eb\u2066c\u200bd\ufeffe", "abcde"),
        ("a\u2028b\u2029c\u00a0d", "a b c d"),
        ("a\x85b", "ab"),
        ("\ud800x", "x"),
        ("größe 漢字 🙂", "größe 漢字 🙂"),
        ("", ""),
    ],
)
def test_clean_keeps_what_can_be_read(text: str, expected: str) -> None:
    assert clean(text) == expected


def test_clean_cuts_what_is_too_long() -> None:
    assert clean("x" * 200) == "x" * 200
    assert clean("x" * 201) == "x" * 199 + "…"
    assert clean("x" * 201, 300) == "x" * 201
    assert clean("x" * 10_000_000, 5) == "xxxx…"


def test_a_question_says_what_is_asked_for_how_long_and_how_to_answer() -> None:
    notice = approval_wanted(MATTER, KEPT, 5 * MINUTE)

    assert notice.kind is NoticeKind.APPROVAL_WANTED
    assert said(notice).subject.startswith("May train on gpu-1 be stopped")
    for part in ("for 5 min", "remediator approve 7", "remediator reject 7", "nvml: no process"):
        assert part in said(notice).body


def test_the_breaker_says_why_it_opened_and_how_it_is_closed() -> None:
    notice = breaker_opened(MATTER, "10 destructive attempts within 1 h")

    assert notice.kind is NoticeKind.BREAKER_OPENED
    assert "gpu-1" in said(notice).subject
    assert "10 destructive attempts within 1 h" in said(notice).body
    assert "remediator close-breaker" in said(notice).body


def test_what_was_put_back_is_told() -> None:
    notice = restored(MATTER, "cap-power", "700 W again")

    assert notice.kind is NoticeKind.RESTORED
    assert said(notice).subject == "cap-power has ended for train on gpu-1"
    assert "cap-power has ended: 700 W again." in said(notice).body


def test_what_failed_is_told_with_where_its_evidence_is() -> None:
    message = (
        f"it was not reset ({'nvidia-smi said: x ' * 20}); evidence is in /state/evidence/a.txt"
    )

    assert "/state/evidence/a.txt" in said(failed(MATTER, "reset-gpu", message)).body
