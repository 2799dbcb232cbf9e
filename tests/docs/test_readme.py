"""The README's tables say everything there is, in the program's own words and order."""

import re
from pathlib import Path

import pytest

from remediator.cli.main import make_parser
from remediator.config.digest import DIGEST_FIELDS
from remediator.config.page import PAGE_FIELDS
from remediator.config.policy import POLICY_FIELDS, RULE_FIELDS, RUNG_FIELDS
from remediator.config.settings import ENVIRONMENT, MAIL_FIELDS, SETTINGS_FIELDS, Settings
from remediator.core.case import HoldReason
from remediator.core.catalogue import CATALOGUE
from remediator.core.commands import Action
from remediator.wiring.doctor import checks_of

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
POLICY_KEYS = [
    *POLICY_FIELDS,
    *RULE_FIELDS,
    *RUNG_FIELDS,
    *("open_after", "before", "within"),
    *(offer.name for offer in CATALOGUE),
    *(name for offer in CATALOGUE for name, _ in offer.options),
]
SETTINGS = [
    *SETTINGS_FIELDS,
    *(f"mail.{name}" for name in MAIL_FIELDS),
    *(f"digest.{name}" for name in DIGEST_FIELDS),
    *(f"page.{name}" for name in PAGE_FIELDS),
]


def part(name: str) -> str:
    """Return what stands between the markers *name*; there must be exactly one such part."""
    found = re.findall(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", README.read_text(), re.DOTALL)
    assert len(found) == 1, f"README.md needs one part between <!-- {name} --> and <!-- /{name} -->"
    return str(found[0])


def rows(name: str) -> list[str]:
    """Return the first cells of the table rows that begin with a word in backquotes."""
    return re.findall(r"^\| `([^`]+)` \|", part(name), re.MULTILINE)


def words(name: str) -> set[str]:
    """Return every word in backquotes, and the last part of a dotted one."""
    quoted = re.findall(r"`([^`\n]+)`", part(name))
    return {piece for text in quoted for piece in (text, text.rpartition(".")[2], text.rstrip(":"))}


def test_every_reason_to_hold_is_explained_in_the_order_of_the_guards() -> None:
    assert rows("guards") == [reason.value for reason in HoldReason]


@pytest.mark.parametrize("key", sorted(set(POLICY_KEYS)))
def test_every_key_of_the_policy_is_explained(key: str) -> None:
    assert key in words("policy-keys")


@pytest.mark.parametrize("key", SETTINGS)
def test_every_setting_is_explained(key: str) -> None:
    assert key in words("settings-keys")


@pytest.mark.parametrize("variable", ENVIRONMENT)
def test_every_environment_variable_is_named(variable: str) -> None:
    assert variable in README.read_text()


def test_every_check_of_doctor_is_explained_in_its_order() -> None:
    checks = checks_of(Settings(), with_trial=True)

    assert rows("doctor") == [check.name for check in checks]


def test_every_unit_is_installed_and_explained() -> None:
    folder = ROOT / "compose" / "systemd"
    installed = (folder / "install.sh").read_text()
    for name in rows("units"):
        assert (folder / name).exists()
        assert name in installed


def test_no_key_outlives_its_field() -> None:
    assert set(rows("settings-keys")) <= set(SETTINGS)


@pytest.mark.parametrize(
    "command",
    [
        "serve",
        "work",
        "run",
        "export",
        "incidents",
        "simulate",
        "check",
        "backup",
        "doctor",
        "quiesce",
        "user",
        "notices",
        *(action.value for action in Action),
    ],
)
def test_every_command_is_shown(command: str) -> None:
    assert command in make_parser().format_help()
    assert f"remediator {command}" in README.read_text()
