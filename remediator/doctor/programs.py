"""Whether what we run ourselves is well: files, receiver, worker, exporter."""

import stat
from collections.abc import Iterator
from http import HTTPStatus

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from remediator.config.limits import read_limits
from remediator.config.policy import read_policy
from remediator.config.settings import Settings
from remediator.doctor.examination import AilmentError, CannotTellError, Check
from remediator.doctor.web import Web, page
from remediator.errors import RemediatorError
from remediator.journal.journal import Journal
from remediator.web.auth import TokenFile

# Older than this is a worker that does not keep up (the alert RemediatorBacklog).
_OLDEST_SECONDS = 60.0
_NOT_THE_TOKEN = "doctor-" + "0" * 32


class Programs:
    """The programs that *settings* are about."""

    def __init__(self, settings: Settings, web: Web) -> None:
        self._settings = settings
        self._web = web

    def checks(self) -> Iterator[Check]:
        """Return what there is to look at."""
        units = "systemctl status {0}; journalctl --unit {0}"
        yield Check("policy", self._policy, "mend the file; the last good policy stays in force")
        yield Check("limits", self._limits, "mend the file; the last good limits stay in force")
        yield Check(
            "state",
            self._state,
            "start the receiver and the worker once; the rights are those of"
            " compose/systemd/tmpfiles.d/remediator.conf: systemd-tmpfiles --create",
        )
        yield Check("receiver", self._receiver, units.format("remediator-receiver"))
        yield Check(
            "token",
            self._token,
            "name the file in token_file, and restart the receiver",
            needs=("receiver",),
        )
        yield Check("worker", self._worker, units.format("remediator-worker"))
        yield Check("in charge", self._in_charge, "remediator resume", needs=("state",))
        yield Check("exporter", self._exporter, units.format("ds01-exporter"))

    def _policy(self) -> str:
        policy = read_policy(self._settings.policy)
        rules = len(policy.rules)
        return f"{self._settings.policy}: {rules} rules, mode {policy.mode.value}"

    def _limits(self) -> str:
        path = self._settings.limits
        if path is None:
            return "none named: the built-in strict ones hold"
        read_limits(path)
        return str(path)

    def _state(self) -> str:
        settings = self._settings
        for folder in (settings.state_dir, settings.inbox_dir):
            try:
                mode = folder.stat().st_mode
            except PermissionError as error:
                raise CannotTellError(f"{folder} may not be looked at: run this as root") from error
            except FileNotFoundError as error:
                raise AilmentError(f"{folder} does not exist") from error
            if mode & stat.S_IWOTH:
                raise AilmentError(f"everybody may write in {folder}", f"chmod o-w {folder}")
        Journal.for_reading(settings.state_dir).close()
        return str(settings.state_dir)

    def _receiver(self) -> str:
        page(self._web, f"http://{self._settings.listen}/-/ready")
        return f"ready on {self._settings.listen}"

    def _token(self) -> str:
        url = f"http://{self._settings.listen}/api/v1/alerts"
        if self._settings.token_file is None:
            return "none is asked for, on loopback only"
        try:
            token = TokenFile(self._settings.token_file).read()
        except RemediatorError as error:
            if isinstance(error.__cause__, PermissionError):
                raise CannotTellError(f"{error}: run this as root") from error
            raise
        # Not a delivery, so that nothing is stored; what is asked is who is let in.
        if self._web.post(url, b"{}", _NOT_THE_TOKEN).status != HTTPStatus.UNAUTHORIZED:
            raise AilmentError("a wrong token is let in")
        if self._web.post(url, b"{}", token).status != HTTPStatus.BAD_REQUEST:
            raise AilmentError("the token of token_file is not let in")
        return "the right one is let in, a wrong one is not"

    def _worker(self) -> str:
        values = {
            sample.name: sample.value
            for sample in self._metrics(f"http://{self._settings.worker_listen}/metrics")
            if not sample.labels
        }
        if values.get("remediator_policy_last_reload_successful") != 1:
            raise AilmentError(
                "it could not read the policy again, and keeps the old one",
                "mend the policy, then systemctl reload remediator-worker",
            )
        oldest = values.get("remediator_oldest_delivery_seconds", 0)
        if oldest > _OLDEST_SECONDS:
            raise AilmentError(f"a delivery has been waiting for {oldest:.0f} s")
        stopped = values.get("remediator_quiesced_services", 0)
        if stopped:
            raise AilmentError(
                f"{stopped:.0f} services are stopped and not back yet",
                "remediator quiesce --status",
            )
        return f"at work on {self._settings.worker_listen}"

    def _in_charge(self) -> str:
        journal = Journal.for_reading(self._settings.state_dir)
        try:
            paused = journal.operations.pause_in_force()
            breaker = journal.operations.breaker_in_force()
        finally:
            journal.close()
        if paused is not None:
            raise AilmentError(f"paused by {paused.actor}: {paused.reason}")
        if breaker is not None:
            raise AilmentError(
                "the breaker is open", 'find out why, then remediator close-breaker "what it was"'
            )
        return "neither paused, nor is the breaker open"

    def _exporter(self) -> str:
        url = f"http://{self._settings.exporter_listen}/metrics"
        success = {
            sample.labels["collector"]: sample.value
            for sample in self._metrics(url)
            if sample.name == "ds01_collector_success"
        }
        failing = sorted(name for name, value in success.items() if value != 1)
        if failing:
            raise AilmentError(f"it cannot tell of {', '.join(failing)}")
        if not success:
            raise AilmentError(f"{url} is not the page of the DS01 exporter")
        return f"tells of all on {self._settings.exporter_listen}"

    def _metrics(self, url: str) -> list[Sample]:
        text = page(self._web, url)
        try:
            return [s for family in text_string_to_metric_families(text) for s in family.samples]
        except ValueError as error:
            raise AilmentError(f"{url} is not a page of metrics") from error
