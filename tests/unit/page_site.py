"""The receiver's application over a real journal and inbox, with a real engine behind it.

A command that the page gives is followed as soon as the receiver rings, in the same thread.
"""

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

from flask import Flask
from flask.testing import FlaskClient
from prometheus_client import CollectorRegistry
from werkzeug.test import TestResponse

from remediator.config.page import PageSettings
from remediator.core.policy import Mode, Policy
from remediator.errors import SourceError
from remediator.journal.journal import Journal
from remediator.metrics import ReceiverMetrics
from remediator.web.app import ReceiverParts, create_app
from remediator.web.auth import TokenFile
from remediator.web.prometheus import Sample
from remediator.web.users import Role, User, Users, generate_password_hash, hash_of_token
from tests.builders import a_policy, a_rule, an_alert
from tests.gpu_samples import Told
from tests.unit.engine_site import EngineSite, hurried

TOKEN = "0123456789abcdef"
PASSWORD = "correct horse battery"
PROGRAM = "a-token-of-a-program-that-is-long"
# As scrypt is used, but so cheap that a test may log in often.
_HASH = generate_password_hash(PASSWORD, method="scrypt:1024:8:1")


class HasText(Protocol):
    """An answer, or a piece of one."""

    @property
    def text(self) -> str: ...


class PageSite:
    """A page in *folder*; ``alice`` is an operator, ``vera`` a viewer, ``ci`` a program."""

    def __init__(
        self,
        folder: Path,
        page: PageSettings | None = None,
        *,
        with_token: bool = True,
        mode: Mode = Mode.APPROVE,
    ) -> None:
        self.folder = folder
        self.users = Users(folder / "users")
        self.users.put(User("alice", Role.OPERATOR, _HASH))
        self.users.put(User("vera", Role.VIEWER, _HASH))
        self.users.put(User("ci", Role.OPERATOR, hash_of_token(PROGRAM)))
        (folder / "token").write_text(TOKEN)
        self.engine = EngineSite(folder, a_policy(a_rule(hurried(), mode=mode)))
        self.samples: list[Told] | None = []
        self.is_working = True
        self.metrics = ReceiverMetrics(CollectorRegistry())
        self.app = self._make(page or PageSettings(users_file=self.users.path), with_token)
        self.client = self.app.test_client()

    def close(self) -> None:
        self.engine.close()

    def anew(self) -> FlaskClient:
        """Another browser, in which nobody has logged in."""
        return self.app.test_client()

    def an_incident(self, labels: Mapping[str, str] | None = None, fingerprint: str = "f1") -> int:
        """Let an alert arrive, and have it looked at; return its incident."""
        labels = labels or {"container_id": "c" * 64, "container": "train"}
        self.engine.deliver(an_alert(labels, fingerprint=fingerprint))
        self.engine.round()
        return self.engine.journal.incidents.latest(1)[0].id

    def log_in(
        self, name: str = "alice", password: str = PASSWORD, client: FlaskClient | None = None
    ) -> TestResponse:
        """Log in as a browser does: load the form, fill it in, send it."""
        client = client or self.client
        return client.post(
            "/login",
            data={
                "form": form_token(client.get("/login")),
                "name": name,
                "password": password,
                "next": "/incidents",
            },
        )

    def give(
        self, action: str, client: FlaskClient | None = None, **fields: object
    ) -> TestResponse:
        """Send the form of a command, with the token of the page that it is on."""
        client = client or self.client
        token = form_token(client.get("/"))
        return client.post("/commands", data={"form": token, "action": action, **fields})

    def _make(self, page: PageSettings, with_token: bool) -> Flask:
        return create_app(
            ReceiverParts(
                inbox=self.engine.inbox,
                token=TokenFile(self.folder / "token") if with_token else None,
                journal=partial(Journal.for_reading, self.folder),
                policy=lambda: Policy(mode=Mode.APPROVE, rules=()),
                ring=self._work,
                metrics=self.metrics,
                clock=self.engine.clock,
                largest_body=100_000,
                host="gpu1",
                page=page,
                session_key=b"k" * 32,
                ask_prometheus=self._ask,
            )
        )

    def _work(self) -> None:
        if self.is_working:
            self.engine.intake.begin(self.engine.inbox)
            self.engine.commands.take_all(self.engine.inbox)

    def _ask(self, *_names: str) -> list[Sample]:
        if self.samples is None:
            raise SourceError("Prometheus at http://127.0.0.1:9090 does not answer")
        return [Sample(labels, value) for labels, value in self.samples]


def form_token(answer: HasText) -> str:
    """Return the token against forged forms that a page carries."""
    found = re.search(r'name="form" value="([^"]+)"', answer.text)
    return found[1] if found else ""
