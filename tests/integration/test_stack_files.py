"""What is beside compose.yaml: prepare.sh, and the file that gives the GPUs."""

import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.peers.missing import require_root, require_tool

pytestmark = pytest.mark.integration

COMPOSE = Path(__file__).resolve().parents[2] / "compose"


@pytest.fixture
def compose(folder: Path) -> Path:
    """A copy of what is shipped, in which nothing was made yet."""
    require_root("making secrets that belong to root")
    made_here = shutil.ignore_patterns("config", "secrets", ".env")
    return Path(shutil.copytree(COMPOSE, folder / "compose", ignore=made_here))


def prepare(compose: Path, *wrapper: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*wrapper, "bash", str(compose / "prepare.sh")],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def contents(folder: Path) -> dict[str, tuple[str, int, int]]:
    """Text, rights and group of each file."""
    return {
        str(path.relative_to(folder)): (
            path.read_text(),
            stat.S_IMODE(path.stat().st_mode),
            path.stat().st_gid,
        )
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_it_is_made_once_and_then_stays_as_it_is(compose: Path) -> None:
    first = prepare(compose)
    made = contents(compose)

    again = prepare(compose)

    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.count("new:") == 6
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert contents(compose) == made
    secrets = {made[f"secrets/{name}"] for name in ("token", "grafana-password")}
    assert len({text for text, _, _ in secrets}) == 2
    assert {(len(text), mode, group) for text, mode, group in secrets} == {(64, 0o640, 9095)}


def test_it_follows_what_env_and_the_environment_say(compose: Path, folder: Path) -> None:
    (compose / ".env").write_text(
        f"REMEDIATOR_CONFIG={folder}/etc\nREMEDIATOR_ID=4711\nREMEDIATOR_SECRETS=./hidden\n"
    )

    assert prepare(compose, REMEDIATOR_ID="4712").returncode == 0

    assert (folder / "etc" / "policy.yaml").is_file()
    assert contents(compose)["hidden/token"][1:] == (0o640, 4712)
    assert not (compose / "secrets").exists()


def test_an_id_that_is_none_is_refused_before_anything_is_made(compose: Path) -> None:
    done = prepare(compose, REMEDIATOR_ID="root")

    assert done.returncode == 1
    assert done.stderr == 'prepare: REMEDIATOR_ID has to be a number, not "root"\n'
    assert not (compose / "secrets").exists()


def test_only_root_can_make_secrets() -> None:
    wrapper = (require_tool("setpriv"), "--reuid=65534", "--clear-groups", "--regid=65534")
    with tempfile.TemporaryDirectory() as name:
        # Whoever runs it has to get at the file at least.
        Path(name).chmod(0o755)
        shutil.copy2(COMPOSE / "prepare.sh", name)
        done = prepare(Path(name), *wrapper)

    assert (done.returncode, done.stderr) == (1, "prepare: has to be run as root\n")


def test_the_gpus_are_given_to_those_who_ask_the_driver(
    compose: Path, require_tool: Callable[[str], str]
) -> None:
    shutil.copy2(compose / ".env.example", compose / ".env")
    command = [require_tool("docker-compose"), "config"]
    done = subprocess.run(command, cwd=compose, capture_output=True, text=True, check=True)
    services: dict[str, dict[str, Any]] = yaml.safe_load(done.stdout)["services"]

    given = {name for name, service in services.items() if "deploy" in service}
    assert given == {"dcgm-exporter", "exporter", "worker"}
    for name in given:
        (device,) = services[name]["deploy"]["resources"]["reservations"]["devices"]
        assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu", "utility"]}
