"""``remediator doctor``: say whether the whole pipeline is healthy, and if not, what mends it."""

import argparse
import json
from collections.abc import Iterable
from dataclasses import asdict

from rich.text import Text

from remediator.cli.programs import Subparsers, add_settings, settings_of
from remediator.cli.terminal import make_console
from remediator.core.notices import clean
from remediator.doctor.examination import Finding, Health, examine
from remediator.wiring.doctor import checks_of

_ABOUT = """\
Look at every part of the pipeline, from the exporters to the mail server, and say in a line how it
is and what mends it. A test alert, RemediatorDoctorTest, is sent through the real Alertmanager and
has to arrive; nothing is ever done about it. Exit code 0: all is well, 1: something is wrong.
What only root can tell is left out for everybody else, and counts for nothing.
"""
_MARKS = {
    Health.GOOD: ("ok", "green"),
    Health.BAD: ("BAD", "bold red"),
    Health.UNKNOWN: ("--", "yellow"),
}
_LONGEST = 400


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    about = "say of the whole pipeline whether it is healthy, and what mends it"
    parser = subparsers.add_parser("doctor", help=about, description=_ABOUT)
    add_settings(parser)
    parser.add_argument("--quiet", action="store_true", help="print nothing, only the exit code")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument(
        "--no-test-alert", action="store_true", help="send nothing through Alertmanager"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print a line for each check; 1 if one of them is bad."""
    checks = checks_of(settings_of(options), with_trial=not options.no_test_alert)
    found: list[Finding] = []
    for finding in examine(checks):
        found.append(finding)
        if not (options.quiet or options.json):
            _print(finding, max(len(check.name) for check in checks))
    if options.json and not options.quiet:
        print(json.dumps([_plain(finding) for finding in found], indent=2))
    return int(_is_any_bad(found))


def _print(finding: Finding, width: int) -> None:
    console = make_console()
    mark, style = _MARKS[finding.health]
    line = Text(f"{mark:<4}", style=style)
    line.append(f"{finding.name:<{width}}  {clean(finding.says, _LONGEST)}", style="default")
    console.print(line, soft_wrap=True)
    if finding.remedy:
        console.print(f"{'':<{width + 6}}-> {finding.remedy}", soft_wrap=True, markup=False)


def _plain(finding: Finding) -> dict[str, str]:
    return {**asdict(finding), "health": finding.health.value}


def _is_any_bad(findings: Iterable[Finding]) -> bool:
    return any(finding.health is Health.BAD for finding in findings)
