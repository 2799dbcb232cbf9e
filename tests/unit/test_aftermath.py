"""Hints as values: what one is called, what tells it from another, and when it is over."""

from dataclasses import replace

import pytest

from remediator.core.aftermath import Finding, hint_is_over, hint_of
from remediator.core.alerts import Origin, Status
from remediator.core.case import Hold, HoldReason, Remediate
from remediator.core.targets import Subject, subject_of
from tests.builders import HOUR, MINUTE, NOON, SECOND, a_rule, a_rung

FINDING = Finding("DS01GPUOrphanProcess", {"pid": "7", "start_ticks": "9"}, "pid 7", "it is left")
HINT = hint_of(FINDING, "gpu1:9101", "stop-container freed GPU 0", NOON)
ACTS, TELLS = a_rule(a_rung("kill-orphan")), a_rule(a_rung("notify-only"))


def test_a_hint_is_an_alert_of_our_own() -> None:
    assert (HINT.name, HINT.status, HINT.origin) == (
        "DS01GPUOrphanProcess",
        Status.FIRING,
        Origin.EPILOG,
    )
    assert HINT.labels["instance"] == "gpu1:9101"
    assert HINT.annotations == {
        "summary": "it is left",
        "description": "stop-container freed GPU 0: it is left",
    }
    assert subject_of(HINT.labels) == Subject("process", "7@9")


def test_a_hint_names_no_exporter_that_nobody_knows() -> None:
    assert "instance" not in hint_of(FINDING, None, "stop-container freed GPU 0", NOON).labels


def test_the_same_finding_has_the_same_fingerprint_whenever_it_is_made() -> None:
    again = hint_of(FINDING, "gpu1:9101", "remove-container freed GPU 0", NOON + SECOND)
    other = hint_of(replace(FINDING, labels={"pid": "8"}), "gpu1:9101", "it", NOON)

    assert again.firing.fingerprint == HINT.firing.fingerprint
    assert again.firing != HINT.firing
    assert other.firing.fingerprint != HINT.firing.fingerprint


@pytest.mark.parametrize("reason", list(HoldReason))
@pytest.mark.parametrize("withheld", [False, True])
def test_a_hint_is_over_when_nothing_can_follow_from_it(reason: HoldReason, withheld: bool) -> None:
    hold = Hold(reason, "so it is")
    decision = Hold(HoldReason.OBSERVE_ONLY, "the mode", instead=hold) if withheld else hold
    ends = reason in {
        HoldReason.NO_POLICY_RULE,
        HoldReason.EXEMPT,
        HoldReason.TARGET_GONE,
        HoldReason.CONDITION_GONE,
    }

    assert hint_is_over(HINT, decision, ACTS, NOON) is ends
    told = reason is HoldReason.COOLDOWN
    assert hint_is_over(HINT, decision, TELLS, NOON) is (ends or told)


def test_a_hint_that_something_follows_from_ends_after_some_hours() -> None:
    decision = Remediate("idle container", 0, a_rung("kill-orphan"))

    assert not hint_is_over(HINT, decision, ACTS, NOON + 6 * HOUR)
    assert hint_is_over(HINT, decision, ACTS, NOON + 6 * HOUR + MINUTE)
