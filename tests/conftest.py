"""What every test may ask for, and what happens when this machine cannot offer it.

A test that needs a peer which is not here is skipped on a laptop, and fails under
``--require-services``, which CI gives: no test passes there because something is missing. The
fixtures need not know: they raise `PeerMissingError`, and the hooks below decide.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NoReturn

import hypothesis
import pytest
from docker import DockerClient

from tests.peers.dockerd import DockerEngine, busybox_image, remove_test_containers
from tests.peers.missing import PACKAGES, PeerMissingError, find_tool, require_tool
from tests.peers.smtp import MailServer
from tests.peers.stage import Stage
from tests.peers.systemd_host import SystemdHost
from tests.peers.terminals import Terminals

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("remediator", deadline=None)
hypothesis.settings.load_profile("remediator")

_STAGES = pytest.StashKey[list[Stage]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-services",
        action="store_true",
        help="fail tests whose peers are missing, instead of skipping them",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_STAGES] = []
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # What a shell starts in the background hears no Ctrl-C, and so would all that tests start.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_report_header() -> list[str]:
    """Say which peers this machine has."""
    missing = [name for name in PACKAGES if find_tool(name) is None]
    header = [f"peers: {', '.join(name for name in PACKAGES if name not in missing)}"]
    if missing:
        packages = " ".join(dict.fromkeys(PACKAGES[name] for name in missing))
        header.append(f"missing: {', '.join(missing)} (apt-get install {packages})")
    if os.geteuid() != 0:
        header.append("missing: root, so no containers, terminals or systemd")
    return header


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """Skip or fail a test whose fixtures found a peer missing."""
    try:
        return (yield)
    except PeerMissingError as error:
        _without_peer(item.config, error)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Skip or fail a test that found a peer missing itself."""
    try:
        return (yield)
    except PeerMissingError as error:
        _without_peer(item.config, error)


def _without_peer(config: pytest.Config, error: PeerMissingError) -> NoReturn:
    if config.getoption("--require-services"):
        raise pytest.fail.Exception(str(error), pytrace=False) from None
    raise pytest.skip.Exception(str(error)) from None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show how the logs of all peers end when a test failed."""
    report = yield
    if report.failed:
        for stage in item.config.stash[_STAGES]:
            report.sections.extend((f"log {path}", tail) for path, tail in stage.logs() if tail)
    return report


def _stage(config: pytest.Config, folder: Path) -> Iterator[Stage]:
    with Stage(folder) as stage:
        config.stash[_STAGES].append(stage)
        yield stage
        config.stash[_STAGES].remove(stage)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder of this test's own."""
    return tmp_path


@pytest.fixture(scope="session", name="require_tool")
def require_tool_fixture() -> Callable[[str], str]:
    """Ask it for a program's path; the test is skipped or fails where there is none."""
    return require_tool


@pytest.fixture(scope="session")
def session_stage(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """Peers that live until the last test."""
    yield from _stage(pytestconfig, tmp_path_factory.mktemp("session"))


@pytest.fixture(scope="module")
def module_stage(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """Peers that live until the last test of a module."""
    yield from _stage(pytestconfig, tmp_path_factory.mktemp("module"))


@pytest.fixture
def stage(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Peers that live as long as one test."""
    yield from _stage(pytestconfig, tmp_path_factory.mktemp("stage"))


@pytest.fixture(scope="session")
def engine(session_stage: Stage) -> DockerEngine:
    """The Docker engine of this run. Kill or restart only one of your own (`Stage`)."""
    return session_stage.docker_engine()


@pytest.fixture(scope="session")
def session_docker_client(engine: DockerEngine) -> DockerClient:
    """A client for fixtures that outlive a test."""
    return engine.client()


@pytest.fixture(scope="session")
def busybox(session_docker_client: DockerClient) -> str:
    """The name of an image with a shell and the usual small programs."""
    return busybox_image(session_docker_client)


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of everything that pip has to find to install us, our own wheel included."""
    folder = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", f"--wheel-dir={folder}", _ours()]
    subprocess.run(command, check=True)
    return folder


def _ours() -> str:
    """What pip makes our wheel of; where the sources were left out on purpose, it is in dist."""
    root = Path(__file__).resolve().parents[1]
    if (root / "remediator").is_dir():
        return f"{root}[dbus]"
    return f"{next((root / 'dist').glob('remediator-*.whl'))}[dbus]"


@pytest.fixture
def docker_client(
    engine: DockerEngine, session_docker_client: DockerClient
) -> Iterator[DockerClient]:
    """A client of the engine; the containers that the test leaves are removed after it."""
    yield session_docker_client
    engine.thaw()
    remove_test_containers(session_docker_client)


@pytest.fixture(scope="session")
def systemd_host(session_stage: Stage, engine: DockerEngine) -> SystemdHost:
    """A booted systemd whose bus is reached at its ``bus_address``."""
    return session_stage.systemd_host(engine)


@pytest.fixture
def mail_server(stage: Stage) -> MailServer:
    """A mail server with STARTTLS and a login."""
    return stage.mail_server()


@pytest.fixture
def terminals(stage: Stage) -> Terminals:
    """The terminals of people who are logged in: nobody, so far."""
    return stage.terminals()
