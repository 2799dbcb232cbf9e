"""``remediator stack``: the monitoring stack in containers, by the compose file that is shipped."""

import argparse
import os
import sys
from pathlib import Path

from rich.text import Text

from remediator.cli.programs import Subparsers
from remediator.cli.terminal import make_console
from remediator.stack import Stack

_ABOUT = """\
Start, stop and look at the monitoring stack in containers. These are thin wrappers around
`docker compose` with the shipped file; whatever else compose can do, it does in the same folder.
"""
_VOLUMES = "the metrics, Grafana's own data, the journal and the inbox"


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    about = "start, stop and look at the monitoring stack in containers"
    parser = subparsers.add_parser("stack", help=about, description=_ABOUT)
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(os.environ.get("REMEDIATOR_STACK") or "compose"),
        metavar="DIR",
        help="where compose.yaml is (REMEDIATOR_STACK, default: compose)",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    up = commands.add_parser("up", help="start what does not run, or has changed")
    up.set_defaults(run=_up)
    down = commands.add_parser("down", help="stop all and remove the containers; volumes stay")
    down.add_argument(
        "--volumes", action="store_true", help=f"remove {_VOLUMES} as well, after a question"
    )
    down.add_argument("--yes", action="store_true", help="do not ask")
    down.set_defaults(run=_down)
    restart = commands.add_parser("restart", help="restart all, or the services that are named")
    _add_services(restart)
    restart.set_defaults(run=_restart)
    status = commands.add_parser("status", help="say how each service is; 1 unless all are well")
    status.add_argument("--quiet", action="store_true", help="print nothing, only the exit code")
    status.set_defaults(run=_status)
    logs = commands.add_parser("logs", help="show the logs of all, or of the services named")
    _add_services(logs)
    logs.add_argument("--follow", action="store_true", help="go on with what comes")
    logs.add_argument("--tail", type=int, default=100, metavar="N", help="the last N lines of each")
    logs.set_defaults(run=_logs)
    update = commands.add_parser("update", help="fetch and build images, then start them")
    update.set_defaults(run=_update)


def _add_services(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "services", nargs="*", metavar="SERVICE", help="as compose.yaml calls it (default: all)"
    )


def _stack(options: argparse.Namespace) -> Stack:
    stack = Stack(options.directory)
    stack.check()
    return stack


def _up(options: argparse.Namespace) -> int:
    return min(_stack(options).run("up", "--detach"), 1)


def _down(options: argparse.Namespace) -> int:
    stack = _stack(options)
    if not options.volumes:
        return min(stack.run("down"), 1)
    if not options.yes and not _agrees():
        print("remediator: nothing was removed", file=sys.stderr)
        return 1
    return min(stack.run("down", "--volumes"), 1)


def _agrees() -> bool:
    print(f"This removes {_VOLUMES}. Type yes to go on: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() == "yes"


def _restart(options: argparse.Namespace) -> int:
    return min(_stack(options).run("restart", *options.services), 1)


def _status(options: argparse.Namespace) -> int:
    states = _stack(options).states()
    if not options.quiet:
        console = make_console()
        width = max((len(state.name) for state in states), default=0)
        for state in states:
            mark, style = ("ok", "green") if state.is_well else ("BAD", "bold red")
            line = Text(f"{mark:<4}", style=style)
            words = f"{state.name:<{width}}  {state.state} {state.health}".rstrip()
            line.append(words, style="default")
            console.print(line, soft_wrap=True)
    return int(not states or not all(state.is_well for state in states))


def _logs(options: argparse.Namespace) -> int:
    follow = ["--follow"] if options.follow else []
    return min(_stack(options).run("logs", f"--tail={options.tail}", *follow, *options.services), 1)


def _update(options: argparse.Namespace) -> int:
    stack = _stack(options)
    steps = [("pull", *stack.pulled()), ("build",), ("up", "--detach")]
    return int(any(stack.run(*step) != 0 for step in steps))
