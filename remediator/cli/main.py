"""The command line: which command there is, and what its ending means to a shell.

Exit codes: 0 done · 1 could not, or the answer is no · 2 usage · 3 a bug · 130 interrupted.
``quiesce`` has the command's own, and 124 to 127 for what becomes of the services.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from remediator import __version__
from remediator.cli import (
    backup,
    check,
    docs,
    doctor,
    export,
    incidents,
    load,
    notices,
    operate,
    programs,
    quiesce,
    report,
    simulate,
    stack,
    users,
)
from remediator.cli.help import dress
from remediator.errors import ConfigError, RemediatorError
from remediator.logs import set_up_logging

_BUG = 3
_INTERRUPTED = 130
_LEVELS = ("debug", "info", "warning", "error")


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    parser = make_parser()
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


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
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
    programs.add_to(subparsers)
    export.add_to(subparsers)
    incidents.add_to(subparsers)
    operate.add_to(subparsers)
    report.add_to(subparsers)
    simulate.add_to(subparsers)
    check.add_to(subparsers)
    doctor.add_to(subparsers)
    backup.add_to(subparsers)
    quiesce.add_to(subparsers)
    users.add_to(subparsers)
    notices.add_to(subparsers)
    load.add_to(subparsers)
    docs.add_to(subparsers)
    stack.add_to(subparsers)
    dress(parser)
    return parser


def entry_point() -> None:
    """Be the ``remediator`` command."""
    sys.exit(main(sys.argv[1:]))
