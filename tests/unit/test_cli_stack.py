"""`remediator stack` without an engine: what it asks of compose, and what it says if it cannot."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from remediator import __version__
from remediator.stack import Stack
from tests.unit.test_cli import Done, remediator

COMPOSE = Path(__file__).resolve().parents[2] / "compose"
# Writes down how it was called, and has for compose's answers what the test put there.
PROGRAM = """\
#!/bin/sh
echo "$(basename "$0") $*" >>{folder}/calls
[ "$1" = compose ] && shift
[ -e {folder}/fails ] && echo "it cannot" >&2 && exit 17
if [ "$1" = config ]; then cat {folder}/config; fi
exit 0
"""
CONFIG = """\
services:
  prometheus: {image: prom}
  dcgm-exporter: {image: dcgm, profiles: [dcgm]}
  worker: {image: ours, build: {context: ..}, profiles: [remediator]}
"""


@pytest.fixture
def stack(folder: Path) -> Path:
    """A folder with everything that compose needs, and nothing of what it does not."""
    for name in ("compose.yaml", ".env.example"):
        shutil.copy2(COMPOSE / name, folder)
    (folder / ".env.example").rename(folder / ".env")
    for name in ("config/settings.yaml", "config/policy.yaml"):
        _write(folder / name)
    for name in ("secrets/token", "secrets/grafana-password"):
        _write(folder / name)
    return folder


def _write(path: Path, text: str = "", mode: int = 0o644) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


@pytest.fixture
def programs(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Make programs of that name, and return the folder that they are in."""

    def make(*names: str) -> Path:
        folder = tmp_path_factory.mktemp("programs")
        for name in names:
            _write(folder / name, PROGRAM.format(folder=folder), 0o755)
        _write(folder / "config", CONFIG)
        _write(folder / "calls")
        return folder

    return make


def run(stack: Path, programs: Path, *arguments: str, **more: str) -> Done:
    return remediator(
        ["stack", "--directory", str(stack), *arguments],
        **{"PATH": f"{programs}:/usr/bin:/bin", **more},
    )


def calls(programs: Path) -> list[str]:
    return [line for line in (programs / "calls").read_text().splitlines() if "version" not in line]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["up"], ["up --detach"], id="up"),
        pytest.param(["down"], ["down"], id="down keeps the volumes"),
        pytest.param(["down", "--volumes", "--yes"], ["down --volumes"], id="down, asked to"),
        pytest.param(["restart"], ["restart"], id="restart"),
        pytest.param(["restart", "worker"], ["restart worker"], id="restart one"),
        pytest.param(["logs"], ["logs --tail=100"], id="logs"),
        pytest.param(
            ["logs", "--follow", "--tail", "5", "worker"],
            ["logs --tail=5 --follow worker"],
            id="logs of one",
        ),
        pytest.param(
            ["update"],
            ["config", "pull prometheus dcgm-exporter", "build", "up --detach"],
            id="update does not pull what is built here",
        ),
    ],
)
@pytest.mark.parametrize(
    ("names", "prefix"),
    [(("docker", "docker-compose"), "docker compose"), (("docker-compose",), "docker-compose")],
    ids=["the plugin goes first", "the older program"],
)
def test_compose_is_asked_for_just_that(
    stack: Path,
    programs: Callable[..., Path],
    arguments: list[str],
    expected: list[str],
    names: tuple[str, ...],
    prefix: str,
) -> None:
    here = programs(*names)
    if "docker" not in names:
        # One that is on this machine has no plugin, or must not be asked.
        _write(here / "docker", "#!/bin/sh\nexit 1\n", 0o755)

    done = run(stack, here, *arguments)

    assert (done.code, done.err) == (0, "")
    assert calls(here) == [f"{prefix} {call}" for call in expected]


def test_volumes_are_not_removed_without_a_yes(
    stack: Path, programs: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    here = programs("docker")
    with Path("/dev/null").open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        done = run(stack, here, "down", "--volumes")

    assert (done.code, calls(here)) == (1, [])
    assert "the journal and the inbox" in done.err
    assert "nothing was removed" in done.err


@pytest.mark.parametrize("command", ["up", "down", "restart", "logs", "update", "status"])
def test_what_compose_cannot_do_is_a_1(
    stack: Path, programs: Callable[..., Path], command: str
) -> None:
    here = programs("docker-compose")
    _write(here / "docker", "#!/bin/sh\nexit 1\n", 0o755)
    _write(here / "fails")

    assert run(stack, here, command).code == 1


def test_what_compose_said_is_told(stack: Path, programs: Callable[..., Path]) -> None:
    here = programs("docker")
    _write(here / "config", "services: {}\n")
    (here / "docker").write_text(
        '#!/bin/sh\n[ "$2" = version ] && exit 0\necho "it cannot" >&2; exit 17\n'
    )

    done = run(stack, here, "status")

    assert (done.code, done.out) == (1, "")
    assert done.err == "remediator: docker compose ps: it cannot\n"


def test_without_compose_it_says_what_to_install(stack: Path, folder: Path) -> None:
    done = remediator(["stack", "--directory", str(stack), "up"], PATH=str(folder / "empty"))

    assert done.code == 1
    assert "docker-compose-plugin" in done.err
    assert "docker-compose (Debian's)" in done.err


def test_a_folder_that_is_none_of_ours_is_named(
    folder: Path, programs: Callable[..., Path]
) -> None:
    done = run(folder / "nowhere", programs("docker"), "up")

    assert done.code == 1
    assert f"{folder}/nowhere has no compose.yaml" in done.err
    assert "REMEDIATOR_STACK" in done.err


def test_all_files_that_are_missing_are_named_at_once(
    stack: Path, programs: Callable[..., Path]
) -> None:
    here = programs("docker")
    (stack / "config" / "policy.yaml").unlink()
    (stack / "secrets" / "token").unlink()
    (stack / ".env").unlink()

    done = run(stack, here, "status", "--quiet")

    assert done.code == 1
    for name in (".env", "config/policy.yaml", "secrets/token"):
        assert str(stack / name) in done.err
    assert "grafana-password" not in done.err
    assert f"bash {stack}/prepare.sh" in done.err


def test_folders_that_are_elsewhere_are_looked_for_there(
    stack: Path, programs: Callable[..., Path]
) -> None:
    here = programs("docker")
    (stack / "config").rename(stack / "etc")
    (stack / ".env").write_text("REMEDIATOR_CONFIG=./etc  \n# a comment\n")

    assert run(stack, here, "up").code == 0
    assert run(stack, here, "up", REMEDIATOR_CONFIG="./config").code == 1


def test_the_image_that_is_pinned_is_the_one_of_this_version() -> None:
    text = (COMPOSE / "compose.yaml").read_text()

    assert f"${{REMEDIATOR_IMAGE:-remediator:{__version__}}}" in text


@pytest.mark.parametrize(
    ("profiles", "expected"),
    [
        ("", {"prometheus"}),
        ("dcgm", {"prometheus", "dcgm-exporter"}),
        ("dcgm,remediator", {"prometheus", "dcgm-exporter", "worker"}),
    ],
)
def test_services_are_those_of_the_chosen_profiles(
    stack: Path, programs: Callable[..., Path], profiles: str, expected: set[str]
) -> None:
    (stack / ".env").write_text(f"COMPOSE_PROFILES={profiles}\n")
    here = programs("docker")

    assert Stack(stack, {"PATH": f"{here}:/usr/bin:/bin"}).services().keys() == expected
