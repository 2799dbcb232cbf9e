"""The documents' tables say everything there is, in the program's own words and order."""

import re

import pytest
from prometheus_client import CollectorRegistry

from remediator.cli.main import make_parser
from remediator.config.digest import DIGEST_FIELDS
from remediator.config.page import PAGE_FIELDS
from remediator.config.policy import POLICY_FIELDS, RULE_FIELDS, RUNG_FIELDS
from remediator.config.settings import ENVIRONMENT, MAIL_FIELDS, SETTINGS_FIELDS, Settings
from remediator.core.case import HoldReason
from remediator.core.catalogue import CATALOGUE
from remediator.metrics import ReceiverMetrics, WorkerMetrics
from remediator.wiring.doctor import checks_of
from tests.docs.documents import ROOT, part, rows, table, words

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


def test_every_reason_to_hold_is_explained_in_the_order_of_the_guards() -> None:
    assert rows("guards") == [reason.value for reason in HoldReason]


def test_every_reason_to_hold_has_its_causes_and_its_remedy() -> None:
    assert rows("holds") == [reason.value for reason in HoldReason]
    assert all(len(cells) == 3 and all(cells) for cells in table("holds"))


def test_every_check_of_doctor_has_its_own_remedy() -> None:
    remedies = {name: remedy for name, _, remedy in table("doctor")}

    for check in checks_of(Settings(), with_trial=True):
        assert check.remedy in remedies[f"`{check.name}`"].replace("`", "")


@pytest.mark.parametrize("key", sorted(set(POLICY_KEYS)))
def test_every_key_of_the_policy_is_explained(key: str) -> None:
    assert key in words("policy-keys") | words("remediations")


@pytest.mark.parametrize("key", SETTINGS)
def test_every_setting_is_explained(key: str) -> None:
    assert key in words("settings-keys")


@pytest.mark.parametrize("variable", ENVIRONMENT)
def test_every_environment_variable_is_named(variable: str) -> None:
    assert f"`{variable}`" in part("environment")


def test_every_check_of_doctor_is_explained_in_its_order() -> None:
    checks = checks_of(Settings(), with_trial=True)

    assert rows("doctor") == [check.name for check in checks]


def _families(metrics: type[ReceiverMetrics] | type[WorkerMetrics]) -> list[str]:
    registry = CollectorRegistry()
    metrics(registry)
    suffix = {"counter": "_total"}
    return [family.name + suffix.get(family.type, "") for family in registry.collect()]


def test_every_metric_of_our_own_is_explained() -> None:
    assert rows("metrics") == [*_families(ReceiverMetrics), *_families(WorkerMetrics)]


def test_every_unit_is_installed_and_explained() -> None:
    folder = ROOT / "compose" / "systemd"
    installed = (folder / "install.sh").read_text()
    for name in rows("units"):
        assert (folder / name).exists()
        assert name in installed


def test_no_key_outlives_its_field() -> None:
    assert set(rows("settings-keys")) <= set(SETTINGS)


def test_every_command_is_shown_and_each_that_is_shown_exists() -> None:
    choices = next(a.choices for a in make_parser()._actions if isinstance(a.choices, dict))
    shown = re.findall(r"`remediator ([a-z-]+)", part("commands"))

    assert sorted(shown) == sorted(choices)
