"""The command line: which command there is, and what its ending means to a shell.

Exit codes: 0 done · 1 could not, or the answer is no · 2 usage · 3 a bug · 130 interrupted.
``quiesce`` has the command's own, and 124 to 127 for what becomes of the services.
"""

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence

from remediator import __version__
from remediator.cli.help import dress
from remediator.errors import ConfigError, RemediatorError
from remediator.logs import set_up_logging

_BUG = 3
_INTERRUPTED = 130
# The commands by the module that has them, in the order of the help. Only that of the command that
# is given is imported: a receiver has no use for Docker, and no memory or half second for it.
_MODULES = {
    "programs": ("serve", "work", "run"),
    "export": ("export",),
    "incidents": ("incidents",),
    "operate": ("pause", "resume", "close-breaker", "approve", "reject", "extend"),
    "report": ("report",),
    "simulate": ("simulate",),
    "check": ("check",),
    "backtest": ("backtest",),
    "doctor": ("doctor",),
    "backup": ("backup",),
    "quiesce": ("quiesce",),
    "users": ("user",),
    "notices": ("notices",),
    "load": ("load",),
    "docs": ("docs",),
    "stack": ("stack",),
}
_COMMANDS = frozenset(command for commands in _MODULES.values() for command in commands)
_LEVELS = ("debug", "info", "warning", "error")


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    parser = make_parser(_command_in(arguments))
    options = parser.parse_args(arguments)
    if options.log_level not in _LEVELS:
        # argparse checks what is given on the command line only.
        parser.error(
            f'REMEDIATOR_LOG_LEVEL: "{options.log_level}" is not one of {", ".join(_LEVELS)}'
        )
    set_up_logging(options.log_level, as_json=options.log_json)
    try:
        return int(options.run(options))
    except ConfigError as error:
        print(error, file=sys.stderr)
        count = len(error.problems)
        print(f"remediator: {count} problem{'s' if count > 1 else ''}", file=sys.stderr)
        return 1
    except RemediatorError as error:
        print(f"remediator: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader has seen enough; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception:
        logging.getLogger(__name__).exception("a bug, please report it")
        return _BUG


def _command_in(arguments: Sequence[str]) -> str | None:
    """Return the command that is given; None where help about all of them is asked for."""
    first = next((one for one in arguments if one in {*_COMMANDS, "-h", "--help"}), None)
    return first if first in _COMMANDS else None


def make_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the whole command line, or of *command* alone."""
    parser = argparse.ArgumentParser(
        prog="remediator",
        description="Closes the loop between GPU monitoring and GPU operations, safely.",
        epilog="Each command has a --help with examples; remediator docs has the documentation.",
    )
    parser.add_argument("--version", action="version", version=f"remediator {__version__}")
    parser.add_argument(
        "--log-level",
        choices=_LEVELS,
        default=os.environ.get("REMEDIATOR_LOG_LEVEL") or "info",
        help="how much to log (REMEDIATOR_LOG_LEVEL, default: info)",
    )
    parser.add_argument(
        "--log-json",
        action="store_true",
        default=os.environ.get("REMEDIATOR_LOG_JSON", "") not in {"", "0", "false", "no"},
        help="log one JSON object a line (REMEDIATOR_LOG_JSON)",
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for module, commands in _MODULES.items():
        if command is None or command in commands:
            importlib.import_module(f"remediator.cli.{module}").add_to(subparsers)
    dress(parser)
    return parser


def entry_point() -> None:
    """Be the ``remediator`` command."""
    sys.exit(main(sys.argv[1:]))
