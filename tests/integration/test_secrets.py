"""No secret of any setting gets out: by no log, page, metric, journal or list of processes."""

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests

from remediator.config.settings import read_settings
from remediator.web.users import Role, Users, user_with_password, user_with_token
from tests.eventually import eventually
from tests.integration.test_closed_loop import HURRIED_LIMITS, SETTLED, hurried_policy
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.gpu.image import run_gpu_container
from tests.peers.ports import LOOPBACK, free_port
from tests.peers.site import Site
from tests.peers.stage import Stage

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.gpu]

PASSWORD = "s3cret-page-password"
MAIL = "s3cret-mail-password"
CHAT = ("s3cret-chat-user", "s3cret-chat-password", "s3cret-chat-token")
PROXY = "s3cret-proxy-header-value"
LINK_KEY = "s3cret-link-key-" + "k" * 32


class Burdened:
    """A site in which every setting that can have a secret has one, and much goes wrong."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.robot, self.robot_token = user_with_token("robot", Role.OPERATOR)
        self.person = user_with_password("alice", Role.OPERATOR, PASSWORD)
        self.session = requests.Session()

    def prepare(self) -> None:
        site = self.site
        site.folder.mkdir(parents=True)
        users = Users(site.folder / "users")
        users.put(self.robot)
        users.put(self.person)
        chat = f"admins = json://{CHAT[0]}:{CHAT[1]}@{LOOPBACK}:{free_port()}/{CHAT[2]}\n"
        site.more_settings = {
            "page_url": site.url,
            "link_key_file": self._file("link.key", f"{LINK_KEY}\n"),
            "chat_urls_file": self._file("chat", chat),
            "page": {
                "users_file": str(users.path),
                "proxy_addresses": ["127.0.0.1"],
                "proxy_user_header": "X-User",
                "proxy_secret_file": self._file("proxy", f"{PROXY}\n"),
            },
        }
        for program in ("serve", "work", "export"):
            site.environments[program] = {"REMEDIATOR_LOG_LEVEL": "debug"}

    def secrets(self) -> list[str]:
        """Everything that nobody may find, from the files and from what we know ourselves."""
        key = (self.site.state_dir / "inbox" / "session.key").read_bytes()
        keys = [key.decode(errors="replace").strip(), key.hex()]
        hashes = [self.robot.hash.partition(":")[2], self.person.hash.rpartition("$")[2]]
        cookies = [str(cookie.value) for cookie in self.session.cookies]
        return [
            *(self.site.token, PASSWORD, MAIL, *CHAT, PROXY, LINK_KEY, self.robot_token),
            *(text for text in (*keys, *hashes, *cookies) if len(text) > 8),
        ]

    def make_trouble(self) -> None:
        """Use every secret, rightly and wrongly."""
        site, url = self.site, self.site.url
        for password in ("wrong-" + PASSWORD, PASSWORD):
            self._log_in(password)
        for token in (self.robot_token, self.robot_token + "x", site.token):
            headers = {"Authorization": f"Bearer {token}"}
            requests.get(f"{url}/api/v1/state", headers=headers, timeout=10)
            order = {"action": "pause", "reason": "a look"}
            requests.post(f"{url}/api/v1/commands", json=order, headers=headers, timeout=10)
        for secret in (PROXY, PROXY + "x"):
            headers = {"X-User": "bob", "X-Remediator-Proxy-Secret": secret}
            requests.get(f"{url}/", headers=headers, timeout=10)
        for body in (b"{", b"\xff", b"[" * 10_000):
            site.deliver(body)
            site.deliver(body, Authorization=f"Bearer {site.token}x")
        requests.get(f"{url}/extend", params={"k": f"x.{LINK_KEY}"[:8]}, timeout=10)

    def _log_in(self, password: str) -> None:
        page = self.session.get(f"{self.site.url}/login", timeout=10).text
        fields = dict(re.findall(r'name="(\w+)"[^>]*value="([^"]*)"', page))
        fields.update(name="alice", password=password)
        self.session.post(f"{self.site.url}/login", data=fields, timeout=10)

    def _file(self, name: str, text: str) -> str:
        path = self.site.folder / name
        path.touch(0o600)
        path.write_text(text)
        return str(path)

    def texts(self) -> Iterator[tuple[str, str]]:
        """Everything that somebody gets to see, with where it was found."""
        yield from self._of_programs()
        yield from self._of_pages()
        yield from self._of_files()
        for command in (("doctor",), ("incidents", "show", "1")):
            yield " ".join(command), self._printed(*command)

    def _of_programs(self) -> Iterator[tuple[str, str]]:
        for daemon in self.site.stage.daemons:
            if daemon.name in {"serve", "work", "export"}:
                yield f"log of {daemon.name}", daemon.log.read_text()
                for part in ("cmdline", "environ"):
                    path = Path(f"/proc/{daemon.pid}/{part}")
                    yield f"{part} of {daemon.name}", path.read_bytes().decode(errors="replace")
        for port in (self.site.receiver_port, self.site.worker_port, self.site.exporter_port):
            url = f"http://{LOOPBACK}:{port}/metrics"
            yield url, requests.get(url, timeout=10).text

    def _of_pages(self) -> Iterator[tuple[str, str]]:
        url = self.site.url
        for path in ("/", "/login", "/incidents", "/incidents/1", "/api/v1/state", "/nothing"):
            yield path, self.session.get(f"{url}{path}", timeout=10).text
        for path in ("/api/v1/incidents", "/api/v1/incidents/1", "/api/v1/actions", "/-/ready"):
            headers = {"Authorization": f"Bearer {self.robot_token}"}
            yield path, requests.get(f"{url}{path}", headers=headers, timeout=10).text

    def _of_files(self) -> Iterator[tuple[str, str]]:
        state = self.site.state_dir
        yield "settings", repr(read_settings(self.site.folder / "settings.yaml", {}))
        for database in (state / "journal.db", state / "inbox" / "inbox.db"):
            yield database.name, _dump(database)
        for file in (state / "evidence").rglob("*"):
            yield file.name, file.read_text(errors="replace")

    def _printed(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "remediator", "--log-level", "debug", *arguments],
            env={**os.environ, **self.site.environment()},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return done.stdout + done.stderr


def _dump(path: Path) -> str:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        return "\n".join(database.iterdump())


def test_no_secret_is_found_anywhere(
    stage: Stage, engine: DockerEngine, docker_client: object
) -> None:
    del docker_client
    with GpuHost(1) as gpus:
        site = Site(
            stage,
            engine,
            gpus,
            policy=hurried_policy(),
            limits=HURRIED_LIMITS,
            mail=stage.mail_server(),
            waits="1s",
        )
        burdened = Burdened(site)
        burdened.prepare()
        site.start()
        # The mail server knows another one: each notice is refused, and it is said why.
        (site.folder / "mail-password").write_text(MAIL)
        run_gpu_container(site.docker, gpus, "idle", labels={"ds01.user": "alice"})
        burdened.make_trouble()
        site.run("resume")
        site.until(SETTLED, "succeeded", within=60)
        tried = "SELECT count(DISTINCT notifier) FROM notice WHERE tries > 0 AND state <> 'sent'"
        eventually(lambda: site.ask(tried) == 2, 30, "mail and chat were tried in vain")

        texts = dict(burdened.texts())
        found = {
            (where, number)
            for where, text in texts.items()
            for number, secret in enumerate(burdened.secrets())
            if secret in text
        }

    assert found == set()
    # The search would find something: what is no secret is everywhere.
    assert "debug" in texts["log of work"]
    assert "delivery refused" in texts["log of serve"]
    assert "without the right bearer token" in texts["log of serve"]
    assert "alice" in texts["journal.db"]
    assert (
        "remediator_" in texts["/-/ready"] + texts[f"http://{LOOPBACK}:{site.worker_port}/metrics"]
    )
    assert len(burdened.secrets()) >= 12
