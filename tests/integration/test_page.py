"""The page in a real browser, served by the real receiver, with a real engine behind it.

Debian's Chromium is driven by Playwright. What people see is looked at by axe, which finds faults
of accessibility; one that it calls serious or critical fails.
"""

import hashlib
import importlib.resources
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import axe_playwright_python
import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from remediator.clock import SystemClock
from remediator.core.policy import Mode
from remediator.core.targets import Container
from remediator.inbox.bell import ring
from remediator.keep_links import LinkKey
from remediator.web.users import Role, Users, user_with_password
from remediator.wiring.keep_links import KeepLinks
from tests.builders import HOUR, NOON, a_keepable, a_policy, a_rule, an_alert
from tests.eventually import eventually, patience
from tests.gpu_samples import a_container, a_gpu, a_mig_gpu
from tests.peers.gpu.host import GpuHost
from tests.peers.gpu.image import run_gpu_container
from tests.peers.missing import require_tool
from tests.peers.receiver import Receiver
from tests.peers.site import Site
from tests.peers.stage import Stage
from tests.peers.told_prometheus import ToldPrometheus
from tests.unit.engine_site import EngineSite, body_of, hurried

pytestmark = pytest.mark.integration

expect.set_options(timeout=5_000 * patience())

PASSWORD = "correct horse battery"
HOSTILE = "<script>document.title='owned'</script>" + "x" * 300
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]
PHONE = {"width": 390, "height": 844}


@dataclass(slots=True)
class Served:
    """A receiver with its page, and an engine behind it."""

    receiver: Receiver
    engine: EngineSite

    @property
    def url(self) -> str:
        return self.receiver.url

    def ask_for_approval(self, name: str) -> int:
        """Let an alert about a container arrive; return its incident once it waits."""
        identity = hashlib.sha256(name.encode()).hexdigest()
        labels = {"container_id": identity, "container": name}
        self.engine.store(body_of(an_alert(labels, fingerprint=identity[:16])))
        ring(self.engine.inbox_folder)
        return eventually(lambda: self.waiting(name), 10, "an approval to be asked for")

    def waiting(self, name: str) -> int | None:
        """The incident of a container that waits for an approval."""
        waiting = self.engine.journal.board.waiting(SystemClock().now())
        return next((one.incident for one in waiting if one.title == name), None)


@pytest.fixture(scope="module")
def prometheus() -> Iterator[ToldPrometheus]:
    with ToldPrometheus(
        [
            *a_gpu("0", 93, heat=71, used=70_000),
            *a_gpu("1", 0),
            *a_mig_gpu("2", "1", "2"),
            *a_container("pretrain", "bob", "0"),
            *a_container("notebook", "alice", "1", idle=1500),
            *a_container(HOSTILE, HOSTILE, "1", idle=300, exempt=HOSTILE),
            *a_container("kept", "carol", "1", kept_until=time.time() + 3600),
        ]
    ) as prometheus:
        yield prometheus


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, prometheus: ToldPrometheus
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("page")
    users = Users(folder / "users")
    users.put(user_with_password("alice", Role.OPERATOR, PASSWORD))
    users.put(user_with_password("vera", Role.VIEWER, PASSWORD))
    settings = f"host: gpu1\nprometheus_url: {prometheus.url}\npage: {{users_file: {users.path}}}\n"
    settings += "page_url: http://gpu1.example.org\n"
    receiver = Receiver(folder / "receiver", settings=settings)
    receiver.policy_file.write_text("mode: approve\nrules: []\n")
    receiver.state_dir.mkdir()
    policy = a_policy(a_rule(hurried(), mode=Mode.APPROVE))
    inbox = receiver.state_dir / "inbox"
    engine = EngineSite(receiver.state_dir, policy, clock=SystemClock(), inbox_folder=inbox)
    with engine.working():
        receiver.start()
        served = Served(receiver, engine)
        served.ask_for_approval(HOSTILE)
        yield served
        receiver.stop()
    engine.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = require_tool("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context()
    yield context
    context.close()


def log_in(page: Page, served: Served, name: str = "alice") -> None:
    page.goto(f"{served.url}/login")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def serious_faults(page: Page) -> list[str]:
    """Return what axe finds that keeps people out."""
    axe = importlib.resources.files(axe_playwright_python) / "axe.min.js"
    # Read into the page by the debugger, since its policy allows no foreign script.
    page.evaluate(axe.read_text(encoding="utf-8"))
    found: dict[str, Any] = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        f"{fault['id']} ({fault['impact']}): {node['html'][:200]} {node['failureSummary'][:300]}"
        for fault in found["violations"]
        for node in fault["nodes"]
        if fault["impact"] in {"serious", "critical"}
    ]


def test_axe_would_find_a_fault(context: BrowserContext) -> None:
    page = context.new_page()
    page.set_content("<html lang=en><title>x</title><main><input><h1>x</h1></main></html>")

    assert [fault.split()[0] for fault in serious_faults(page)] == ["label"]


def test_an_operator_logs_in_reads_an_incident_and_approves_it(
    served: Served, context: BrowserContext
) -> None:
    page, messages = context.new_page(), []
    number = served.ask_for_approval("approved")
    page.on("console", lambda message: messages.append(message.text))
    page.goto(f"{served.url}/incidents/{number}")
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    page.get_by_label("Name").fill("alice")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()

    expect(page.get_by_role("heading", name=f"Incident {number}")).to_be_visible()
    expect(page.locator(".story")).to_contain_text("nvml agrees: so it is")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("status")).to_contain_text("stop-container is approved until")

    # Without a hand on the page: the script renews it.
    expect(page.locator(".story")).to_contain_text("succeeded: it is done", timeout=15_000)
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    assert len(served.engine.stop_container.executed) == 1
    assert messages == []


def test_an_operator_pauses_and_resumes(served: Served, context: BrowserContext) -> None:
    page = context.new_page()
    log_in(page, served)

    page.get_by_label("Reason, for whoever reads it later").fill("driver update")
    page.get_by_role("button", name="Pause").click()

    expect(page.get_by_role("status")).to_contain_text("nothing new is begun")
    expect(page.get_by_role("heading", name="Paused")).to_be_visible()
    assert served.engine.journal.operations.pause_reason() == "driver update (alice (page))"
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("status")).to_contain_text("every open incident is looked at anew")
    assert served.engine.journal.operations.pause_reason() is None


def test_a_reason_that_is_being_typed_is_not_taken_away(
    served: Served, context: BrowserContext
) -> None:
    page = context.new_page()
    page.clock.install()
    log_in(page, served)
    reason = page.get_by_label("Reason, for whoever reads it later")
    reason.fill("I am still thin")

    served.engine.journal.operations.open_breaker("too many", SystemClock().now())
    for _ in range(3):
        page.clock.run_for(5_000)
    expect(reason).to_have_value("I am still thin")
    expect(page.get_by_role("heading", name="The breaker is open")).to_have_count(0)

    reason.fill("")
    reason.blur()
    page.clock.run_for(5_000)
    expect(page.get_by_role("heading", name="The breaker is open")).to_be_visible()
    served.engine.journal.operations.close_breaker("test", "over", SystemClock().now())


def test_everything_works_without_javascript(served: Served, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    number = served.ask_for_approval("rejected")
    log_in(page, served)

    page.get_by_role("link", name="Incidents", exact=True).click()
    page.get_by_label("Words").fill("rejected")
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name=str(number), exact=True).click()
    page.get_by_label("Why not").fill("a demo runs on it")
    page.get_by_role("button", name="Reject").click()

    expect(page.get_by_role("status")).to_contain_text("stop-container is rejected")
    assert served.waiting("rejected") is None
    page.get_by_role("button", name="Log out").click()
    page.goto(served.url)
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    context.close()


def this_month() -> str:
    """Return where the report of the running month is."""
    return f"/report?month={SystemClock().now():%Y-%m}"


def test_a_container_is_kept_on_the_page_without_javascript(
    served: Served, browser: Browser
) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    number = served.ask_for_approval("dearly-kept")
    identity = hashlib.sha256(b"dearly-kept").hexdigest()
    kept = a_keepable(Container(identity, NOON), "dearly-kept")
    served.engine.containers.known[identity] = kept
    log_in(page, served)

    page.goto(f"{served.url}/incidents/{number}")
    page.get_by_text("Keep this container").click()
    page.get_by_label("From now on for").select_option("4 hours")
    page.get_by_label("Reason").fill("a demo")
    page.get_by_role("button", name="Keep it").click()

    expect(page.get_by_role("status")).to_contain_text(
        "Accepted. dearly-kept is kept from the idle stop until"
    )
    expect(page.locator("dl.facts").first).to_contain_text("by alice (page)")
    page.goto(served.url)
    keep = page.locator("table.gpus tr", has_text="notebook")
    keep.get_by_text("Keep", exact=False).first.click()
    expect(keep.get_by_role("button", name="Keep it")).to_be_visible()
    context.close()


def test_the_link_in_a_mail_keeps_a_container_on_a_phone_without_javascript(
    served: Served, browser: Browser
) -> None:
    """Nobody logs in; to open it changes nothing, its one button does."""
    context = browser.new_context(java_script_enabled=False, viewport=PHONE, color_scheme="dark")
    page = context.new_page()
    number = served.ask_for_approval("by-link")
    run = Container(hashlib.sha256(b"by-link").hexdigest(), NOON)
    served.engine.containers.known[run.id] = a_keepable(run, "by-link")
    links = KeepLinks(served.url, LinkKey(served.engine.inbox_folder / "link.key"))
    link = links.to_keep((run.id, run.started_at), number, HOUR, SystemClock().now())

    page.goto(link)
    expect(page.get_by_role("heading", name="Keep by-link?")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert served.engine.journal.extensions.last(run.id, None) is None
    page.get_by_role("button", name="Keep it for 1 h from now").click()

    # Its answer appears by itself, as the page is loaded again.
    expect(page.get_by_role("status")).to_contain_text("Done: by-link is kept", timeout=15_000)
    kept = served.engine.journal.extensions.last(run.id, None)
    assert kept is not None
    assert kept.by == "by alice through the link in a notice"
    page.goto(link)
    expect(page.locator("main")).to_contain_text("It is kept until")
    context.close()


def test_the_report_of_a_month_is_read_and_taken_along(
    served: Served, context: BrowserContext
) -> None:
    page = context.new_page()
    log_in(page, served)

    page.goto(served.url + this_month())
    expect(page.get_by_role("heading", name="unfinished")).to_be_visible()
    expect(page.get_by_role("img", name="GPU-hours returned on each of")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="As a file").click()

    name = download.value.suggested_filename
    assert name == f"remediator-{SystemClock().now():%Y-%m}.html"
    page.goto(f"{served.url}/report?month=2020-01")
    expect(page.get_by_role("status")).to_contain_text("The journal knows nothing of 2020-01")
    page.get_by_role("link", name="The running month").click()
    expect(page.get_by_role("heading", name="In short")).to_be_visible()


def test_the_page_fits_a_phone(served: Served, browser: Browser) -> None:
    context = browser.new_context(viewport=PHONE, has_touch=True)
    page = context.new_page()
    log_in(page, served)

    for path in ("/", "/incidents", "/incidents/1", "/incidents?owner=x", this_month()):
        page.goto(served.url + path)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], f"{path} is {width} pixels wide"
    page.goto(served.url)
    cell = page.locator("table.gpus td[data-label='Owner']", has_text="alice").first
    expect(cell).to_be_visible()
    box = page.get_by_role("button", name="Approve").first.bounding_box()
    assert box is not None
    assert box["height"] >= 32
    context.close()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 390)])
def test_nobody_is_kept_out(served: Served, browser: Browser, scheme: Any, width: int) -> None:
    context = browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 900}, bypass_csp=True
    )
    page = context.new_page()
    page.goto(f"{served.url}/login")
    faults = serious_faults(page)
    log_in(page, served)
    operations = served.engine.journal.operations
    operations.open_breaker("too many", SystemClock().now())

    paths = ("/?command=1", "/incidents?owner=alice", "/incidents/1", "/incidents/999")
    for path in (*paths, this_month(), "/report?month=2020-01"):
        page.goto(served.url + path)
        page.evaluate("document.querySelectorAll('details').forEach(it => { it.open = true; })")
        faults += serious_faults(page)
    page.goto(f"{served.url}/extend?k=x")
    faults += serious_faults(page)

    operations.close_breaker("test", "over", SystemClock().now())
    assert faults == []
    context.close()


def test_a_hostile_name_does_nothing_in_a_browser(served: Served, context: BrowserContext) -> None:
    page, dialogs = context.new_page(), []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))
    log_in(page, served)

    for path in ("/", "/incidents", "/incidents/1"):
        page.goto(served.url + path)
        expect(page.locator("main")).to_contain_text("<script>document.title=")
        assert "owned" not in page.title()
    assert dialogs == []


def test_a_link_from_another_site_finds_who_is_logged_in(
    served: Served, context: BrowserContext
) -> None:
    page = context.new_page()
    log_in(page, served)
    page.goto(f"{served.url.replace('127.0.0.1', 'localhost')}/login")

    page.evaluate(f"location.href = '{served.url}/incidents/1'")

    expect(page.get_by_role("heading", name="Incident 1")).to_be_visible()


def test_the_keyboard_reaches_everything_in_order(served: Served, context: BrowserContext) -> None:
    page = context.new_page()
    log_in(page, served)

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")

    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


def test_a_viewer_reads_and_is_offered_nothing_else(
    served: Served, context: BrowserContext
) -> None:
    page = context.new_page()
    log_in(page, served, "vera")

    expect(page.locator("table.gpus")).to_contain_text("25 min of 30 min")
    expect(page.get_by_role("button")).to_have_count(1)


def test_the_receiver_takes_forms_from_strangers_and_no_more(served: Served) -> None:
    tiny = requests.post(f"{served.url}/login", data={"name": "x" * 10_000}, timeout=10)
    large = requests.post(f"{served.url}/login", data={"name": "x" * 40_000}, timeout=10)

    assert tiny.status_code == 403
    assert large.status_code == 413
    assert served.receiver.post().status_code == 200


@pytest.mark.docker
@pytest.mark.gpu
def test_a_real_prometheus_tells_of_gpus_containers_and_clocks(
    stage: Stage, engine: Any, docker_client: object
) -> None:
    """The container is removed after the test (by ``docker_client``)."""
    del docker_client
    with GpuHost(2) as gpus:
        site = Site(stage, engine, gpus)
        site.start_watching()
        site.start_receiver()
        labels = {"ds01.user": "alice"}
        container = run_gpu_container(
            site.docker, gpus, "notebook", gpus=(1,), task="idle", util=0, labels=labels
        )
        headers = {"Authorization": f"Bearer {site.token}"}

        def clock() -> dict[str, Any] | None:
            answer = requests.get(f"{site.url}/api/v1/gpus", headers=headers, timeout=10)
            found = {gpu["slot"]: gpu for gpu in answer.json()["gpus"]}
            inside = found.get("1", {}).get("containers", [])
            return found["1"] if inside and inside[0]["idle_seconds"] else None

        gpu = eventually(clock, 40, "the idle clock of the container on GPU 1")
        (shown,) = gpu["containers"]
        assert (shown["id"], shown["name"], shown["owner"]) == (container.id, "notebook", "alice")
        assert shown["running"]
        assert shown["idle_limit_seconds"] > 0
        assert gpu["utilization_percent"] == 0
        assert gpu["uuid"].startswith("GPU-")
