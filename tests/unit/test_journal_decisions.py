from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from remediator.core.case import Decision, Hold, HoldReason, Remediate
from remediator.core.observation import Observation, Report, Source, Verdict
from remediator.journal.decisions import DecisionRecord
from remediator.journal.journal import Journal
from tests.builders import (
    HOUR,
    MINUTE,
    NOON,
    RULE,
    a_rung,
    an_alert,
    an_observation,
)

COOLDOWN = Hold(HoldReason.COOLDOWN, "10 min must pass", until=NOON + HOUR)
BUDGET = Hold(HoldReason.BUDGET, "spent")
ACT = Remediate(RULE, 0, a_rung())


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    opened = Journal.for_worker(folder)
    for fingerprint in ("60c6e0280cbb09d5", "another"):
        opened.incidents.attach(
            an_alert(fingerprint=fingerprint),
            subject="container:c",
            fault="f",
            delivery=1,
            at=NOON,
            receiver="r",
        )
    yield opened
    opened.close()


def decided(
    journal: Journal,
    decision: Decision,
    minute: int = 0,
    seen: Observation | None = None,
    fingerprint: str = "60c6e0280cbb09d5",
) -> bool:
    return journal.decisions.decided(
        1, an_alert(fingerprint=fingerprint), decision, seen, NOON + minute * MINUTE, RULE
    )


def test_a_decision_is_kept_with_its_evidence(journal: Journal) -> None:
    seen = an_observation(Report(Source.NVML, Verdict.AGREES, "0 %", {"gpu": 0.0, "none": None}))

    assert decided(journal, COOLDOWN, seen=seen)

    assert journal.decisions.of_incident(1) == [
        DecisionRecord(
            alert="DS01ContainerIdle",
            verdict="hold",
            reason="cooldown",
            because="10 min must pass",
            until=NOON + HOUR,
            policy_rule=RULE,
            evidence=[
                {
                    "source": "nvml",
                    "verdict": "agrees",
                    "says": "0 %",
                    "facts": {"gpu": 0.0, "none": None},
                }
            ],
            at=NOON,
            last_at=NOON,
            times=1,
        )
    ]


def test_the_same_hold_again_only_counts_and_keeps_the_newest_evidence(journal: Journal) -> None:
    later = replace(COOLDOWN, because="5 min must pass", until=NOON + 2 * HOUR)
    assert decided(journal, COOLDOWN)

    assert not decided(journal, later, 1, an_observation())
    assert not decided(journal, later, 2)

    (record,) = journal.decisions.of_incident(1)
    assert (record.times, record.at, record.last_at) == (3, NOON, NOON + 2 * MINUTE)
    assert (record.because, record.until) == ("5 min must pass", NOON + 2 * HOUR)
    assert record.evidence == []


def test_another_reason_is_another_decision_and_so_is_the_first_one_after_it(
    journal: Journal,
) -> None:
    assert decided(journal, COOLDOWN)
    assert decided(journal, BUDGET, 1)
    assert decided(journal, COOLDOWN, 2)

    reasons = [record.reason for record in journal.decisions.of_incident(1)]
    assert reasons == ["cooldown", "budget", "cooldown"]


def test_every_decision_to_act_is_one_of_its_own(journal: Journal) -> None:
    assert decided(journal, ACT)
    assert decided(journal, ACT, 1)

    first, second = journal.decisions.of_incident(1)
    assert (first.verdict, first.reason, first.until) == ("remediate", None, None)
    assert first.because == "stop-container: every guard passed"
    assert second.at == NOON + MINUTE


def test_firings_of_one_incident_do_not_repeat_each_other(journal: Journal) -> None:
    assert decided(journal, COOLDOWN)
    assert decided(journal, COOLDOWN, fingerprint="another")
    assert not decided(journal, COOLDOWN)

    assert [record.times for record in journal.decisions.of_incident(1)] == [2, 1]


def test_the_latest_warning_counts(journal: Journal) -> None:
    firing = an_alert().firing
    assert journal.decisions.warned_at(firing, "t", RULE) is None

    journal.decisions.warn(1, firing, "t", RULE, NOON)
    journal.decisions.warn(1, firing, "t", RULE, NOON + HOUR)

    assert journal.decisions.warned_at(firing, "t", RULE) == NOON + HOUR


def test_a_warning_counts_for_its_firing_its_target_and_its_rule_alone(journal: Journal) -> None:
    firing = an_alert().firing
    journal.decisions.warn(1, firing, "t", RULE, NOON)
    warned_at = journal.decisions.warned_at

    assert warned_at(firing, "other", RULE) is None
    assert warned_at(firing, "t", "other") is None
    assert warned_at(replace(firing, fingerprint="other"), "t", RULE) is None
    assert warned_at(replace(firing, starts_at="2026-03-01T11:00:01Z"), "t", RULE) is None
