"""``remediator check``: whether rules, routes, policy, limits and settings fit together.

Exit codes: 0 nothing found, or only warnings · 1 an error, with ``--strict`` also a warning ·
2 usage.
"""

import argparse
import json
import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from remediator.cli.programs import Subparsers, add_settings
from remediator.config.settings import Settings, parse_url, with_environment
from remediator.core.notices import clean
from remediator.rules.checking import check, rule_set_of
from remediator.rules.findings import Finding, Severity
from remediator.rules.gathered import Gathered
from remediator.rules.live import LivePrometheus, check_live

_ABOUT = """\
Read alerting rules, Alertmanager's and Prometheus' configuration, policy, limits and settings
together, and say what is wrong with each and what does not fit between them. Files are recognised
by what is in them; a folder stands for the YAML files in it. Without FILES the configured settings,
policy and limits are checked, and what the flags name. Every finding has a code that
remediator/rules/FINDINGS.md explains.
"""
_TIMEOUT = timedelta(seconds=10)
# Of a finding, in characters: what is quoted in it may be anything.
_LONGEST = 2000


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "check", help="do rules, routes, policy and limits fit together?", description=_ABOUT
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="a file or a folder")
    add_settings(parser)
    for flag, about in (
        ("--rules", "alerting rules: a file or a folder; may be given more than once"),
        ("--alertmanager", "Alertmanager's configuration"),
        ("--prometheus-config", "Prometheus' configuration"),
        ("--limits", "the limits (REMEDIATOR_LIMITS)"),
    ):
        parser.add_argument(
            flag, type=Path, action="append", default=[], metavar="FILE", help=about
        )
    parser.add_argument(
        "--prometheus",
        type=_url,
        metavar="URL",
        help="ask this Prometheus too: is there everything that the rules use?",
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 for warnings too")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print what was found; 1 if that is an error, or with --strict anything."""
    gathered = _gather(options)
    found = check(gathered)
    if options.prometheus is not None:
        live = LivePrometheus(options.prometheus, _TIMEOUT)
        found += check_live(live, rule_set_of(gathered))
    if options.json:
        print(json.dumps(_plain(gathered.files, found), indent=2))
    else:
        for one in found:
            print(clean(str(one), _LONGEST))
        print(_summary(gathered.files, found))
    errors = _count(found, Severity.ERROR)
    return 1 if errors or (options.strict and found) else 0


def _gather(options: argparse.Namespace) -> Gathered:
    gathered = Gathered()
    for path in options.files:
        gathered.take(path)
    configured = None if options.files else _from(os.environ.get("REMEDIATOR_SETTINGS"))
    named = options.settings or configured
    if named is not None:
        gathered.take_as(named, "settings")
    settings = _configured(gathered, options)
    if options.policy or not options.files:
        gathered.take_as(options.policy or settings.policy, "policy")
    for what, paths in (
        ("rules", options.rules),
        ("alertmanager", options.alertmanager),
        ("prometheus", options.prometheus_config),
        ("limits", options.limits),
    ):
        for path in paths:
            gathered.take_as(path, what)
    if not options.files and not options.limits and settings.limits is not None:
        gathered.take_as(settings.limits, "limits")
    return gathered


def _configured(gathered: Gathered, options: argparse.Namespace) -> Settings:
    """Return where things are; what was found wrong with the settings is told already."""
    environment = {} if options.files else dict(os.environ)
    return with_environment(gathered.settings or Settings(), environment)


def _from(text: str | None) -> Path | None:
    return Path(text) if text else None


def _url(text: str) -> str:
    try:
        return parse_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _summary(files: Sequence[str], found: Sequence[Finding]) -> str:
    errors, warnings = _count(found, Severity.ERROR), _count(found, Severity.WARNING)
    read = _several(len(files), "file")
    if not found:
        return f"{read}: nothing found"
    return f"{read}: {_several(errors, 'error')}, {_several(warnings, 'warning')}"


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _count(found: Sequence[Finding], severity: Severity) -> int:
    return sum(one.kind.severity is severity for one in found)


def _plain(files: Sequence[str], found: Sequence[Finding]) -> dict[str, object]:
    return {
        "files": list(files),
        "errors": _count(found, Severity.ERROR),
        "warnings": _count(found, Severity.WARNING),
        "findings": [
            {
                "code": one.kind.code,
                "severity": one.kind.severity.value,
                "file": one.problem.file,
                "line": one.problem.line,
                "column": one.problem.column,
                "path": one.problem.path,
                "message": one.problem.message,
            }
            for one in found
        ],
    }
