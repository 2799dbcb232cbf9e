"""What ``--help`` looks like: the same for every command, with examples at its end."""

import argparse
import textwrap
from collections.abc import Iterator

# By the command, what somebody would really type.
EXAMPLES = {
    "serve": ("remediator serve", "remediator serve --settings /etc/remediator/settings.yaml"),
    "work": ("remediator work", "remediator --log-json work --policy ./policy.yaml"),
    "run": ("remediator run --state-dir ./state --policy ./policy.yaml",),
    "export": (
        "remediator export",
        "remediator export --gpu-metrics --listen 127.0.0.1:9101",
    ),
    "incidents": ("remediator incidents list --open", "remediator incidents show 17"),
    "incidents list": (
        "remediator incidents list",
        "remediator incidents list --open --limit 100 --json",
    ),
    "incidents waiting": ("remediator incidents waiting", "remediator incidents waiting --json"),
    "incidents show": ("remediator incidents show 17", "remediator incidents show 17 --json"),
    "pause": ('remediator pause "driver update"',),
    "resume": ("remediator resume",),
    "close-breaker": ('remediator close-breaker "a class has ended, all of these were idle"',),
    "approve": ("remediator approve 17", 'remediator approve 17 "nobody is on it"'),
    "reject": ('remediator reject 17 "a demo runs on it"',),
    "extend": (
        "remediator extend train 4h",
        'remediator extend 17 1h30m --reason "a demo"',
        "remediator extend train 0",
    ),
    "simulate": (
        "remediator simulate DS01ContainerIdle container_id=c1 --mode act --warned 6m",
        "remediator simulate DS01GPUNeedsReset UUID=GPU-1 --expect waiting_for_approval",
    ),
    "check": (
        "remediator check alert_rules alertmanager/alertmanager.yml /etc/remediator/policy.yaml",
        "remediator check --rules alert_rules --prometheus http://127.0.0.1:9090 --strict",
    ),
    "backtest": (
        "remediator backtest --since 7d --rules edited.yml --html backtest.html",
        "remediator backtest --compare patient.yaml --save week.jsonl.gz",
        "remediator backtest --samples week.jsonl.gz --rules alert_rules --json",
    ),
    "doctor": ("remediator doctor", "remediator doctor --quiet --no-test-alert"),
    "backup": ("remediator backup /var/backups/remediator-2026-11-24",),
    "quiesce": (
        "remediator quiesce -- nvidia-smi -i 0 -mig 1",
        "remediator quiesce --status",
        "remediator quiesce --restore",
    ),
    "user": ("remediator user add alice --role operator", "remediator user list"),
    "user add": (
        "remediator user add alice --role operator",
        "remediator user add ci --role viewer --token",
    ),
    "user list": ("remediator user list --json",),
    "user remove": ("remediator user remove alice",),
    "notices": ("remediator notices check", "remediator notices preview warning"),
    "notices check": ("remediator notices check",),
    "notices preview": (
        "remediator notices preview warning",
        "remediator notices preview acted --html",
        "remediator notices preview warning --facts",
    ),
    "report": (
        "remediator report",
        "remediator report --month 2026-10 --html october.html",
    ),
    "stack": ("remediator stack up", "remediator stack status"),
    "stack up": ("remediator stack up", "remediator stack --directory /srv/gpu-stack up"),
    "stack down": ("remediator stack down",),
    "stack restart": ("remediator stack restart", "remediator stack restart worker"),
    "stack status": ("remediator stack status", "remediator stack status --quiet"),
    "stack logs": ("remediator stack logs --follow worker",),
    "stack update": ("remediator stack update",),
    "load": ("remediator load --gpu 0 --seconds 300 --percent 40",),
    "docs": ("remediator docs", "remediator docs troubleshooting"),
}


class Help(argparse.HelpFormatter):
    """Fills paragraphs as wide as the terminal, and leaves indented lines as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(_filled(part, width, indent) for part in _parts(text))


def _parts(text: str) -> Iterator[str]:
    """Yield the paragraphs of *text*; blank and indented lines each by itself."""
    paragraph: list[str] = []
    for line in text.splitlines():
        if line and not line.startswith(" "):
            paragraph.append(line)
            continue
        if paragraph:
            yield " ".join(paragraph)
            paragraph = []
        yield line
    if paragraph:
        yield " ".join(paragraph)


def _filled(part: str, width: int, indent: str) -> str:
    if not part or part.startswith(" "):
        return part
    return textwrap.fill(part, width, initial_indent=indent, subsequent_indent=indent)


def dress(parser: argparse.ArgumentParser) -> None:
    """Give *parser* and all commands below it the same form, with their examples."""
    parser.formatter_class = Help
    name = parser.prog.partition(" ")[2]
    if name in EXAMPLES:
        lines = "\n".join(f"  {example}" for example in EXAMPLES[name])
        parser.epilog = f"examples:\n{lines}"
    for command, about in commands_of(parser):
        command.description = _sentence(command.description or about)
        dress(command)


def _sentence(text: str) -> str:
    """Return *text* as it stands if it is a sentence, else what the list says as one."""
    is_one = text.rstrip().endswith((".", "?"))
    return text if is_one else f"{text[:1].upper()}{text[1:]}."


def commands_of(parser: argparse.ArgumentParser) -> Iterator[tuple[argparse.ArgumentParser, str]]:
    """Yield the parser of each command right below *parser*, with what the list says of it."""
    for action in parser._actions:  # argparse offers no other way to them
        if isinstance(action, argparse._SubParsersAction):
            about = {one.dest: one.help or "" for one in action._choices_actions}
            for name, command in action.choices.items():
                yield command, about.get(name, "")
