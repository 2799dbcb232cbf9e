"""Every guard of `decide`, and which of two wins where both would hold."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest

from remediator.core.alerts import Status
from remediator.core.approvals import Answer, Approval
from remediator.core.attempts import AttemptState, PastAttempt
from remediator.core.case import Breaker, Case, Decision, Hold, HoldReason, Remediate
from remediator.core.decision import before_looking, decide, explain
from remediator.core.extensions import Extension, Via
from remediator.core.matchers import Matcher
from remediator.core.observation import Observation, Source, Verdict
from remediator.core.policy import Audience, Limit, Mode, PolicyRule, Warn
from tests.builders import (
    DAY,
    HOUR,
    MINUTE,
    NOON,
    OTHER_TARGET,
    RULE,
    SECOND,
    a_case,
    a_policy,
    a_report,
    a_rule,
    a_rung,
    an_alert,
    an_approval,
    an_attempt,
    an_extension,
    an_observation,
)

WARN = Warn(5 * MINUTE, (Audience.OWNER,))
MICROSECOND = timedelta(microseconds=1)
IN_PROGRESS = [AttemptState.PLANNED, AttemptState.RUNNING, AttemptState.UNKNOWN]


def reason_of(decision: Decision) -> HoldReason | None:
    return decision.reason if isinstance(decision, Hold) else None


def test_what_nothing_speaks_against_is_done() -> None:
    rung = a_rung()
    case = a_case(a_policy(a_rule(rung)))

    assert before_looking(case) is None
    assert decide(case) == Remediate(RULE, 0, rung)


def test_a_resolved_alert_is_let_be() -> None:
    expected = Hold(HoldReason.RESOLVED, "the alert has resolved")
    case = a_case(alert=an_alert(status=Status.RESOLVED))

    assert decide(case) == before_looking(case) == expected


def test_an_alert_that_no_rule_matches_is_let_be() -> None:
    expected = Hold(HoldReason.NO_POLICY_RULE, "no policy rule matches its labels")
    case = a_case(alert=an_alert(name="Other"))

    assert decide(case) == before_looking(case) == expected


def test_a_pause_says_who_wanted_it_and_why() -> None:
    expected = Hold(HoldReason.PAUSED, "paused: maintenance (alice)")
    case = a_case(paused="maintenance (alice)")

    assert decide(case) == before_looking(case) == expected


def test_an_empty_reason_pauses_as_well() -> None:
    assert reason_of(decide(a_case(paused=""))) is HoldReason.PAUSED


@pytest.mark.parametrize(
    ("mode", "reason"),
    [(Mode.OBSERVE, HoldReason.OBSERVE_ONLY), (Mode.NOTIFY, HoldReason.NOTIFY_ONLY)],
)
@pytest.mark.parametrize("capped_by_rule", [True, False])
def test_a_mode_that_does_not_act_says_what_would_have_been_done(
    mode: Mode, reason: HoldReason, capped_by_rule: bool
) -> None:
    rung = a_rung()
    rule_mode, policy_mode = (mode, Mode.ACT) if capped_by_rule else (Mode.ACT, mode)

    decision = decide(a_case(a_policy(a_rule(rung, mode=rule_mode), mode=policy_mode)))

    because = f"the mode is {mode.value}; would have done stop-container"
    assert decision == Hold(reason, because, instead=Remediate(RULE, 0, rung))


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.NOTIFY])
def test_a_mode_that_does_not_act_says_why_it_would_have_held_all_the_same(mode: Mode) -> None:
    policy = a_policy(a_rule(warn=WARN), mode=mode)

    decision = decide(a_case(policy, warned_at=NOON - MINUTE))

    assert isinstance(decision, Hold)
    assert isinstance(decision.instead, Hold)
    assert decision.instead.reason is HoldReason.WARNED
    # Waiting would change nothing in this mode.
    assert decision.until is None
    assert decision.instead.until is None
    assert decision.because == (
        f"the mode is {mode.value}; would have held all the same: {decision.instead.because}"
    )


def test_approval_is_waited_for_last_of_all() -> None:
    policy = a_policy(a_rule(mode=Mode.APPROVE))

    because = "stop-container waits for an administrator to approve it"
    would = Remediate(RULE, 0, a_rung())
    expected = Hold(HoldReason.WAITING_FOR_APPROVAL, because, instead=would)
    assert decide(a_case(policy)) == expected
    assert reason_of(decide(a_case(policy, attempts=(an_attempt(NOON),)))) is HoldReason.COOLDOWN


def test_a_rules_mode_cannot_go_beyond_the_policys() -> None:
    policy = a_policy(a_rule(mode=Mode.ACT), mode=Mode.APPROVE)

    assert reason_of(decide(a_case(policy))) is HoldReason.WAITING_FOR_APPROVAL


def test_an_exempt_container_is_let_be_for_the_reason_it_gives() -> None:
    seen = an_observation(exempt="a keep-alive file is 2 h old")

    expected = Hold(HoldReason.EXEMPT, "a keep-alive file is 2 h old")
    assert decide(a_case(seen=seen)) == expected


@pytest.mark.parametrize(
    ("kept", "because"),
    [
        (an_extension(NOON + HOUR), "it is kept until 2026-03-01 13:00 UTC, by alice"),
        (
            an_extension(NOON + HOUR, actor="bob", via=Via.LINK),
            "it is kept until 2026-03-01 13:00 UTC, by bob through the link in a notice",
        ),
    ],
)
def test_an_extension_holds_until_its_end(kept: Extension, because: str) -> None:
    assert decide(a_case(kept=kept)) == Hold(HoldReason.EXEMPT, because, until=kept.until)
    instant = timedelta(microseconds=1)
    assert reason_of(decide(a_case(kept=kept, now=kept.until - instant))) is HoldReason.EXEMPT
    assert isinstance(decide(a_case(kept=kept, now=kept.until)), Remediate)


def test_an_extension_keeps_from_the_idle_stop_and_from_nothing_else() -> None:
    name = "DS01ContainerMaxRuntime"
    policy = a_policy(a_rule(alertname=name))

    decision = decide(a_case(policy, alert=an_alert(name=name), kept=an_extension()))

    assert isinstance(decision, Remediate)


@pytest.mark.parametrize(
    ("warned_at", "reason"),
    [
        (NOON - 10 * MINUTE - SECOND, HoldReason.WARNING_DUE),
        (NOON - 10 * MINUTE, None),
        (None, HoldReason.WARNING_DUE),
    ],
)
def test_what_was_warned_of_before_an_extension_ended_is_warned_of_anew(
    warned_at: datetime | None, reason: HoldReason | None
) -> None:
    """Whoever could rely on an extension gets a whole notice period after it."""
    policy = a_policy(a_rule(warn=WARN))
    kept = an_extension(NOON - 10 * MINUTE)

    decision = decide(a_case(policy, warned_at=warned_at, kept=kept))

    assert (reason_of(decision) if reason else None) is reason
    assert isinstance(decision, Remediate) is (reason is None)


def test_an_extension_makes_no_other_warning_void() -> None:
    name = "DS01ContainerMaxRuntime"
    policy = a_policy(a_rule(alertname=name, warn=WARN))
    case = a_case(
        policy, alert=an_alert(name=name), warned_at=NOON - 5 * MINUTE, kept=an_extension()
    )

    assert isinstance(decide(case), Remediate)


def test_an_exemption_without_a_sentence_exempts_as_well() -> None:
    assert reason_of(decide(a_case(seen=an_observation(exempt="")))) is HoldReason.EXEMPT


def test_a_label_the_policy_never_touches_is_named() -> None:
    policy = a_policy(never=(Matcher("ds01.protected", "=", "true"),))
    seen = an_observation(labels={"ds01.protected": "true"})

    because = 'its label ds01.protected="true" puts it out of reach of the policy'
    assert decide(a_case(policy, seen=seen)) == Hold(HoldReason.EXEMPT, because)


@pytest.mark.parametrize("labels", [{"ds01.protected": "false"}, {"other": "true"}, {}])
def test_other_labels_are_touched(labels: dict[str, str]) -> None:
    policy = a_policy(never=(Matcher("ds01.protected", "=", "true"),))

    decision = decide(a_case(policy, seen=an_observation(labels=labels)))

    assert isinstance(decision, Remediate)


def test_what_has_no_labels_of_its_own_is_not_exempt_by_their_absence() -> None:
    """A host or a GPU has no Docker labels: a negative matcher must not match all of them."""
    policy = a_policy(never=(Matcher("team", "!=", "ours"),))

    assert isinstance(decide(a_case(policy, seen=an_observation(labels={}))), Remediate)
    theirs = an_observation(labels={"team": "theirs"})
    assert reason_of(decide(a_case(policy, seen=theirs))) is HoldReason.EXEMPT


def test_without_an_observation_nothing_is_confirmed() -> None:
    case = replace(a_case(), observation=None)

    assert decide(case) == Hold(HoldReason.UNCONFIRMED, "no source could be asked")


PROMETHEUS, DOCKER, NVML = Source.PROMETHEUS, Source.DOCKER, Source.NVML


@pytest.mark.parametrize(
    ("source", "verdict", "reason"),
    [
        (PROMETHEUS, Verdict.AGREES, None),
        (PROMETHEUS, Verdict.SILENT, HoldReason.UNCONFIRMED),
        (PROMETHEUS, Verdict.DISAGREES, HoldReason.UNCONFIRMED),
        (PROMETHEUS, Verdict.GONE, HoldReason.UNCONFIRMED),
        (DOCKER, Verdict.SILENT, HoldReason.UNCONFIRMED),
        (DOCKER, Verdict.GONE, HoldReason.TARGET_GONE),
        (DOCKER, Verdict.DISAGREES, HoldReason.CONDITION_GONE),
        (NVML, Verdict.SILENT, HoldReason.UNCONFIRMED),
        (NVML, Verdict.GONE, HoldReason.TARGET_GONE),
        (NVML, Verdict.DISAGREES, HoldReason.CONDITION_GONE),
    ],
)
def test_one_source_alone_decides_against_acting(
    source: Source, verdict: Verdict, reason: HoldReason | None
) -> None:
    said = a_report(source, verdict, "that is so")
    reports = [said if other is source else a_report(other) for other in Source]

    decision = decide(a_case(seen=an_observation(*reports)))

    assert reason_of(decision) is reason
    if isinstance(decision, Hold):
        assert decision.because == f"{source.value}: that is so"


def test_without_an_exact_target_nothing_is_done() -> None:
    because = "nothing exact could be identified to act on"

    decision = decide(a_case(seen=an_observation(target=None)))

    assert decision == Hold(HoldReason.TARGET_GONE, because)


@pytest.mark.parametrize("state", IN_PROGRESS)
def test_nothing_is_begun_while_something_is_in_progress_on_the_target(
    state: AttemptState,
) -> None:
    others = an_attempt(NOON - DAY, state, policy_rule="another", remediation="notify-only")

    because = f"notify-only is {state.value} on this target"
    assert decide(a_case(attempts=(others,))) == Hold(HoldReason.IN_PROGRESS, because)


@pytest.mark.parametrize("state", IN_PROGRESS)
@pytest.mark.parametrize("other", ["reset-gpu", "restart-dcgm", "restart-service"])
def test_the_services_around_the_gpus_are_for_one_at_a_time(
    state: AttemptState, other: str
) -> None:
    elsewhere = an_attempt(NOON - DAY, state, target=OTHER_TARGET, remediation=other)
    policy = a_policy(a_rule(a_rung("reset-gpu")))

    decision = decide(a_case(policy=policy, attempts=(elsewhere,)))

    assert decision == Hold(
        HoldReason.IN_PROGRESS,
        f"{other} is {state.value} on {OTHER_TARGET.key}, and the services around the GPUs are"
        " for one at a time",
    )


@pytest.mark.parametrize(
    ("mine", "other", "state"),
    [
        ("reset-gpu", "stop-container", AttemptState.RUNNING),
        ("stop-container", "reset-gpu", AttemptState.RUNNING),
        ("reset-gpu", "reset-gpu", AttemptState.SUCCEEDED),
    ],
)
def test_what_needs_other_things_or_is_over_is_no_conflict(
    mine: str, other: str, state: AttemptState
) -> None:
    elsewhere = an_attempt(state=state, target=OTHER_TARGET, remediation=other)
    policy = a_policy(a_rule(a_rung(mine)))

    assert isinstance(decide(a_case(policy=policy, attempts=(elsewhere,))), Remediate)


def test_what_is_in_progress_elsewhere_or_over_is_no_obstacle() -> None:
    elsewhere = an_attempt(state=AttemptState.RUNNING, target=OTHER_TARGET)
    over = an_attempt(state=AttemptState.SUCCEEDED)

    assert isinstance(decide(a_case(attempts=(elsewhere, over))), Remediate)


def test_a_warning_comes_first() -> None:
    because = "a warning comes first, 5 min before anything is done"

    decision = decide(a_case(a_policy(a_rule(warn=WARN))))

    due = Remediate(RULE, 0, a_rule().rungs[0])
    assert decision == Hold(HoldReason.WARNING_DUE, because, instead=due)


@pytest.mark.parametrize(
    ("warned_ago", "active_for", "reason"),
    [
        pytest.param(6 * MINUTE, 7 * MINUTE, None, id="warned in this stretch"),
        pytest.param(6 * MINUTE, 6 * MINUTE, None, id="warned as it began"),
        pytest.param(
            6 * MINUTE, 5 * MINUTE, HoldReason.WARNING_DUE, id="warned in an earlier stretch"
        ),
        pytest.param(65 * MINUTE, DAY, None, id="an hour after the notice period"),
        pytest.param(
            65 * MINUTE + timedelta(seconds=1),
            DAY,
            HoldReason.WARNING_DUE,
            id="longer ago than people remember",
        ),
    ],
)
def test_only_a_warning_of_this_stretch_and_not_long_ago_counts(
    warned_ago: timedelta, active_for: timedelta, reason: HoldReason | None
) -> None:
    seen = replace(an_observation(), active_since=NOON - active_for)
    case = a_case(a_policy(a_rule(warn=WARN)), warned_at=NOON - warned_ago, seen=seen)

    assert reason_of(decide(case)) == reason


def test_labels_added_on_the_way_do_not_choose_what_is_done() -> None:
    other = replace(a_rule(name="another"), matchers=(Matcher("drill", "=", "yes"),))
    policy = a_policy(other, a_rule())
    alert = an_alert({"drill": "yes"})
    confirmed = {name: value for name, value in alert.labels.items() if name != "drill"}
    seen = replace(an_observation(), confirmed_labels=confirmed)

    decision = decide(replace(a_case(policy, seen=seen), alert=alert))

    assert reason_of(decision) is HoldReason.UNCONFIRMED


def test_labels_added_on_the_way_that_change_nothing_are_harmless() -> None:
    alert = an_alert({"cluster": "lab"})
    confirmed = {name: value for name, value in alert.labels.items() if name != "cluster"}
    seen = replace(an_observation(), confirmed_labels=confirmed)

    decision = decide(replace(a_case(seen=seen), alert=alert))

    assert isinstance(decision, Remediate)


@pytest.mark.parametrize(
    ("warned_ago", "reason"),
    [
        pytest.param(timedelta(), HoldReason.WARNED, id="just now"),
        pytest.param(5 * MINUTE - MICROSECOND, HoldReason.WARNED, id="the last moment"),
        pytest.param(5 * MINUTE, None, id="exactly when it was announced"),
        pytest.param(-MINUTE, HoldReason.WARNED, id="in the future: the clock was set back"),
    ],
)
def test_the_notice_that_was_given_is_kept(
    warned_ago: timedelta, reason: HoldReason | None
) -> None:
    warned_at = NOON - warned_ago

    decision = decide(a_case(a_policy(a_rule(warn=WARN)), warned_at=warned_at))

    assert reason_of(decision) is reason
    if isinstance(decision, Hold):
        assert decision.until == warned_at + 5 * MINUTE
        assert decision.because.startswith("the warning gives 5 min, ")


def test_the_time_left_is_told() -> None:
    decision = decide(a_case(a_policy(a_rule(warn=WARN)), warned_at=NOON - 3 * MINUTE))

    assert isinstance(decision, Hold)
    assert decision.because == "the warning gives 5 min, 2 min are left"


def test_only_what_takes_something_away_is_warned_of() -> None:
    policy = a_policy(a_rule(a_rung("notify-only"), warn=WARN))

    assert isinstance(decide(a_case(policy)), Remediate)


@pytest.mark.parametrize(
    ("ended_ago", "reason"),
    [
        (10 * MINUTE - MICROSECOND, HoldReason.COOLDOWN),
        (10 * MINUTE, None),
        (-MINUTE, HoldReason.COOLDOWN),
    ],
)
@pytest.mark.parametrize("state", [AttemptState.FAILED, AttemptState.SUCCEEDED])
def test_a_cooldown_is_counted_from_the_end_of_the_last_attempt(
    ended_ago: timedelta, reason: HoldReason | None, state: AttemptState
) -> None:
    last = an_attempt(NOON - HOUR, state, ended_at=NOON - ended_ago)

    decision = decide(a_case(attempts=(last,)))

    assert reason_of(decision) is reason
    if isinstance(decision, Hold):
        assert decision.because == "10 min must pass after the last stop-container"
        assert decision.until == NOON - ended_ago + 10 * MINUTE


def test_a_cooldown_is_counted_from_the_plan_where_no_end_is_known() -> None:
    planned_at = NOON - 9 * MINUTE

    decision = decide(a_case(attempts=(an_attempt(planned_at),)))

    assert isinstance(decision, Hold)
    assert (decision.reason, decision.until) == (HoldReason.COOLDOWN, planned_at + 10 * MINUTE)


def test_the_attempt_that_ended_last_counts_even_if_it_was_planned_first() -> None:
    early = an_attempt(NOON - 3 * HOUR, ended_at=NOON - MINUTE)
    late = an_attempt(NOON - 2 * HOUR, ended_at=NOON - 2 * HOUR)
    policy = a_policy(a_rule(a_rung("stop-container", Limit(5, DAY))))

    decision = decide(a_case(policy, attempts=(early, late)))

    assert isinstance(decision, Hold)
    assert decision.until == NOON + 9 * MINUTE


@pytest.mark.parametrize(
    "attempt",
    [
        pytest.param(an_attempt(NOON, AttemptState.REFUSED), id="refused before any change"),
        pytest.param(an_attempt(NOON, target=OTHER_TARGET), id="on another target"),
        pytest.param(an_attempt(NOON, policy_rule="another"), id="under another rule"),
    ],
)
def test_some_attempts_start_no_cooldown_and_spend_no_allowance(attempt: PastAttempt) -> None:
    policy = a_policy(a_rule(a_rung("stop-container", Limit(1, DAY), cooldown=HOUR)))

    assert isinstance(decide(a_case(policy, attempts=(attempt,))), Remediate)


def a_ladder() -> PolicyRule:
    return a_rule(
        a_rung("stop-container", Limit(1, HOUR), cooldown=10 * MINUTE),
        a_rung("stop-container", Limit(1, DAY), cooldown=20 * MINUTE),
    )


def test_the_cooldown_of_the_rung_that_was_tried_is_the_one_to_keep() -> None:
    policy = a_policy(a_ladder())
    first = an_attempt(NOON - 15 * MINUTE, rung=0)
    second = an_attempt(NOON - 15 * MINUTE, rung=1)

    assert decide(a_case(policy, attempts=(first,))) == Remediate(RULE, 1, a_ladder().rungs[1])
    held = decide(a_case(policy, attempts=(second,)))
    assert isinstance(held, Hold)
    assert held.reason is HoldReason.COOLDOWN
    assert held.until == NOON + 5 * MINUTE


def test_the_newest_attempt_says_which_cooldown_it_is() -> None:
    policy = a_policy(a_ladder())
    attempts = (an_attempt(NOON - 15 * MINUTE, rung=1), an_attempt(NOON - 2 * HOUR, rung=0))

    decision = decide(a_case(policy, attempts=attempts))

    assert isinstance(decision, Hold)
    assert decision.until == NOON + 5 * MINUTE


def test_after_an_edit_that_shortened_the_ladder_the_next_rungs_cooldown_is_kept() -> None:
    vanished = an_attempt(NOON - 9 * MINUTE, rung=1)

    decision = decide(a_case(attempts=(vanished,)))

    assert isinstance(decision, Hold)
    assert decision.until == NOON + MINUTE
    assert isinstance(decide(a_case(attempts=(vanished,), now=NOON + MINUTE)), Remediate)


def test_the_next_rung_is_the_first_with_allowance_left() -> None:
    policy = a_policy(a_ladder())
    used = an_attempt(NOON - 59 * MINUTE, rung=0)

    second = decide(a_case(policy, attempts=(used,)))
    first_again = decide(a_case(policy, attempts=(used,), now=NOON + MINUTE))

    assert isinstance(second, Remediate)
    assert second.number == 1
    assert isinstance(first_again, Remediate)
    assert first_again.number == 0


COOLER = replace(a_rung("cap-power"), options={"limit": 70})


def test_a_lasting_rung_that_is_in_vain_is_passed_over() -> None:
    """The GPU is limited and hot all the same: what comes next is for that."""
    policy = a_policy(a_rule(COOLER, a_rung("notify-only")))

    first = decide(a_case(policy))
    then = decide(a_case(policy, seen=replace(an_observation(), in_vain="it is limited already")))

    assert isinstance(first, Remediate)
    assert isinstance(then, Remediate)
    assert (first.number, then.number) == (0, 1)


def test_where_only_what_is_in_vain_is_left_a_person_has_to_look() -> None:
    seen = replace(an_observation(), in_vain="it is limited to 200 W already")

    decision = decide(a_case(a_policy(a_rule(COOLER)), seen=seen))

    because = "it is limited to 200 W already: a person has to look"
    assert decision == Hold(HoldReason.ATTEMPTS_EXHAUSTED, because)


def test_nothing_that_does_not_last_is_ever_in_vain() -> None:
    seen = replace(an_observation(), in_vain="it is limited to 200 W already")

    decision = decide(a_case(a_policy(a_rule(a_rung())), seen=seen))

    assert isinstance(decision, Remediate)


def test_when_every_rung_is_spent_a_person_has_to_look() -> None:
    attempts = (an_attempt(NOON - 50 * MINUTE, rung=0), an_attempt(NOON - 30 * MINUTE, rung=1))

    decision = decide(a_case(a_policy(a_ladder()), attempts=attempts))

    because = "all its remediations have been tried (2 attempts); a person has to look"
    until = NOON - 30 * MINUTE + DAY
    assert decision == Hold(HoldReason.ATTEMPTS_EXHAUSTED, because, until=until)


@pytest.mark.parametrize(
    ("planned_ago", "reason"),
    [
        (6 * HOUR - MICROSECOND, HoldReason.ATTEMPTS_EXHAUSTED),
        (6 * HOUR, None),
    ],
)
def test_attempts_leave_their_window(planned_ago: timedelta, reason: HoldReason | None) -> None:
    attempts = (an_attempt(NOON - planned_ago), an_attempt(NOON - HOUR))

    assert reason_of(decide(a_case(attempts=attempts))) is reason


def test_attempts_of_the_future_spend_allowance() -> None:
    """The clock was set back: doubt about time makes no room for another attempt."""
    rung = a_rung("stop-container", Limit(1, HOUR), cooldown=timedelta())
    future = an_attempt(NOON + DAY)
    over = replace(future, ended_at=NOON - HOUR)

    decision = decide(a_case(a_policy(a_rule(rung)), attempts=(over,)))

    assert reason_of(decision) is HoldReason.ATTEMPTS_EXHAUSTED


def test_that_people_have_been_told_already_is_no_exhaustion() -> None:
    """There is nothing to escalate: telling people was all that there was to do."""
    told = an_attempt(NOON - HOUR, AttemptState.SUCCEEDED, remediation="notify-only")
    policy = a_policy(a_rule(a_rung("notify-only", Limit(1, 12 * HOUR))))

    decision = decide(a_case(policy, attempts=(told,)))

    because = "people have been told already"
    assert decision == Hold(HoldReason.COOLDOWN, because, until=NOON + 11 * HOUR)


def elsewhere(
    planned_at: datetime = NOON - MINUTE, state: AttemptState = AttemptState.SUCCEEDED
) -> PastAttempt:
    return an_attempt(planned_at, state, target=OTHER_TARGET, policy_rule="another")


@pytest.mark.parametrize(
    ("attempt", "spends"),
    [
        pytest.param(elsewhere(), True, id="done elsewhere"),
        pytest.param(elsewhere(state=AttemptState.FAILED), True, id="failed elsewhere"),
        pytest.param(elsewhere(state=AttemptState.PLANNED), True, id="planned elsewhere"),
        pytest.param(elsewhere(state=AttemptState.RUNNING), True, id="running elsewhere"),
        pytest.param(elsewhere(state=AttemptState.UNKNOWN), True, id="unknown elsewhere"),
        pytest.param(elsewhere(NOON + DAY), True, id="stamped in the future"),
        pytest.param(elsewhere(NOON - HOUR + MICROSECOND), True, id="just inside the window"),
        pytest.param(elsewhere(NOON - HOUR), False, id="exactly outside the window"),
        pytest.param(elsewhere(state=AttemptState.REFUSED), False, id="refused"),
        pytest.param(
            an_attempt(NOON - MINUTE, target=OTHER_TARGET, remediation="notify-only"),
            False,
            id="took nothing away",
        ),
        pytest.param(an_attempt(NOON - 50 * MINUTE), True, id="on this very target"),
    ],
)
def test_every_destructive_attempt_on_the_host_counts_for_the_breaker(
    attempt: PastAttempt, spends: bool
) -> None:
    policy = a_policy(open_after=(Limit(1, HOUR),))

    decision = decide(a_case(policy, attempts=(attempt,)))

    assert reason_of(decision) is (HoldReason.BREAKER_OPEN if spends else None)


def test_a_spent_budget_says_when_there_is_room_again() -> None:
    policy = a_policy(budget={"stop-container": (Limit(2, HOUR), Limit(2, DAY))})
    attempts = (elsewhere(NOON - 20 * MINUTE), elsewhere(NOON - 10 * MINUTE))

    decision = decide(a_case(policy, attempts=attempts))

    because = "the host's budget for stop-container is spent"
    assert decision == Hold(HoldReason.BUDGET, because, until=NOON - 20 * MINUTE + DAY)


def test_a_budget_counts_its_own_remediation_and_nothing_that_was_refused() -> None:
    policy = a_policy(budget={"stop-container": (Limit(1, HOUR),)})
    others = (
        an_attempt(NOON - MINUTE, target=OTHER_TARGET, remediation="notify-only"),
        an_attempt(NOON - MINUTE, AttemptState.REFUSED, target=OTHER_TARGET),
    )

    assert isinstance(decide(a_case(policy, attempts=others)), Remediate)


def test_the_budget_of_one_remediation_does_not_hold_another() -> None:
    policy = a_policy(a_rule(a_rung("notify-only")), budget={"stop-container": (Limit(1, HOUR),)})

    assert isinstance(decide(a_case(policy, attempts=(elsewhere(),))), Remediate)


def test_the_breaker_opens_with_the_attempt_that_would_be_one_too_many() -> None:
    policy = a_policy(open_after=(Limit(3, HOUR), Limit(2, DAY)))
    attempts = (elsewhere(NOON - 2 * HOUR), elsewhere(NOON - MINUTE))

    decision = decide(a_case(policy, attempts=attempts))

    opens = "2 destructive attempts within 1 d"
    assert decision == Hold(HoldReason.BREAKER_OPEN, f"the breaker opens: {opens}", opens=opens)


def test_an_open_breaker_holds_however_long_ago_the_attempts_were() -> None:
    case = a_case(breaker=Breaker(open_because="too much"))

    assert decide(case) == Hold(HoldReason.BREAKER_OPEN, "the breaker is open: too much")


@pytest.mark.parametrize("breaker", [Breaker(open_because="too much"), Breaker()])
def test_people_are_told_even_while_the_breaker_is_open(breaker: Breaker) -> None:
    policy = a_policy(a_rule(a_rung("notify-only")), open_after=(Limit(1, HOUR),))

    case = a_case(policy, attempts=(elsewhere(),), breaker=breaker)

    assert isinstance(decide(case), Remediate)


@pytest.mark.parametrize(
    ("closed_at", "opens"),
    [
        pytest.param(NOON - 2 * MINUTE, True, id="before the attempt"),
        pytest.param(NOON - MINUTE, True, id="at the very moment: that may have been after it"),
        pytest.param(NOON, False, id="after the attempt"),
        pytest.param(NOON + MINUTE, True, id="ahead of us, by a clock that was set back"),
    ],
)
def test_what_was_done_before_a_person_closed_the_breaker_does_not_open_it_again(
    closed_at: datetime, opens: bool
) -> None:
    policy = a_policy(open_after=(Limit(1, HOUR),))
    attempts = (elsewhere(NOON - MINUTE),)

    decision = decide(a_case(policy, attempts=attempts, breaker=Breaker(closed_at=closed_at)))

    assert reason_of(decision) is (HoldReason.BREAKER_OPEN if opens else None)


APPROVE = a_policy(a_rule(mode=Mode.APPROVE))


@pytest.mark.parametrize(
    "approval",
    [
        pytest.param(an_approval(expires_at=NOON), id="nobody answered in time"),
        pytest.param(an_approval(Answer.APPROVED, expires_at=NOON), id="approved too long ago"),
        pytest.param(
            an_approval(Answer.APPROVED, asked_at=NOON + MINUTE), id="the clock was set back"
        ),
        pytest.param(an_approval(Answer.APPROVED, target=OTHER_TARGET), id="another target"),
        pytest.param(an_approval(Answer.APPROVED, policy_rule="other"), id="another policy rule"),
        pytest.param(an_approval(Answer.APPROVED, rung=1), id="another rung"),
    ],
)
def test_what_nobody_approved_is_asked_for(approval: Approval) -> None:
    decision = decide(a_case(APPROVE, approvals=(approval,)))

    because = "stop-container waits for an administrator to approve it"
    would = Remediate(RULE, 0, a_rung())
    assert decision == Hold(HoldReason.WAITING_FOR_APPROVAL, because, instead=would)


def test_a_question_is_not_asked_twice() -> None:
    decision = decide(a_case(APPROVE, approvals=(an_approval(),)))

    because = "stop-container waits for an administrator to approve it within 1 h"
    assert decision == Hold(HoldReason.WAITING_FOR_APPROVAL, because, until=NOON + HOUR)


def test_what_was_approved_is_done() -> None:
    approvals = (an_approval(expires_at=NOON - MINUTE), an_approval(Answer.APPROVED))

    assert isinstance(decide(a_case(APPROVE, approvals=approvals)), Remediate)


def test_approval_lifts_no_other_guard() -> None:
    case = a_case(APPROVE, approvals=(an_approval(Answer.APPROVED),), attempts=(an_attempt(NOON),))

    assert reason_of(decide(case)) is HoldReason.COOLDOWN


@pytest.mark.parametrize("expires_at", [NOON + HOUR, NOON - HOUR])
def test_a_rejection_stays(expires_at: datetime) -> None:
    rejected = an_approval(Answer.REJECTED, expires_at=expires_at)

    decision = decide(a_case(APPROVE, approvals=(rejected,)))

    because = "carol rejected stop-container: I said so"
    assert decision == Hold(HoldReason.WAITING_FOR_APPROVAL, because)


def test_the_newest_question_counts() -> None:
    approvals = (an_approval(Answer.REJECTED), an_approval(Answer.APPROVED))

    assert isinstance(decide(a_case(APPROVE, approvals=approvals)), Remediate)


def test_nobody_has_to_approve_that_people_are_told() -> None:
    policy = a_policy(a_rule(a_rung("notify-only"), mode=Mode.APPROVE))

    assert isinstance(decide(a_case(policy)), Remediate)


Change = Callable[[Case], Case]


@dataclass(frozen=True)
class Obstacle:
    """One change to a case without obstacles that makes exactly one guard hold."""

    reason: HoldReason
    change: Change


def _resolved(case: Case) -> Case:
    return replace(case, alert=replace(case.alert, status=Status.RESOLVED))


def _no_rule(case: Case) -> Case:
    return replace(case, alert=replace(case.alert, labels={"alertname": "Other"}))


def _paused(case: Case) -> Case:
    return replace(case, history=replace(case.history, paused="x"))


def _mode(mode: Mode) -> Change:
    return lambda case: replace(case, policy=replace(case.policy, mode=mode))


def _exempt(case: Case) -> Case:
    return replace(case, observation=replace(_seen(case), exempt="x"))


def _says(verdict: Verdict, source: Source) -> Change:
    def change(case: Case) -> Case:
        seen = _seen(case)
        reports = (*seen.reports, a_report(source, verdict))
        return replace(case, observation=replace(seen, reports=reports))

    return change


def _attempts(*more: PastAttempt) -> Change:
    def change(case: Case) -> Case:
        history = replace(case.history, attempts=(*case.history.attempts, *more))
        return replace(case, history=history)

    return change


def _warned(case: Case) -> Case:
    return _with_warning(replace(case, history=replace(case.history, warned_at=NOON)))


def _with_warning(case: Case) -> Case:
    rules = tuple(replace(rule, warn=WARN) for rule in case.policy.rules)
    return replace(case, policy=replace(case.policy, rules=rules))


def _budget(case: Case) -> Case:
    policy = replace(case.policy, budget={"stop-container": (Limit(1, HOUR),)})
    return _attempts(elsewhere())(replace(case, policy=policy))


def _breaker(case: Case) -> Case:
    breaker = Breaker(open_because="too much")
    return replace(case, history=replace(case.history, breaker=breaker))


def _seen(case: Case) -> Observation:
    assert case.observation is not None
    return case.observation


OBSTACLES = [
    Obstacle(HoldReason.RESOLVED, _resolved),
    Obstacle(HoldReason.NO_POLICY_RULE, _no_rule),
    Obstacle(HoldReason.PAUSED, _paused),
    Obstacle(HoldReason.OBSERVE_ONLY, _mode(Mode.OBSERVE)),
    Obstacle(HoldReason.NOTIFY_ONLY, _mode(Mode.NOTIFY)),
    Obstacle(HoldReason.EXEMPT, _exempt),
    Obstacle(HoldReason.UNCONFIRMED, _says(Verdict.SILENT, Source.PROMETHEUS)),
    Obstacle(HoldReason.TARGET_GONE, _says(Verdict.GONE, Source.DOCKER)),
    Obstacle(HoldReason.CONDITION_GONE, _says(Verdict.DISAGREES, Source.NVML)),
    Obstacle(HoldReason.IN_PROGRESS, _attempts(an_attempt(NOON - DAY, AttemptState.RUNNING))),
    Obstacle(HoldReason.WARNING_DUE, _with_warning),
    Obstacle(HoldReason.WARNED, _warned),
    Obstacle(HoldReason.COOLDOWN, _attempts(an_attempt(NOON - MINUTE))),
    Obstacle(
        HoldReason.ATTEMPTS_EXHAUSTED,
        _attempts(an_attempt(NOON - 2 * HOUR), an_attempt(NOON - 2 * HOUR)),
    ),
    Obstacle(HoldReason.BUDGET, _budget),
    Obstacle(HoldReason.BREAKER_OPEN, _breaker),
    Obstacle(HoldReason.WAITING_FOR_APPROVAL, _mode(Mode.APPROVE)),
]
# A policy has one mode, and a target was either warned or not: these can't both hold.
_EITHER = [
    {HoldReason.OBSERVE_ONLY, HoldReason.NOTIFY_ONLY, HoldReason.WAITING_FOR_APPROVAL},
    {HoldReason.WARNING_DUE, HoldReason.WARNED},
]
PAIRS = [
    (first, second)
    for number, first in enumerate(OBSTACLES)
    for second in OBSTACLES[number + 1 :]
    if not any({first.reason, second.reason} <= either for either in _EITHER)
]


def test_there_is_an_obstacle_for_every_reason_in_the_order_of_the_guards() -> None:
    assert [obstacle.reason for obstacle in OBSTACLES] == list(HoldReason)


@pytest.mark.parametrize("obstacle", OBSTACLES, ids=lambda obstacle: obstacle.reason.value)
def test_each_obstacle_alone_holds_for_its_reason(obstacle: Obstacle) -> None:
    assert reason_of(decide(obstacle.change(a_case()))) is obstacle.reason


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param(first, second, id=f"{first.reason.value} before {second.reason.value}")
        for first, second in PAIRS
    ],
)
def test_the_earlier_guard_wins(first: Obstacle, second: Obstacle) -> None:
    forward = second.change(first.change(a_case()))
    backward = first.change(second.change(a_case()))

    assert reason_of(decide(forward)) is first.reason
    assert reason_of(decide(backward)) is first.reason


@pytest.mark.parametrize("obstacle", OBSTACLES, ids=lambda obstacle: obstacle.reason.value)
def test_the_explanation_begins_with_the_guard_that_decides(obstacle: Obstacle) -> None:
    case = obstacle.change(a_case())

    held = [hold for _, hold in explain(case) if hold is not None]

    assert held[0] == decide(case)


def test_the_explanation_names_every_guard_in_order() -> None:
    passed = explain(a_case(a_policy(mode=Mode.APPROVE)))

    assert [name for name, _ in passed] == [
        "resolved", "policy rule", "pause", "mode", "exempt", "unconfirmed", "target gone",
        "condition gone", "in progress", "conflicting", "warning", "cooldown", "exhausted",
        "budget", "breaker", "approval",
    ]  # fmt: skip
    assert [name for name, hold in passed if hold is not None] == ["approval"]
    unruled = explain(_no_rule(a_case()))
    assert [name for name, _ in unruled] == ["resolved", "policy rule", "pause"]


def test_what_needs_no_observation_is_held_before_looking() -> None:
    held = [
        obstacle.reason
        for obstacle in OBSTACLES
        if before_looking(replace(obstacle.change(a_case()), observation=None)) is not None
    ]

    assert held == [HoldReason.RESOLVED, HoldReason.NO_POLICY_RULE, HoldReason.PAUSED]


def test_a_mode_that_does_not_act_says_that_a_warning_would_have_come_first() -> None:
    warn = Warn(5 * MINUTE, (Audience.OWNER,))
    policy = a_policy(a_rule(a_rung(), warn=warn), mode=Mode.OBSERVE)

    decision = decide(a_case(policy))

    assert isinstance(decision, Hold)
    assert decision.because == (
        "the mode is observe; would have given a warning, and then done stop-container"
    )
