from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from threading import Barrier, Thread

import pytest

from remediator.core.alerts import Alert, Status
from remediator.core.attempts import Proof, Verification
from remediator.core.notices import NoticeKind
from remediator.core.observation import Observation, Report, Source, Verdict
from remediator.core.policy import Audience, Limit, Mode, Warn
from remediator.core.targets import Container
from tests.builders import DAY, HOUR, MINUTE, NOON, SECOND, a_policy, a_rule, an_alert
from tests.fakes import Look, agreeing
from tests.unit.engine_site import EngineSite, body_of, hurried

C, D = "c" * 64, "d" * 64
WARNED = Warn(5 * MINUTE, (Audience.OWNER,))


@pytest.fixture
def site(folder: Path) -> Iterator[EngineSite]:
    site = EngineSite(folder)
    yield site
    site.close()


def idle(container_id: str = C, *, fingerprint: str = "c1", name: str = "x", **more: str) -> Alert:
    labels = {"container_id": container_id, "container": name, **more}
    return an_alert(labels, fingerprint=fingerprint)


def resolved(alert: Alert) -> Alert:
    return replace(alert, status=Status.RESOLVED)


def saying(source: Source, verdict: Verdict, target: Container | None = None) -> Look:
    """Return eyes of which one source does not agree."""

    def look(alert: Alert, now: datetime) -> Observation:
        seen = agreeing(target)(alert, now)
        reports = (*(r for r in seen.reports if r.source is not source),)
        return replace(seen, reports=(*reports, Report(source, verdict, "that is not so")))

    return look


def forged(site: EngineSite) -> None:
    site.stop_container.looks[0] = saying(Source.PROMETHEUS, Verdict.DISAGREES)


def test_one_firing_leads_to_one_attempt(site: EngineSite) -> None:
    for _ in range(100):
        site.deliver(idle())
        site.round()

    assert site.states() == ["succeeded"]
    assert len(site.stop_container.executed) == 1
    assert site.told(NoticeKind.ACTED) == ["admins"]


def test_two_alerts_about_one_container_share_an_incident(site: EngineSite) -> None:
    site.deliver(idle(fingerprint="a"), idle(fingerprint="b", severity="critical"))
    site.round()

    assert len(site.journal.incidents.latest(10)) == 1
    assert len(site.journal.incidents.firings(1)) == 2
    assert site.states() == ["succeeded"]


def test_two_containers_are_two_incidents(site: EngineSite) -> None:
    site.deliver(idle(C, fingerprint="c"), idle(D, fingerprint="d"))
    site.round()

    assert len(site.journal.incidents.latest(10)) == 2
    assert site.states() == ["succeeded", "succeeded"]


def test_what_no_policy_rule_matches_is_a_visible_hold(site: EngineSite) -> None:
    site.deliver(an_alert(name="SomethingElse"))
    site.round()

    assert site.reasons() == ["no_policy_rule"]
    assert site.stop_container.observed == 0
    assert site.metric("decisions_total", decision="hold", reason="no_policy_rule") == 1


@pytest.mark.parametrize(
    ("source", "verdict", "reason"),
    [
        (Source.PROMETHEUS, Verdict.DISAGREES, "unconfirmed"),
        (Source.PROMETHEUS, Verdict.SILENT, "unconfirmed"),
        (Source.DOCKER, Verdict.SILENT, "unconfirmed"),
        (Source.NVML, Verdict.SILENT, "unconfirmed"),
        (Source.DOCKER, Verdict.GONE, "target_gone"),
        (Source.DOCKER, Verdict.DISAGREES, "condition_gone"),
        (Source.NVML, Verdict.DISAGREES, "condition_gone"),
    ],
)
def test_one_source_that_does_not_agree_is_enough_to_hold(
    site: EngineSite, source: Source, verdict: Verdict, reason: str
) -> None:
    site.stop_container.looks[0] = saying(source, verdict)
    site.deliver(idle())
    site.round()

    assert site.reasons() == [reason]
    assert (site.states(), site.told()) == ([], [])
    silent = float(verdict is Verdict.SILENT)
    assert site.metric("source_errors_total", source=source.value) == silent


def test_a_hold_that_lasts_is_written_once_and_counted(site: EngineSite) -> None:
    forged(site)
    site.deliver(idle())
    for _ in range(5):
        site.round()
        site.clock.advance(MINUTE)

    [decision] = site.journal.decisions.of_incident(1)
    assert decision.times == 5


def test_an_unforeseen_error_of_a_look_is_looked_at_again_after_its_lease(
    site: EngineSite,
) -> None:
    site.stop_container.looks.appendleft(ZeroDivisionError("a bug"))
    site.deliver(idle())

    with pytest.raises(ZeroDivisionError):
        site.look()

    assert site.due_at() == NOON + 2 * MINUTE
    site.round()
    assert site.states() == []
    site.clock.advance(2 * MINUTE)
    site.round()
    assert site.states() == ["succeeded"]


def test_a_second_rung_follows_when_the_first_is_spent(site: EngineSite) -> None:
    site.policy = a_policy(
        a_rule(hurried("stop-container", Limit(1, HOUR)), hurried("notify-only", Limit(1, HOUR)))
    )
    site.stop_container.verdicts[0] = Verification(Proof.DISPROVEN, "it runs")
    site.deliver(idle())
    site.round()
    site.clock.advance(11 * MINUTE)
    site.round()

    rungs = [a.remediation for a in site.journal.attempts.of_incident(1)]
    assert rungs == ["stop-container", "notify-only"]
    # One ladder has one target, seen with the eyes of its most dangerous rung.
    assert site.notify_only.observed == 0
    assert site.told(NoticeKind.INFORMED) == ["admins"]


def test_an_exhausted_ladder_is_escalated_exactly_once(site: EngineSite) -> None:
    site.policy = a_policy(a_rule(hurried("stop-container", Limit(2, 6 * HOUR))))
    site.stop_container.verdicts[0] = Verification(Proof.DISPROVEN, "it runs")
    site.deliver(idle())
    for _ in range(30):
        site.round()
        site.clock.advance(5 * MINUTE)
        site.deliver(idle())

    assert site.states() == ["failed", "failed"]
    assert site.told(NoticeKind.ESCALATED) == ["admins"]
    assert site.told(NoticeKind.FAILED) == ["admins", "admins"]
    assert site.reasons()[-1] == "attempts_exhausted"


def test_the_budget_is_shared_by_all_incidents(site: EngineSite) -> None:
    site.policy = a_policy(budget={"stop-container": (Limit(2, HOUR),)})
    site.deliver(*(idle(i * 64, fingerprint=i) for i in "abcd"))
    site.round()

    assert site.states() == ["succeeded"] * 2
    assert [site.reasons(n)[-1] for n in (3, 4)] == ["budget", "budget"]
    site.clock.advance(HOUR)
    site.round()
    assert site.states() == ["succeeded"] * 4


def test_looks_at_the_same_time_do_not_overdraw_the_budget(site: EngineSite) -> None:
    site.policy = a_policy(budget={"stop-container": (Limit(1, HOUR),)})
    site.deliver(*(idle(i * 64, fingerprint=i) for i in "abcd"))
    together = Barrier(4)

    def look(alert: Alert, now: datetime) -> Observation:
        together.wait(10)
        return agreeing()(alert, now)

    site.stop_container.looks[0] = lambda alert, now: replace(
        look(alert, now), target=Container(alert.labels["container_id"], NOON)
    )
    planned: list[int | None] = []
    threads = [
        Thread(target=lambda n=n: planned.append(site.looking.look(n))) for n in (1, 2, 3, 4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert sorted(p is None for p in planned) == [False, True, True, True]
    assert site.states() == ["planned"]


def test_notify_mode_tells_once_and_does_nothing(site: EngineSite) -> None:
    site.policy = a_policy(mode=Mode.NOTIFY)
    for _ in range(5):
        site.deliver(idle())
        site.round()
        site.clock.advance(MINUTE)

    assert site.told() == ["admins"]
    assert (site.states(), site.reasons()) == ([], ["notify_only"])


def test_notify_mode_tells_although_a_warning_would_come_first(site: EngineSite) -> None:
    site.policy = a_policy(a_rule(warn=WARNED), mode=Mode.NOTIFY)
    site.deliver(idle())
    site.round()

    assert site.told() == ["admins"]
    assert site.told(NoticeKind.WARNING) == []


def test_notify_mode_tells_nobody_of_a_forged_alert(site: EngineSite) -> None:
    site.policy = a_policy(mode=Mode.NOTIFY)
    forged(site)
    site.deliver(idle())
    site.round()

    assert site.told() == []
    site.stop_container.looks[0] = agreeing()
    site.clock.advance(MINUTE)
    site.round()
    assert site.told() == ["admins"]


def test_observe_mode_says_what_it_would_have_done(site: EngineSite) -> None:
    site.policy = a_policy(mode=Mode.OBSERVE)
    site.deliver(idle())
    site.round()

    [decision] = site.journal.decisions.of_incident(1)
    assert decision.reason == "observe_only"
    assert "would have done stop-container" in decision.because
    assert (site.states(), site.told()) == ([], [])


def test_a_warning_is_given_once_for_a_firing_and_its_notice_is_waited_for(
    site: EngineSite,
) -> None:
    site.policy = a_policy(a_rule(warn=WARNED))
    site.deliver(idle())
    site.round()
    assert site.due_at() == NOON + 15 * SECOND
    site.clock.advance(4 * MINUTE + 59 * SECOND)
    site.deliver(idle())
    site.round()
    assert (site.states(), site.told()) == ([], ["alice", "alice"])

    site.clock.advance(SECOND)
    site.round()

    assert site.states() == ["succeeded"]
    assert site.reasons()[:3] == ["warning_due", "warned", None]


def test_the_end_of_the_warning_is_not_slept_through(site: EngineSite) -> None:
    site.policy = a_policy(a_rule(warn=WARNED))
    site.deliver(idle())
    site.clock.advance(HOUR)  # the journal was busy: looks come rarely by now
    site.round()
    site.clock.advance(timedelta(minutes=4, seconds=30))
    site.round()

    assert site.due_at() == NOON + HOUR + 5 * MINUTE


def test_another_run_of_the_container_is_warned_for_itself(site: EngineSite) -> None:
    site.policy = a_policy(a_rule(warn=WARNED))
    site.deliver(idle())
    site.round()
    site.stop_container.looks[0] = agreeing(Container(C, NOON))
    site.clock.advance(6 * MINUTE)
    site.round()

    assert site.told(NoticeKind.WARNING) == ["alice", "alice"] * 2
    assert site.states() == []


def test_another_firing_is_warned_for_itself(site: EngineSite) -> None:
    site.policy = a_policy(a_rule(warn=WARNED))
    first = idle()
    site.deliver(first)
    site.round()
    site.deliver(resolved(first))
    site.round()
    site.clock.advance(HOUR)
    again = an_alert(first.labels, fingerprint="c1", starts_at="2026-03-01T13:00:00Z")
    site.deliver(again)
    site.round()

    assert len(site.told(NoticeKind.WARNING)) == 4
    assert site.states() == []


def test_a_resolved_alert_closes_its_incident(site: EngineSite) -> None:
    forged(site)
    site.deliver(idle())
    site.round()
    site.deliver(resolved(idle()))
    site.round()

    incident = site.journal.incidents.incident(1)
    assert incident is not None
    assert (incident.closed_at, incident.outcome) == (NOON, "resolved by itself")
    assert site.reasons() == ["unconfirmed", "resolved"]


def test_an_incident_stays_open_while_another_of_its_alerts_fires(site: EngineSite) -> None:
    forged(site)
    site.deliver(idle(fingerprint="a"), idle(fingerprint="b"))
    site.round()
    site.deliver(resolved(idle(fingerprint="a")))
    site.round()

    incident = site.journal.incidents.incident(1)
    assert incident is not None
    assert incident.closed_at is None


def test_an_incident_is_not_closed_while_an_attempt_is_in_progress(site: EngineSite) -> None:
    site.deliver(idle())
    [attempt] = site.look()
    site.deliver(resolved(idle()))
    site.look()
    incident = site.journal.incidents.incident(1)
    assert incident is not None
    assert incident.closed_at is None
    assert incident.next_look_at == NOON + 15 * SECOND

    site.carrying.carry_out(attempt)
    site.round()

    closed = site.journal.incidents.incident(1)
    assert closed is not None
    assert (closed.closed_at, closed.outcome) == (NOON, "stop-container succeeded")


def test_an_alert_that_comes_while_its_incident_is_being_closed_is_not_lost(
    folder: Path,
) -> None:
    """The clock is asked between reading the firings and closing: there the delivery comes."""
    site = EngineSite(folder)
    forged(site)
    site.deliver(idle(fingerprint="a"))
    site.round()
    site.deliver(resolved(idle(fingerprint="a")))
    asked = iter(range(100))

    class Interrupting:
        def now(self) -> datetime:
            if next(asked) == 1:
                site.store(body_of(idle(fingerprint="b")))
                site.intake.take_all(site.inbox)
            return NOON

    looking = type(site.looking)(replace(site.parts, clock=Interrupting()))
    looking.look(1)

    incident = site.journal.incidents.incident(1)
    assert incident is not None
    assert (incident.closed_at, incident.next_look_at) == (None, NOON)
    assert len(site.journal.incidents.firings(1)) == 2
    site.close()


def test_an_incident_that_is_never_confirmed_lapses_an_hour_after_its_last_repeat(
    site: EngineSite,
) -> None:
    forged(site)
    site.deliver(idle())
    site.round()
    site.clock.advance(50 * MINUTE)
    site.deliver(idle())
    site.round()
    site.clock.advance(HOUR)
    site.round()
    still = site.journal.incidents.incident(1)
    site.clock.advance(6 * MINUTE)
    site.round()

    lapsed = site.journal.incidents.incident(1)
    assert still is not None
    assert still.closed_at is None
    assert lapsed is not None
    assert lapsed.outcome == "never confirmed"


def test_a_forged_alert_that_lapses_takes_no_genuine_one_with_it(site: EngineSite) -> None:
    def look(alert: Alert, now: datetime) -> Observation:
        if alert.firing.fingerprint == "forged":
            return saying(Source.PROMETHEUS, Verdict.DISAGREES)(alert, now)
        return saying(Source.NVML, Verdict.DISAGREES)(alert, now)

    site.stop_container.looks[0] = look
    site.deliver(idle(fingerprint="forged"), idle(fingerprint="genuine"))
    for _ in range(20):
        site.round()
        site.clock.advance(5 * MINUTE)

    incident = site.journal.incidents.incident(1)
    assert incident is not None
    assert incident.closed_at is None


def test_an_alert_that_lapses_is_not_kept_by_another_that_has_resolved(site: EngineSite) -> None:
    forged(site)
    site.deliver(idle(fingerprint="forgotten"), idle(fingerprint="resolved"))
    site.deliver(resolved(idle(fingerprint="resolved")))
    site.clock.advance(2 * HOUR)

    site.look()

    incident = site.journal.incidents.incident(1)
    assert incident is not None
    assert incident.outcome == "never confirmed"
    assert site.journal.incidents.due(site.clock.now() + DAY) == []


def test_a_repeat_after_the_lapse_opens_an_incident_again(site: EngineSite) -> None:
    forged(site)
    site.deliver(idle())
    site.clock.advance(2 * HOUR)
    site.round()
    site.stop_container.looks[0] = agreeing()
    site.deliver(idle())
    site.round()

    assert [i.outcome for i in site.journal.incidents.latest(10)] == [
        "stop-container succeeded",
        "never confirmed",
    ]


def test_looks_become_rarer_while_nothing_is_heard(site: EngineSite) -> None:
    forged(site)
    site.deliver(idle())
    waits = []
    for _ in range(12):
        site.round()
        at = site.due_at()
        assert at is not None
        waits.append(at - site.clock.now())
        site.clock.advance(waits[-1])

    assert waits[0] == 15 * SECOND
    assert waits == sorted(waits)
    assert waits[-1] < 5 * MINUTE


def test_a_delivery_asks_for_a_look_at_once(site: EngineSite) -> None:
    forged(site)
    site.deliver(idle())
    site.round()
    site.clock.advance(SECOND)
    site.deliver(idle())

    assert site.due_at() == NOON + SECOND


def test_a_pause_holds_and_its_end_does_not_need_a_new_delivery(site: EngineSite) -> None:
    site.deliver(idle())
    site.journal.operations.pause("maintenance", "root", site.clock.now())
    site.round()
    assert site.reasons() == ["paused"]
    site.journal.operations.resume("root", site.clock.now())
    site.clock.advance(15 * SECOND)
    site.round()

    assert site.states() == ["succeeded"]


def firing_since(begin: datetime, verdict: Verdict = Verdict.AGREES) -> Look:
    """Return eyes with which Prometheus says so, and since when."""

    def look(alert: Alert, now: datetime) -> Observation:
        seen = agreeing()(alert, now)
        report = Report(Source.PROMETHEUS, verdict, "so says Prometheus")
        return replace(seen, reports=(report,), active_since=begin, exempt="for the test")

    return look


def outcome(site: EngineSite) -> str | None:
    incident = site.journal.incidents.incident(1)
    assert incident is not None
    assert (incident.closed_at is None) is (incident.outcome is None)
    return incident.outcome


def test_a_forged_end_changes_nothing(site: EngineSite) -> None:
    site.stop_container.looks[0] = firing_since(idle().starts_at)
    site.deliver(idle())
    site.round()
    site.deliver(resolved(idle()))
    site.look()

    [record] = site.journal.incidents.firings(1)
    assert outcome(site) is None
    assert record.alert.status is Status.FIRING
    assert site.reasons() == ["exempt", "resolved"]
    [told] = [d.because for d in site.journal.decisions.of_incident(1) if d.reason == "resolved"]
    assert told == "its end was delivered, but prometheus: so says Prometheus"
    site.round()
    assert site.reasons()[-1] == "exempt"


@pytest.mark.parametrize(
    ("begin", "verdict"),
    [
        pytest.param(6 * SECOND, Verdict.AGREES, id="it fires again, since later"),
        pytest.param(-HOUR, Verdict.DISAGREES, id="it does not fire"),
    ],
)
def test_an_end_that_prometheus_confirms_closes_the_incident(
    site: EngineSite, begin: timedelta, verdict: Verdict
) -> None:
    site.stop_container.looks[0] = firing_since(idle().starts_at + begin, verdict)
    site.deliver(idle())
    site.round()
    site.deliver(resolved(idle()))
    site.look()

    assert outcome(site) == "resolved by itself"


def test_while_prometheus_is_silent_an_end_is_doubted_but_not_for_ever(site: EngineSite) -> None:
    site.stop_container.looks[0] = firing_since(idle().starts_at, Verdict.SILENT)
    site.deliver(idle())
    site.round()
    site.deliver(resolved(idle()))
    site.look()
    assert (outcome(site), site.due_at()) == (None, NOON + 15 * SECOND)

    site.clock.advance(10 * MINUTE)
    site.look()
    assert outcome(site) is None
    site.clock.advance(15 * SECOND)
    site.look()

    assert outcome(site) == "resolved by itself"


def test_the_end_of_what_no_policy_rule_is_about_is_believed(site: EngineSite) -> None:
    site.stop_container.looks[0] = firing_since(idle().starts_at)
    site.policy = a_policy(a_rule(name="another", alertname="Another"))
    site.deliver(idle())
    site.round()
    site.deliver(resolved(idle()))
    site.look()

    assert outcome(site) == "resolved by itself"


def test_a_rejection_outlasts_a_forged_end(site: EngineSite) -> None:
    """It holds for as long as the incident: what ends the incident ends the rejection."""
    site.policy = a_policy(a_rule(hurried(), mode=Mode.APPROVE))
    seen = agreeing()(idle(), NOON)
    site.stop_container.looks[0] = lambda _alert, _now: replace(seen, active_since=idle().starts_at)
    site.deliver(idle())
    site.round()
    assert site.command("reject", incident=1, reason="a demo runs").accepted
    site.deliver(resolved(idle()))
    site.round()
    site.clock.advance(MINUTE)
    site.deliver(idle())
    site.round()

    assert site.states() == []
    assert len(site.journal.incidents.latest(9)) == 1
    assert site.reasons()[-1] == "waiting_for_approval"
