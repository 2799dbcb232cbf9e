"""A limits file that cannot be used stops nobody, and an exemption holds to the instant.

The worker's eyes on a fake host, with real limits files.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from remediator.cli.main import main
from remediator.config.limits_file import LimitsFile
from remediator.core.alerts import Alert
from remediator.core.observation import Observation, Source, Verdict
from remediator.remediations.interface import Remediation
from remediator.remediations.senses import Senses
from remediator.remediations.stop_container import StopContainer
from tests.builders import MINUTE, SECOND, an_alert
from tests.fakes import FakeContainer, FakeHost, FakeRemediation, HandClock
from tests.unit.engine_site import EngineSite

BROKEN = {
    "limits.yaml": "defaults: {idle_timeout_h: [\n",
    "groups/student.members": "alice bob\n",
    "user-overrides.yaml": "- alice\n",
    "lifecycle-exemptions.yaml": "exemptions: {}\n",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "groups").mkdir()
    path = tmp_path / "limits.yaml"
    path.write_text("defaults: {idle_timeout_h: 0.5}\n")
    return path


@pytest.fixture
def host() -> FakeHost:
    return FakeHost(HandClock())


@pytest.fixture
def stop(host: FakeHost, path: Path) -> StopContainer:
    senses = Senses(host.prometheus, host.docker, host.driver, host.kernel, host.users)
    return StopContainer(senses, host.docker, LimitsFile(path))


def alert_about(container: FakeContainer) -> Alert:
    return an_alert({"container_id": container.facts.id, "container": container.facts.name})


def look(host: FakeHost, stop: StopContainer, container: FakeContainer) -> Observation:
    host.fire(alert_about(container))
    return stop.observe(alert_about(container), host.clock.now(), {})


def verdict(seen: Observation) -> Verdict:
    report = seen.report_of(Source.DOCKER)
    assert report is not None
    return report.verdict


def exempt(path: Path, *entries: str) -> None:
    text = "exemptions:\n" + "".join(f"- {entry}\n" for entry in entries)
    path.with_name("lifecycle-exemptions.yaml").write_text(text)


def an_entry(user: str = "alice", expires_on: str = "null") -> str:
    return (
        f"{{username: {user}, exempt_from: [idle_timeout_h], reason: PhD thesis,"
        f" approved_by: X, expires_on: {expires_on}}}"
    )


@pytest.mark.parametrize("name", BROKEN)
def test_whichever_file_is_broken_nobody_is_stopped_until_it_is_mended(
    host: FakeHost, stop: StopContainer, path: Path, name: str
) -> None:
    container = host.run()
    assert verdict(look(host, stop, container)) is Verdict.AGREES
    file = path.parent / name
    before = file.read_text() if file.exists() else None

    file.write_text(BROKEN[name])
    assert verdict(look(host, stop, container)) is Verdict.SILENT

    file.write_text(before or "# mended\nexemptions: []\n" * name.startswith("life") + "\n")
    assert verdict(look(host, stop, container)) is Verdict.AGREES


def test_an_exemption_is_the_evidence_and_ends_to_the_instant(
    host: FakeHost, stop: StopContainer, path: Path
) -> None:
    container = host.run()
    end = host.clock.now() + MINUTE
    exempt(path, an_entry(expires_on=end.isoformat()))

    told = f"exempt until {end:%Y-%m-%d %H:%M} UTC: PhD thesis (approved by X)"
    assert look(host, stop, container).exempt == told
    host.clock.advance(MINUTE - timedelta(microseconds=1))
    assert look(host, stop, container).exempt == told
    host.clock.advance(timedelta(microseconds=1))
    assert look(host, stop, container).exempt is None


def test_a_date_exempts_until_the_end_of_that_day(
    host: FakeHost, stop: StopContainer, path: Path
) -> None:
    container = host.run()
    today = host.clock.now()
    exempt(path, an_entry(expires_on=f"{today:%Y-%m-%d}"))
    midnight = datetime(today.year, today.month, today.day, tzinfo=UTC) + timedelta(days=1)

    host.clock.advance(midnight - SECOND - host.clock.now())
    assert look(host, stop, container).exempt == (
        f"exempt until {today:%Y-%m-%d}: PhD thesis (approved by X)"
    )
    host.clock.advance(SECOND)
    assert look(host, stop, container).exempt is None


def test_a_void_entry_exempts_nobody_and_the_others_hold(
    host: FakeHost, stop: StopContainer, path: Path
) -> None:
    alice = host.run()
    exempt(path, an_entry("alice", "next summer"), an_entry("bob"))
    void = look(host, stop, alice)
    exempt(path, an_entry("carol", "next summer"), an_entry("alice"))

    assert (verdict(void), void.exempt) == (Verdict.AGREES, None)
    assert look(host, stop, alice).exempt == "exempt for ever: PhD thesis (approved by X)"


@pytest.fixture
def site(tmp_path: Path, host: FakeHost, stop: StopContainer) -> Iterator[EngineSite]:
    """Return an engine that stops containers of the fake host, with the real limits files."""
    told = FakeRemediation("notify-only")
    remediations: dict[str, Remediation] = {stop.name: stop, told.name: told}
    site = EngineSite(tmp_path / "state", remediations=remediations, clock=host.clock)
    yield site
    site.close()


@pytest.mark.parametrize("name", [None, *BROKEN])
def test_a_stop_that_was_planned_is_not_carried_out_once_the_limits_are_broken(
    host: FakeHost, site: EngineSite, path: Path, name: str | None
) -> None:
    container = host.run()
    host.fire(alert_about(container))
    site.deliver(alert_about(container))
    [attempt] = site.look()

    if name is not None:
        (path.parent / name).write_text(BROKEN[name])
    host.clock.advance(SECOND)
    site.carrying.carry_out(attempt)

    assert bool(host.docker.calls) is (name is None)
    assert site.states() == ["succeeded" if name is None else "refused"]
    if name is not None:
        record = site.journal.attempts.attempt(attempt)
        assert record is not None
        assert record.message is not None
        assert "the limits file cannot be used, so nobody is stopped" in record.message


@pytest.mark.parametrize("name", BROKEN)
def test_a_worker_does_not_start_with_broken_limits_and_says_where(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    settings = tmp_path / "settings.yaml"
    policy = Path(__file__).parents[2] / "compose" / "policy.example.yaml"
    settings.write_text(f"state_dir: {tmp_path}/state\npolicy: {policy}\nlimits: {path}\n")
    (path.parent / name).write_text(BROKEN[name])

    code = main(["work", "--settings", str(settings)])

    told = capsys.readouterr().err
    assert code == 1
    assert f"{path.parent / name}:" in told
    assert "remediator: 1 problem\n" in told
    assert not (tmp_path / "state" / "journal.db").exists()
