"""``remediator quiesce``: have GPU services stopped for the time of a command."""

import argparse
import shlex
import shutil
import sys
from datetime import datetime, timedelta

from remediator.cli.programs import Subparsers, add_settings, settings_of
from remediator.config.settings import Settings
from remediator.core.durations import parse_duration
from remediator.core.notices import clean
from remediator.errors import EffectUnknownError, RefusedError
from remediator.quiesce.foreground import Foreground
from remediator.quiesce.lock import QuiesceLock
from remediator.quiesce.record import FILE, QuiesceRecord, Record, Recorded
from remediator.wiring.quiesce import MadeQuiesce, make_quiesce

_ABOUT = """\
Stop the services that use the GPUs (gpu_services of the settings, with their sockets, timers and
what requires them), run COMMAND, and start again exactly what ran, whatever becomes of COMMAND.

What was stopped is on the disk before: after a crash the worker brings it back within a minute, and
so does --restore where no worker runs. The exit status is COMMAND's; 125: the services could not be
stopped and COMMAND was not run; 124: COMMAND was run, and not everything runs again; 126 and 127:
COMMAND cannot be run, or is not there.
"""
_RESTORED_IN_PART, _NOT_RUN, _NOT_EXECUTABLE, _NOT_FOUND, _INTERRUPTED = 124, 125, 126, 127, 130
_LONGEST = 300


def add_to(subparsers: Subparsers) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "quiesce",
        help="stop GPU services for a command, and start what ran again",
        description=_ABOUT,
        usage="%(prog)s [options] -- COMMAND..."
        "\n       %(prog)s --status | --restore | --forget NAME",
    )
    add_settings(parser)
    parser.add_argument(
        "--services",
        type=lambda text: [name for name in text.split(",") if name],
        metavar="UNIT,UNIT",
        help="these instead of gpu_services, in the order in which to stop them",
    )
    parser.add_argument(
        "--timeout",
        type=_duration,
        default=timedelta(minutes=2),
        metavar="DURATION",
        help="the longest all stops together may take (default: 2m)",
    )
    parser.add_argument("--status", action="store_true", help="say what is stopped; 1 if anything")
    parser.add_argument(
        "--restore", action="store_true", help="start what a crash has left stopped"
    )
    parser.add_argument("--forget", metavar="NAME", help="give up what does not come back")
    parser.add_argument("command", nargs="*", metavar="COMMAND", help="what to run, after --")
    parser.set_defaults(run=run, usage_error=parser.error)


def run(options: argparse.Namespace) -> int:
    """Do one of the four things it is for."""
    asked = [bool(options.command), options.status, options.restore, options.forget is not None]
    if sum(asked) != 1:
        options.usage_error("give a COMMAND, or one of --status, --restore and --forget")
    settings = settings_of(options)
    if options.status:
        return _show(settings)
    if options.restore:
        return _restore(make_quiesce(settings))
    if options.forget is not None:
        return _forget(make_quiesce(settings), options.forget)
    return _run_command(options, settings)


def _run_command(options: argparse.Namespace, settings: Settings) -> int:
    """Run the command between stopping and restoring; what it is about is looked at before."""
    command: list[str] = options.command
    if shutil.which(command[0]) is None:
        _say(f"there is no command {command[0]}: nothing was stopped")
        return _NOT_FOUND
    made = make_quiesce(settings, units=options.services)
    foreground = Foreground()
    status: int | None = None
    try:
        with (
            foreground.guarded(),
            made.quiesce.quiesced(shlex.join(command), options.timeout) as names,
        ):
            _say(f"stopped: {', '.join(names) or 'nothing, since nothing ran'}")
            status = foreground.run(command, made.lock.fileno())
    except OSError as error:
        _say(f"{command[0]} cannot be run: {error.strerror}; all that ran runs again")
        return _NOT_EXECUTABLE
    except KeyboardInterrupt:
        _say("interrupted before the command was run; what had been stopped was started again")
        return _INTERRUPTED
    except (RefusedError, EffectUnknownError) as error:
        return _explain(str(error), status)
    finally:
        made.record.close()
    _say("all that ran runs again")
    return status


def _explain(error: str, status: int | None) -> int:
    _say(error)
    if status is None:
        _say("the command was not run")
        return _NOT_RUN
    _say(f"the command had ended with {status}; see remediator quiesce --status")
    return _RESTORED_IN_PART


def _show(settings: Settings) -> int:
    if not (settings.state_dir / FILE).exists():
        print("Nothing is stopped.")
        return 0
    record = Record.for_reading(settings.state_dir)
    try:
        unfinished = record.unfinished()
    finally:
        record.close()
    holder = QuiesceLock(settings.state_dir).holder()
    if holder is not None:
        print(clean(f"Under way: {holder}", _LONGEST))
    if not unfinished:
        print("Nothing is stopped.")
        return 0
    for quiesce in unfinished:
        _print(quiesce)
    return 1


def _print(quiesce: QuiesceRecord) -> None:
    print(clean(f"Since {_time(quiesce.began_at)} UTC for: {quiesce.why}", _LONGEST))
    for recorded in quiesce.outstanding:
        member = recorded.member
        print(f"  {member.name}, was {member.was}: {clean(_now(recorded), _LONGEST)}")


def _now(recorded: Recorded) -> str:
    if recorded.trouble:
        return f"does not run again: {recorded.trouble}"
    return "stopped" if recorded.is_stopped else "to be stopped"


def _restore(made: MadeQuiesce) -> int:
    """Start what is outstanding; 1 if something does not run again."""
    try:
        troubles = made.quiesce.recover()
    finally:
        made.record.close()
    if troubles is None:
        _say(f"under way: {made.lock.holder() or 'another quiesce'}")
        return 1
    for name, why in troubles.items():
        _say(f"{name} does not run again: {why}")
    if not troubles:
        print("All that ran runs.")
    return 1 if troubles else 0


def _forget(made: MadeQuiesce, name: str) -> int:
    """Give one up, so that nobody tries to start it any more; 1 if it is not outstanding."""
    try:
        with made.lock.held(f"giving up {name}"):
            found = made.quiesce.give_up(name)
    finally:
        made.record.close()
    if not found:
        _say(f"{name} is not among what was stopped; see remediator quiesce --status")
        return 1
    print(f"{name} is not started again.")
    return 0


def _say(text: str) -> None:
    print(f"remediator: {clean(text, _LONGEST)}", file=sys.stderr, flush=True)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _duration(text: str) -> timedelta:
    try:
        duration = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if not duration:
        raise argparse.ArgumentTypeError("nothing can be stopped in no time")
    return duration
