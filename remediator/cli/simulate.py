"""``remediator simulate``: what the policy would do about an alert, guard by guard.

Nothing is asked but the policy file: every source agrees unless a flag says otherwise, so that a
policy can be put under test where there is no GPU.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from rich.text import Text

from remediator.cli.programs import Subparsers, add_settings, settings_of
from remediator.cli.terminal import make_console
from remediator.config.policy import read_policy
from remediator.core.alerts import Alert, Firing, Status
from remediator.core.approvals import Answer, Approval
from remediator.core.attempts import AttemptState, PastAttempt
from remediator.core.case import Breaker, Case, Decision, History, Hold, HoldReason, Remediate
from remediator.core.catalogue import CATALOGUE
from remediator.core.decision import decide, explain
from remediator.core.durations import parse_duration
from remediator.core.notices import clean
from remediator.core.observation import Observation, Report, Source, Verdict
from remediator.core.policy import Mode, Policy
from remediator.core.targets import Container, Named, Target, subject_of

_ABOUT = """\
Print what the policy would do about an alert with these labels, and what each guard says. The
alert is firing, every source agrees, and nothing has been done or said before, unless a flag says
otherwise. With --expect it fails unless the outcome is that one: put it into CI.
"""
_DAY = timedelta(days=1)


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "simulate", help="what the policy would do about an alert", description=_ABOUT
    )
    add_settings(parser)
    parser.add_argument("alertname", metavar="ALERTNAME", help="the alert")
    parser.add_argument(
        "labels", nargs="*", type=_pair, metavar="LABEL=VALUE", help="further labels of the alert"
    )
    outcomes = [*(offer.name for offer in CATALOGUE), *(reason.value for reason in HoldReason)]
    parser.add_argument(
        "--expect",
        choices=outcomes,
        metavar="OUTCOME",
        help=f"exit with 1 unless this is the outcome: {', '.join(outcomes)}",
    )
    modes = [mode.value for mode in Mode]
    parser.add_argument("--mode", choices=modes, help="instead of the mode of the policy")
    parser.add_argument("--resolved", action="store_true", help="the alert has resolved")
    parser.add_argument("--paused", metavar="REASON", help="an operator has paused everything")
    parser.add_argument("--exempt", metavar="REASON", help="the target must be left alone")
    for source in Source:
        parser.add_argument(
            f"--{source.value}",
            choices=[verdict.value for verdict in Verdict],
            default=Verdict.AGREES.value,
            help="what this source makes of the alert (default: %(default)s)",
        )
    parser.add_argument(
        "--container-label",
        dest="container_labels",
        action="append",
        default=[],
        type=_pair,
        metavar="LABEL=VALUE",
        help="a label of the container, for the policy's never; may be given more than once",
    )
    parser.add_argument("--warned", type=_ago, metavar="AGO", help="it was warned so long ago: 6m")
    parser.add_argument(
        "--attempted",
        action="append",
        default=[],
        type=_attempted,
        metavar="REMEDIATION=AGO",
        help="it was tried on the target so long ago, and failed; may be given more than once",
    )
    parser.add_argument("--breaker-open", action="store_true", help="the breaker is open")
    parser.add_argument("--approved", action="store_true", help="an administrator has approved")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the decision; 1 if it is not the expected one."""
    policy = read_policy(settings_of(options).policy)
    if options.mode:
        policy = replace(policy, mode=Mode(options.mode))
    case = _case(options, policy)
    decision = decide(case)
    if options.json:
        print(json.dumps(_plain(case, decision), indent=2))
    else:
        _print(case, decision)
    outcome = _outcome(decision)
    if options.expect and options.expect != outcome:
        print(f"remediator: expected {options.expect}, got {outcome}")
        return 1
    return 0


def _case(options: argparse.Namespace, policy: Policy) -> Case:
    now = datetime.now(UTC)
    labels = {"alertname": options.alertname, **dict(options.labels)}
    target = _target(labels, now)
    alert = Alert(
        labels=labels,
        annotations={},
        status=Status.RESOLVED if options.resolved else Status.FIRING,
        firing=Firing("simulated", now.isoformat()),
        starts_at=now,
    )
    seen = Observation(
        at=now,
        target=target,
        reports=tuple(
            Report(source, Verdict(getattr(options, source.value)), "as the command line says")
            for source in Source
        ),
        labels=dict(options.container_labels),
        exempt=options.exempt,
        confirmed_labels=labels,
    )
    return Case(alert, policy, _history(options, policy, labels, target, now), seen, now)


def _history(
    options: argparse.Namespace,
    policy: Policy,
    labels: dict[str, str],
    target: Target,
    now: datetime,
) -> History:
    rule = policy.rule_for(labels)
    rungs = [rung.remediation for rung in rule.rungs] if rule else []
    attempts = tuple(
        PastAttempt(
            target_key=target.key,
            policy_rule=rule.name if rule else "",
            rung=rungs.index(name) if name in rungs else len(rungs),
            remediation=name,
            state=AttemptState.FAILED,
            planned_at=now - ago,
            ended_at=now - ago,
        )
        for name, ago in options.attempted
    )
    approvals = tuple(
        Approval(rule.name, number, target.key, now, now + _DAY, Answer.APPROVED)
        for number in range(len(rungs))
        if rule is not None and options.approved
    )
    return History(
        attempts=attempts,
        warned_at=None if options.warned is None else now - options.warned,
        paused=options.paused,
        breaker=Breaker("as the command line says") if options.breaker_open else Breaker(),
        approvals=approvals,
    )


def _target(labels: dict[str, str], now: datetime) -> Target:
    subject = subject_of(labels)
    return Container(subject.name, now - _DAY) if subject.kind == "container" else Named(subject)


def _outcome(decision: Decision) -> str:
    if isinstance(decision, Remediate):
        return decision.rung.remediation
    return decision.reason.value


def _print(case: Case, decision: Decision) -> None:
    console = make_console()
    rule = case.policy.rule_for(case.alert.labels)
    matched = f'policy rule "{rule.name}"' if rule else "no policy rule"
    console.print(Text(clean(f"{case.alert.name} on {subject_of(case.alert.labels)}: {matched}")))
    for name, hold in explain(case):
        line = Text(f"  {name:<14}  ")
        line.append("holds   " if hold else "passes", style="yellow" if hold else "green")
        line.append(clean(f"{hold.reason.value}: {hold.because}") if hold else "")
        console.print(line)
    because = decision.because if isinstance(decision, Hold) else "every guard passes"
    console.print(Text(clean(f"{_outcome(decision)}: {because}"), style="bold"))


def _plain(case: Case, decision: Decision) -> dict[str, object]:
    rule = case.policy.rule_for(case.alert.labels)
    return {
        "alertname": case.alert.name,
        "subject": str(subject_of(case.alert.labels)),
        "policy_rule": rule.name if rule else None,
        "outcome": _outcome(decision),
        "because": decision.because if isinstance(decision, Hold) else "every guard passes",
        "guards": [
            {
                "guard": name,
                "holds": hold is not None,
                "reason": hold.reason.value if hold else None,
                "because": hold.because if hold else None,
            }
            for name, hold in explain(case)
        ],
    }


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f'"{text}" is not LABEL=VALUE')
    return name, value


def _ago(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _attempted(text: str) -> tuple[str, timedelta]:
    name, ago = _pair(text)
    if name not in _names():
        raise argparse.ArgumentTypeError(f'"{name}" is not one of {", ".join(_names())}')
    return name, _ago(ago)


def _names() -> Sequence[str]:
    return [offer.name for offer in CATALOGUE]
