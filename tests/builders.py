"""Values for tests, with defaults for everything a test is not about."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from remediator.core.alerts import Alert, Firing, Status
from remediator.core.approvals import Answer, Approval
from remediator.core.attempts import AttemptState, PastAttempt, Task
from remediator.core.case import Breaker, Case, History
from remediator.core.extensions import Extension, Keepable, Via
from remediator.core.matchers import Matcher
from remediator.core.observation import Observation, Report, Source, Verdict
from remediator.core.policy import Limit, Mode, Policy, PolicyRule, Rung, Warn
from remediator.core.targets import Container, Target

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

NAME = "DS01ContainerIdle"
RULE = "idle container"
THREE_SOURCES = (Source.PROMETHEUS, Source.DOCKER, Source.NVML)
TARGET = Container("c" * 64, NOON - 5 * HOUR)
OTHER_TARGET = Container("d" * 64, NOON - 5 * HOUR)


def an_alert(
    labels: Mapping[str, str] | None = None,
    *,
    name: str = NAME,
    status: Status = Status.FIRING,
    fingerprint: str = "60c6e0280cbb09d5",
    starts_at: str = "2026-03-01T11:00:00Z",
) -> Alert:
    return Alert(
        labels={"alertname": name, **(labels or {})},
        annotations={"summary": "it lies idle"},
        status=status,
        firing=Firing(fingerprint, starts_at),
        starts_at=datetime.fromisoformat(starts_at).astimezone(UTC),
    )


def a_rung(
    remediation: str = "stop-container",
    *attempts: Limit,
    cooldown: timedelta = 10 * MINUTE,
) -> Rung:
    """Return a rung that may be tried twice in six hours, or as *attempts* say."""
    return Rung(remediation, attempts=attempts or (Limit(2, 6 * HOUR),), cooldown=cooldown)


def a_rule(
    *rungs: Rung,
    name: str = RULE,
    alertname: str = NAME,
    mode: Mode = Mode.ACT,
    warn: Warn | None = None,
) -> PolicyRule:
    return PolicyRule(
        name=name,
        matchers=(Matcher("alertname", "=", alertname),),
        rungs=rungs or (a_rung(),),
        mode=mode,
        warn=warn,
    )


def a_policy(
    *rules: PolicyRule,
    mode: Mode = Mode.ACT,
    never: tuple[Matcher, ...] = (),
    budget: Mapping[str, tuple[Limit, ...]] | None = None,
    open_after: tuple[Limit, ...] = (Limit(10, HOUR), Limit(30, DAY)),
) -> Policy:
    return Policy(
        mode=mode,
        rules=rules or (a_rule(),),
        never=never,
        budget=budget or {},
        open_after=open_after,
    )


def a_report(
    source: Source = Source.PROMETHEUS,
    verdict: Verdict = Verdict.AGREES,
    says: str = "it says so",
) -> Report:
    return Report(source, verdict, says)


def an_observation(
    *reports: Report,
    target: Target | None = TARGET,
    labels: Mapping[str, str] | None = None,
    exempt: str | None = None,
) -> Observation:
    """Return an observation in which every source agrees, or says what *reports* say."""
    return Observation(
        at=NOON,
        target=target,
        reports=reports or tuple(a_report(source) for source in THREE_SOURCES),
        labels=labels or {},
        exempt=exempt,
    )


def an_attempt(
    planned_at: datetime = NOON - HOUR,
    state: AttemptState = AttemptState.FAILED,
    *,
    target: Target = TARGET,
    policy_rule: str = RULE,
    rung: int = 0,
    remediation: str = "stop-container",
    ended_at: datetime | None = None,
) -> PastAttempt:
    return PastAttempt(target.key, policy_rule, rung, remediation, state, planned_at, ended_at)


def a_plan(target: Target = TARGET, planned_at: datetime = NOON) -> PastAttempt:
    return an_attempt(planned_at, AttemptState.PLANNED, target=target)


def a_task(target: Target = TARGET) -> Task:
    return Task(target)


def an_approval(
    answer: Answer = Answer.WAITING,
    *,
    asked_at: datetime = NOON - HOUR,
    expires_at: datetime = NOON + HOUR,
    policy_rule: str = RULE,
    rung: int = 0,
    target: Target = TARGET,
) -> Approval:
    """Return a question about the first rung, answered by carol if it was."""
    given = ("", "") if answer is Answer.WAITING else ("carol", "I said so")
    return Approval(policy_rule, rung, target.key, asked_at, expires_at, answer, *given)


def an_extension(
    until: datetime = NOON + HOUR, *, actor: str = "alice", via: Via = Via.CLI
) -> Extension:
    return Extension(until, actor, via, NOON - MINUTE)


def a_keepable(target: Container = TARGET, name: str = "idle") -> Keepable:
    return Keepable(target, name, DAY)


def a_case(
    policy: Policy | None = None,
    *,
    alert: Alert | None = None,
    attempts: tuple[PastAttempt, ...] = (),
    warned_at: datetime | None = None,
    paused: str | None = None,
    breaker: Breaker | None = None,
    approvals: tuple[Approval, ...] = (),
    kept: Extension | None = None,
    seen: Observation | None = None,
    now: datetime = NOON,
) -> Case:
    """Return a case in which nothing speaks against acting; `unseen` takes its eyes away."""
    return Case(
        alert=alert or an_alert(),
        policy=policy or a_policy(),
        history=History(attempts, warned_at, paused, breaker or Breaker(), approvals, kept),
        observation=seen or an_observation(),
        now=now,
    )
