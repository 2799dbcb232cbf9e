"""``remediator pause``, ``resume``, ``close-breaker``, ``approve``, ``reject`` and ``extend``.

A command goes into the inbox and is followed by the worker; here its answer is waited for. Whoever
may write the inbox may command, so the folder's rights say who that is.
"""

import argparse
import contextlib
import json
import os
import pwd
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from remediator.cli.programs import Subparsers, add_settings, settings_of
from remediator.core.commands import Action
from remediator.core.durations import parse_duration
from remediator.core.extensions import Extension, Via
from remediator.core.notices import clean
from remediator.errors import JournalError, SetupError
from remediator.inbox.bell import ring
from remediator.inbox.store import FILE, Inbox
from remediator.journal.journal import Journal
from remediator.journal.operations import CommandRecord

_PATIENCE_SECONDS = 5.0
_POLL_SECONDS = 0.05

_ABOUT = {
    Action.PAUSE: "begin nothing new until it is resumed; what runs comes to its end",
    Action.RESUME: "end the pause and look at every open incident anew",
    Action.CLOSE_BREAKER: "let destructive remediations be done again",
    Action.APPROVE: "let the remediation be done that an incident waits with",
    Action.REJECT: "have it left undone for as long as the incident lasts",
    Action.EXTEND: "keep a container from the idle stop for a while; 0 ends that",
}


def add_to(subparsers: Subparsers) -> None:
    """Add the commands."""
    for action, about in _ABOUT.items():
        parser = subparsers.add_parser(action.value, help=about, description=about)
        add_settings(parser)
        parser.add_argument("--json", action="store_true", help="for machines")
        parser.set_defaults(run=run, action=action)
        if action is Action.EXTEND:
            _add_extend(parser)
            continue
        if action in {Action.APPROVE, Action.REJECT}:
            parser.add_argument("incident", metavar="ID", help="the number of the incident")
        if action is Action.APPROVE:
            parser.add_argument("reason", nargs="?", default="", metavar="REASON", help="why")
        elif action is not Action.RESUME:
            parser.add_argument("reason", metavar="REASON", help="why, for whoever reads it later")


def _add_extend(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "container",
        metavar="CONTAINER",
        help="its name, its id or the first 12 digits of that, or the number of an incident",
    )
    parser.add_argument(
        "duration", type=_duration, metavar="DURATION", help="from now on, such as 4h or 1h30m"
    )
    parser.add_argument("--reason", default="", help="why, for whoever reads it later")
    parser.set_defaults(via=Via.CLI.value)


def run(options: argparse.Namespace) -> int:
    """Give the command and print the answer; 1 if it was refused or nobody answered."""
    settings = settings_of(options)
    folder = settings.inbox_dir
    if not (folder / FILE).exists():
        raise SetupError(f"there is no {folder / FILE}: has the receiver ever been started?")
    command = {"action": options.action.value}
    for name in ("incident", "reason", "container", "duration", "via"):
        if getattr(options, name, ""):
            command[name] = getattr(options, name)
    actor = _actor()
    with _as_owner_of(folder):
        inbox = Inbox.for_receiver(folder)
        try:
            number = inbox.give(json.dumps(command).encode(), actor, datetime.now(UTC))
            name = inbox.identity()
        finally:
            inbox.close()
    ring(folder)
    answer = _wait(settings.state_dir, name, number)
    if options.json:
        print(json.dumps(_plain(settings.state_dir, options.action, answer), indent=2))
    elif answer is not None:
        print(clean(answer.answer, 500), file=sys.stdout if answer.accepted else sys.stderr)
    if answer is None:
        print(
            "remediator: the command is stored, but no worker has answered; it is followed as soon"
            " as one runs",
            file=sys.stderr,
        )
    return 0 if answer is not None and answer.accepted else 1


@contextlib.contextmanager
def _as_owner_of(folder: Path) -> Iterator[None]:
    """Have root write in the receiver's folder with no more rights than the receiver has.

    It faces the network. Were it taken over, a link in its folder must not lead root elsewhere.
    """
    owner = folder.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    os.setgroups([])
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def _wait(state_dir: Path, inbox: str, number: int) -> CommandRecord | None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            journal = Journal.for_reading(state_dir)
            try:
                answer = journal.operations.answer_to(inbox, number)
            finally:
                journal.close()
        except JournalError:
            answer = None
        if answer is not None:
            return answer
        time.sleep(_POLL_SECONDS)
    return None


def _plain(state_dir: Path, action: Action, answer: CommandRecord | None) -> dict[str, object]:
    """Return an answer for machines: its fields are null while no worker has answered.

    Of an extension, ``until`` is when the one that is in force ends, and ``by`` whose it is.
    """
    said: dict[str, object] = {
        "accepted": answer.accepted if answer else None,
        "answer": answer.answer if answer else None,
        "incident": answer.incident if answer else None,
    }
    if action is not Action.EXTEND:
        return said
    kept = _kept(state_dir, answer) if answer and answer.accepted else None
    until, by = (kept.until.isoformat(), kept.actor) if kept else (None, None)
    return {**said, "until": until, "by": by}


def _kept(state_dir: Path, answer: CommandRecord) -> Extension | None:
    with closing(Journal.for_reading(state_dir)) as journal:
        return journal.extensions.last(answer.argument.get("container_id", ""), None)


def _duration(text: str) -> str:
    """Return *text* if it is a duration: the worker reads it again."""
    try:
        parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _actor() -> str:
    """Return who gives the command: behind sudo still the person, not root."""
    if os.geteuid() == 0 and os.environ.get("SUDO_USER"):
        return os.environ["SUDO_USER"]
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
