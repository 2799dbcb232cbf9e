import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from remediator.config.settings import Settings
from remediator.doctor.examination import (
    AilmentError,
    CannotTellError,
    Check,
    Finding,
    Health,
    examine,
)
from remediator.doctor.machine import Machine, Reach
from remediator.doctor.monitoring import Monitoring
from remediator.doctor.programs import Programs
from remediator.errors import SourceError
from remediator.inbox.store import Inbox
from remediator.journal.journal import Journal
from tests import fakes_doctor as fakes
from tests.builders import NOON
from tests.fakes_doctor import FakeWeb

TOKEN = "a" * 32
POLICY = """
mode: observe
rules:
  - name: idle container
    match: ['alertname=~"DS01ContainerIdle.*"']
    do: [{notify-only: }]
"""


@pytest.fixture
def settings(folder: Path) -> Iterator[Settings]:
    """Settings of a pipeline whose files are all in order."""
    (folder / "policy.yaml").write_text(POLICY)
    (folder / "token").write_text(TOKEN)
    journal = Journal.for_worker(folder / "state")
    Inbox.for_receiver(folder / "state" / "inbox").close()
    yield Settings(
        state_dir=folder / "state", policy=folder / "policy.yaml", token_file=folder / "token"
    )
    journal.close()


def findings(
    settings: Settings, tokens: tuple[str, ...] = (TOKEN,), **pages: str | None
) -> dict[str, Finding]:
    """What is found where *pages* (by their name in `fakes_doctor`) differ from healthy ones."""
    changed = {getattr(fakes, name): text for name, text in pages.items()}
    web = FakeWeb({**fakes.HEALTHY, **changed}, tokens)
    checks = [*Programs(settings, web).checks(), *Monitoring(settings, web).checks()]
    return {finding.name: finding for finding in examine(checks)}


def bad(found: dict[str, Finding]) -> dict[str, str]:
    """What the bad ones say; each has a remedy."""
    ill = {name: one for name, one in found.items() if one.health is Health.BAD}
    assert all(one.remedy for one in ill.values())
    return {name: one.says for name, one in ill.items()}


def test_a_healthy_pipeline_is_good_in_every_line(settings: Settings) -> None:
    found = findings(settings)

    assert {one.health for one in found.values()} == {Health.GOOD}, found


@pytest.mark.parametrize(
    ("page", "text", "name", "says"),
    [
        ("WORKER", None, "worker", "no answer"),
        ("WORKER", "", "worker", "404"),
        ("WORKER", "{}", "worker", "not a page of metrics"),
        ("WORKER", "remediator_policy_last_reload_successful 0\n", "worker", "keeps the old one"),
        (
            "WORKER",
            "remediator_policy_last_reload_successful 1\nremediator_oldest_delivery_seconds 61\n",
            "worker",
            "for 61 s",
        ),
        (
            "WORKER",
            "remediator_policy_last_reload_successful 1\nremediator_quiesced_services 2\n",
            "worker",
            "2 services are stopped",
        ),
        ("EXPORTER", None, "exporter", "no answer"),
        ("EXPORTER", "up 1\n", "exporter", "not the page"),
        ("EXPORTER", 'ds01_collector_success{collector="gpus"} 0\n', "exporter", "gpus"),
        ("RULES", fakes.rules("Other"), "rules", "idle container"),
        ("RULES", fakes.rules("DS01ContainerIdle", health="err"), "rules", "cannot be evaluated"),
        ("RULES", "[]", "rules", "JSON object"),
        ("TARGETS", fakes.targets("down"), "targets", "dcgm-exporter at gpu1:9400"),
        ("TARGETS", fakes.data(activeTargets=[]), "targets", "scrapes nothing"),
        ("KNOWN", fakes.data(activeAlertmanagers=[]), "alerting", "no Alertmanager"),
        ("STATUS", fakes.config("receivers: [{name: us}]"), "route", "no receiver posts"),
        ("STATUS", fakes.config(fakes.CONFIG.replace(":9095", ":9")), "route", "no receiver"),
        ("STATUS", fakes.config(fakes.CONFIG.replace("/v1/", "/v2/")), "route", "no receiver"),
        ("STATUS", fakes.config(fakes.CONFIG.replace("receiver: us", "")), "route", "no route"),
        ("STATUS", "{}", "route", "does not tell"),
    ],
)
def test_one_fault_makes_one_bad_line(
    settings: Settings, page: str, text: str | None, name: str, says: str
) -> None:
    found = bad(findings(settings, **{page: text}))

    assert found.keys() == {name}
    assert says in found[name]


@pytest.mark.parametrize(
    ("tokens", "says"),
    [((), "is not let in"), ((TOKEN, "doctor-" + "0" * 32), "a wrong token is let in")],
)
def test_a_receiver_with_another_idea_of_the_token(
    settings: Settings, tokens: tuple[str, ...], says: str
) -> None:
    found = bad(findings(settings, tokens))

    assert found.keys() == {"token"}
    assert says in found["token"]


@pytest.mark.parametrize(
    ("break_it", "name", "says"),
    [
        (lambda s: s.policy.write_text("mode: nonsense"), "policy", "policy.yaml:1"),
        (lambda s: s.token_file.unlink(), "token", "cannot be read"),
        (lambda s: s.inbox_dir.chmod(0o777), "state", "everybody may write"),
    ],
)
def test_a_file_with_a_fault_is_named(
    settings: Settings, break_it: Callable[[Settings], object], name: str, says: str
) -> None:
    break_it(settings)

    found = bad(findings(settings))

    assert found.keys() == {name}
    assert says in found[name]


def test_limits_that_are_not_there_are_named(settings: Settings, folder: Path) -> None:
    settings = dataclasses.replace(settings, limits=folder / "limits.yaml")

    assert bad(findings(settings)).keys() == {"limits"}


def test_a_pause_and_an_open_breaker_are_named(settings: Settings) -> None:
    journal = Journal.for_worker(settings.state_dir)
    journal.operations.open_breaker("too much", NOON)
    assert bad(findings(settings)) == {"in charge": "the breaker is open"}

    journal.operations.pause("a driver update", "root", NOON)
    assert bad(findings(settings)) == {"in charge": "paused by root: a driver update"}
    journal.close()


def test_what_hangs_on_something_bad_is_not_looked_at() -> None:
    def break_down() -> str:
        raise AilmentError("broken", "mend it")

    checks = [Check("a", break_down, "-"), Check("b", lambda: "fine", "-", needs=("a",))]

    assert list(examine(checks)) == [
        Finding("a", Health.BAD, "broken", "mend it"),
        Finding("b", Health.UNKNOWN, "not looked at without a"),
    ]


def _silent() -> str:
    raise SourceError("no answer")


def _no_mail() -> str:
    raise CannotTellError("no mail is sent")


def machine(
    *,
    docker: Callable[[], str] = lambda: "20.10",
    driver: Callable[[], Sequence[str]] = lambda: ["A100"],
    mail: Callable[[], str] = lambda: "reached",
    is_root: bool = True,
) -> dict[str, Health]:
    reach = Reach(docker, driver, lambda: "answers", mail)
    return {one.name: one.health for one in examine([*Machine(reach, is_root=is_root).checks()])}


def test_what_the_worker_acts_through_is_reached() -> None:
    assert set(machine().values()) == {Health.GOOD}


def test_what_the_worker_acts_through_is_named_where_it_is_silent() -> None:
    assert machine(docker=_silent)["docker"] is Health.BAD
    assert machine(driver=list)["driver"] is Health.BAD
    assert machine(mail=_silent)["mail"] is Health.BAD
    assert machine(mail=_no_mail)["mail"] is Health.UNKNOWN


def test_what_only_root_can_tell_is_left_out_for_others() -> None:
    found = machine(docker=_silent, is_root=False)

    assert [name for name, health in found.items() if health is Health.UNKNOWN] == [
        "docker",
        "driver",
        "systemd",
    ]
