"""``remediator user add``, ``list`` and ``remove``: who may log in to the page."""

import argparse
import getpass
import json
import sys
from pathlib import Path

from rich.table import Table
from rich.text import Text

from remediator.cli.programs import Subparsers, add_settings, settings_of
from remediator.cli.terminal import make_console
from remediator.config.settings import Settings
from remediator.errors import SetupError
from remediator.web.users import Role, Users, user_with_password, user_with_token


def add_to(subparsers: Subparsers) -> None:
    """Add the commands."""
    about = "who may log in to the page, and command"
    parser = subparsers.add_parser("user", help=about, description=about)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    adding = verbs.add_parser("add", help="add an account, or give it another password or role")
    adding.add_argument("name", metavar="NAME", help="what it is called at the login")
    roles = [role.value for role in Role]
    adding.add_argument(
        "--role", choices=roles, default=roles[0], help="what it may do (viewer: only look)"
    )
    adding.add_argument(
        "--token",
        action="store_true",
        help="for a program: print a token for the API instead of asking for a password",
    )
    adding.set_defaults(run=add)
    listing = verbs.add_parser("list", help="all accounts")
    listing.add_argument("--json", action="store_true", help="for machines")
    listing.set_defaults(run=show)
    removing = verbs.add_parser("remove", help="remove an account; its sessions end at once")
    removing.add_argument("name", metavar="NAME", help="what it is called at the login")
    removing.set_defaults(run=remove)
    for verb in (adding, listing, removing):
        add_settings(verb)


def add(options: argparse.Namespace) -> int:
    """Add or change an account; the password is asked for, or read from standard input."""
    settings = settings_of(options)
    users, role = Users(_file(settings)), Role(options.role)
    token = None
    try:
        if options.token:
            user, token = user_with_token(options.name, role)
        else:
            user = user_with_password(options.name, role, _password())
    except ValueError as error:
        raise SetupError(str(error)) from error
    is_new = users.put(user, _group(settings))
    print(f"{user.name} is {'added' if is_new else 'changed'}: {role.value}", file=sys.stderr)
    if token is not None:
        print(token)
    return 0


def show(options: argparse.Namespace) -> int:
    """Print all accounts."""
    users = sorted(Users(_file(settings_of(options))).all().values(), key=lambda u: u.name)
    rows = [(u.name, u.role.value, "token" if u.is_token else "password") for u in users]
    if options.json:
        keys = ("name", "role", "by")
        print(json.dumps([dict(zip(keys, row, strict=True)) for row in rows], indent=2))
        return 0
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("NAME", "ROLE", "BY"):
        table.add_column(column)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    make_console().print(table)
    return 0


def remove(options: argparse.Namespace) -> int:
    """Remove an account; exit code 1 if there is none of that name."""
    if not Users(_file(settings_of(options))).remove(options.name):
        print(f"remediator: there is no account {options.name[:64]}", file=sys.stderr)
        return 1
    print(f"{options.name} is removed", file=sys.stderr)
    return 0


def _file(settings: Settings) -> Path:
    if settings.page.users_file is None:
        raise SetupError("no users file is named: set page.users_file in the settings")
    return settings.page.users_file


def _group(settings: Settings) -> int | None:
    """Return whose a new file has to be readable by: the receiver's, as its inbox is."""
    try:
        return settings.inbox_dir.stat().st_gid
    except OSError:
        return None


def _password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != password:
        raise SetupError("the two passwords differ: nothing was changed")
    return password
