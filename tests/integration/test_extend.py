"""An owner keeps a container five seconds before its stop, with all real but the driver."""

import copy
import html
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from docker.models.containers import Container

from tests.eventually import eventually
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu.host import GpuHost
from tests.peers.gpu.image import run_gpu_container
from tests.peers.site import POLICY, Site
from tests.peers.stage import Stage

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.gpu]

NOTICE = timedelta(seconds=20)
JUST_BEFORE = timedelta(seconds=5)
LIMITS: dict[str, Any] = {
    "policies": {"grace_period_m": 0.01, "sigterm_grace_s": 3},
    "container_types": {"docker": {"idle_timeout_h": 0.001, "sigterm_grace_s": 3}},
}
ATTEMPTS = "SELECT count(*) FROM attempt WHERE remediation = 'stop-container'"
WARNINGS = "SELECT count(*) FROM warning"
EXEMPT = "SELECT count(*) FROM decision WHERE reason = 'exempt'"
KEPT_UNTIL = "ds01_container_keep_alive_until_seconds"


@pytest.fixture
def gpus() -> Iterator[GpuHost]:
    with GpuHost(1) as host:
        yield host


@pytest.fixture
def site(stage: Stage, engine: DockerEngine, gpus: GpuHost, docker_client: object) -> Site:
    """A site with mail and links, whose containers are removed (by ``docker_client``)."""
    del docker_client
    policy = copy.deepcopy(POLICY)
    policy["rules"][0]["warn"] = {"before": f"{NOTICE.seconds}s", "tell": ["owner"]}
    site = Site(stage, engine, gpus, policy=policy, limits=LIMITS, mail=stage.mail_server())
    site.more_settings = {"page_url": site.url}
    return site


def by_file(site: Site, container: Container) -> None:
    code, _ = container.exec_run(
        ["sh", "-c", "mkdir -p /workspace && touch /workspace/.keep-alive"]
    )
    assert code == 0
    del site


def by_command(site: Site, container: Container) -> None:
    told = site.run("extend", str(container.name), "4h", "--reason", "a run begins soon")

    assert told.startswith(f"{container.name} is kept from the idle stop until ")


def by_link(site: Site, container: Container) -> None:
    """Follow the link as a mail scanner does, which changes nothing, and then as a person."""
    link = link_of(site)
    for method in ("HEAD", "GET", "GET"):
        page = requests.request(method, link, timeout=10)
        assert page.status_code == requests.codes.ok
    assert site.ask("SELECT count(*) FROM extension") == 0
    assert f"Keep {container.name}?" in page.text
    found = re.search(r'<form method="post" action="([^"]+)">', page.text)
    assert found is not None

    done = requests.post(f"{site.url}/extend{html.unescape(found[1])}", timeout=10)

    assert done.status_code == requests.codes.ok
    eventually(lambda: "Done" in requests.get(done.url, timeout=10).text, 10, "the answer")


def link_of(site: Site) -> str:
    assert site.mail is not None
    mails = [m for m in site.mail.to("alice@example.org") if "will be stopped" in m.subject]
    found = re.search(r"http://\S+/extend\?k=\S+", mails[-1].text)
    assert found is not None, mails[-1].text
    return found[0]


def is_shown_as_kept(site: Site, container: Container) -> bool:
    metrics = requests.get(f"http://127.0.0.1:{site.exporter_port}/metrics", timeout=10).text
    kept = [line for line in metrics.splitlines() if line.startswith(KEPT_UNTIL)]
    return any(str(container.id) in line for line in kept)


def wait_until_just_before_the_stop(site: Site, lead: timedelta) -> None:
    """Wait for the last seconds, and leave *lead* for a program to start."""
    warned_at = datetime.fromisoformat(str(site.ask("SELECT warned_at FROM warning")))
    moment = warned_at + NOTICE - JUST_BEFORE - lead
    eventually(lambda: datetime.now(UTC) >= moment, NOTICE.seconds, "the last seconds")
    assert site.ask(ATTEMPTS) == 0


def a_start(site: Site) -> timedelta:
    """Return how long it takes at the moment until a command of ours has started and ended."""
    began = datetime.now(UTC)
    site.run("incidents", "list")
    return datetime.now(UTC) - began


@pytest.mark.parametrize("keep", [by_file, by_command, by_link])
def test_an_owner_prevents_the_stop_five_seconds_before_it(
    site: Site, keep: Callable[[Site, Container], None]
) -> None:
    site.start()
    container = run_gpu_container(site.docker, site.gpus, "train", labels={"ds01.user": "alice"})
    before = container.attrs["State"]
    site.until(WARNINGS, 1, within=60)
    eventually(lambda: site.mail and site.mail.to("alice@example.org"), 10, "the warning")
    lead = a_start(site) if keep is by_command else timedelta()
    wait_until_just_before_the_stop(site, lead)

    keep(site, container)
    was_kept_at = datetime.now(UTC)
    eventually(lambda: site.ask(EXEMPT), 5, "the countdown to stop at once")

    # Well beyond the time of the stop, and of what would follow it.
    over = was_kept_at + JUST_BEFORE + NOTICE
    eventually(lambda: datetime.now(UTC) >= over, 30, "the stop to be overdue")
    container.reload()
    assert site.ask(ATTEMPTS) == 0
    assert all(container.attrs["State"][key] == before[key] for key in ("Status", "Pid"))
    eventually(lambda: is_shown_as_kept(site, container), 30, "the exporter to show it")
    closed = "SELECT count(*) FROM incident WHERE fault = 'idle container' AND closed_at NOT NULL"
    site.until(closed, 1, within=60)


def seen_with_the_token(site: Site, path: str) -> str:
    """Return a page as it is for who has logged in with the receiver's token."""
    with requests.Session() as browser:
        form = re.search(
            r'name="form" value="([^"]+)"', browser.get(f"{site.url}/login", timeout=10).text
        )
        assert form is not None
        fields = {"form": form[1], "next": path, "password": site.token}
        return browser.post(f"{site.url}/login", data=fields, timeout=10).text


def test_a_command_is_shown_and_capped_and_can_be_taken_back(site: Site) -> None:
    site.start()
    container = run_gpu_container(site.docker, site.gpus, "train", labels={"ds01.user": "alice"})
    site.until(WARNINGS, 1, within=60)
    number = str(site.ask("SELECT incident FROM warning"))

    capped = site.run("extend", str(container.id)[:12], "9d")
    story = site.run("incidents", "show", number)
    page = seen_with_the_token(site, f"/incidents/{number}")
    taken_back = site.run("extend", number, "0")

    assert "(1 d, which is the most at a time)" in capped
    assert "kept until " in story
    assert "<dt>Kept</dt><dd>until " in page
    assert taken_back.startswith("train is not kept any more")
    # The clock of idleness went on: a new warning comes first, and then the stop.
    site.until(f"{ATTEMPTS} AND state = 'succeeded'", 1, within=60)
    warnings = "SELECT count(DISTINCT created_at) FROM notice WHERE kind = 'warning'"
    # A third time where Prometheus saw the alert pause meanwhile, which a scrape decides.
    assert site.ask(warnings) in {2, 3}
