from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from remediator.core.containers import ContainerFacts, ContainerSummary, parse_moment
from remediator.core.gpu_claims import GpuClaims
from remediator.core.ownership import Owner, container_type_of, interface_of, owner_of

NOBODY = Owner("unknown", "none")


class Users:
    """A host with two accounts."""

    def __init__(self) -> None:
        self._names = {1001: "alice", 1002: "h.baker@example.org"}

    def exists(self, name: str) -> bool:
        return name in self._names.values()

    def name_of_uid(self, uid: int) -> str | None:
        return {**self._names, 0: "root", 999: "postgres"}.get(uid)


def a_container(name: str = "train", labels: Mapping[str, str] | None = None) -> ContainerFacts:
    return ContainerFacts(
        id="a" * 64,
        name=name,
        image="image",
        labels=labels or {},
        state="running",
        pid=4711,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        started_at=None,
        finished_at=None,
        exit_code=None,
        claims=GpuClaims(),
    )


@pytest.mark.parametrize(
    ("labels", "name", "uid", "expected"),
    [
        pytest.param({"ds01.user": "bob"}, "x._.1001", 1002, Owner("bob", "label"), id="label"),
        pytest.param(
            {"aime.mlc.USER": "bob", "devcontainer.local_folder": "/home/alice/x"},
            "x",
            1002,
            Owner("bob", "aime_label"),
            id="AIME's label",
        ),
        pytest.param(
            {"devcontainer.local_folder": "/home/alice/project"},
            "x._.1002",
            None,
            Owner("alice", "home_folder"),
            id="home folder",
        ),
        pytest.param(
            {"devcontainer.local_folder": "/home/boss/project"},
            "x._.1001",
            None,
            Owner("alice", "name_pattern"),
            id="a claimed home of nobody",
        ),
        pytest.param(
            {"devcontainer.local_folder": "/home/../home/alice"}, "x", None, NOBODY, id="a trick"
        ),
        pytest.param(
            {}, "torch._.1002", 1001, Owner("h.baker@example.org", "name_pattern"), id="name"
        ),
        pytest.param({}, "torch._.4242", 1001, Owner("alice", "process"), id="a uid of nobody"),
        pytest.param({}, "torch", 1001, Owner("alice", "process"), id="main process"),
        pytest.param({}, "torch", 0, NOBODY, id="root in the container"),
        pytest.param({}, "torch", 999, NOBODY, id="a system account's number"),
        pytest.param({}, "torch", None, NOBODY, id="nobody"),
        pytest.param(
            {"ds01.user": 'a"b\n\x1b[2J'}, "x", 1001, Owner("alice", "process"), id="no user name"
        ),
        pytest.param({"ds01.user": "-v"}, "x", None, NOBODY, id="an option"),
        pytest.param({"ds01.user": "unknown"}, "x", None, NOBODY, id="claims to be unknown"),
        pytest.param({"ds01.user": "a" * 65}, "x", None, NOBODY, id="too long"),
    ],
)
def test_owner(labels: dict[str, str], name: str, uid: int | None, expected: Owner) -> None:
    assert owner_of(a_container(name, labels), users=Users(), pid_owner=uid) == expected


@pytest.mark.parametrize(
    ("labels", "container_type", "interface"),
    [
        pytest.param({}, "docker", "docker", id="docker run"),
        pytest.param(
            {"devcontainer.local_folder": "/x"}, "devcontainer", "vscode", id="devcontainer"
        ),
        pytest.param({"com.docker.compose.project": "x"}, "compose", "docker", id="compose"),
        pytest.param({"ds01.interface": "api"}, "api", "api", id="the API"),
        pytest.param(
            {"ds01.interface": "api", "ds01.container_type": "unknown"}, "api", "api", id="API says"
        ),
        pytest.param({"aime.mlc.USER": "x"}, "docker", "atomic", id="AIME's tools"),
        pytest.param(
            {"ds01.container_type": "compose", "ds01.interface": "orchestration"},
            "compose",
            "orchestration",
            id="labelled",
        ),
        pytest.param(
            {"ds01.container_type": "exempt!", "ds01.interface": "x"},
            "unknown",
            "docker",
            id="lies",
        ),
    ],
)
def test_type_and_interface(labels: dict[str, str], container_type: str, interface: str) -> None:
    assert (container_type_of(labels), interface_of(labels)) == (container_type, interface)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", None, id="nothing"),
        pytest.param("0001-01-01T00:00:00Z", None, id="Docker's zero"),
        pytest.param(
            "2026-11-22T00:58:29.079362123Z",
            datetime(2026, 11, 22, 0, 58, 29, 79362, tzinfo=UTC),
            id="nanoseconds",
        ),
        pytest.param(
            "2026-11-22T01:58:29.5+01:00",
            datetime(2026, 11, 22, 0, 58, 29, 500000, tzinfo=UTC),
            id="Berlin",
        ),
        pytest.param(
            "2026-11-21T19:58:29-05:00",
            datetime(2026, 11, 22, 0, 58, 29, tzinfo=UTC),
            id="New York",
        ),
    ],
)
def test_dockers_times_are_read_in_utc(text: str, expected: datetime | None) -> None:
    assert parse_moment(text) == expected


@pytest.mark.parametrize("text", ["yesterday", "2026-11-22", "2026-11-22T00:58:29", "1763772000"])
def test_a_time_without_zone_or_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a time"):
        parse_moment(text)


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59-05:00", "0002-13-01T00:00:00Z"])
def test_a_time_beyond_the_calendar_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"beyond what the calendar has|month must be"):
        parse_moment(text)


def test_an_owner_is_known_once_there_is_a_name() -> None:
    assert Owner("alice", "label").is_known
    assert not NOBODY.is_known


@pytest.mark.parametrize(
    ("state", "running"),
    [("running", True), ("paused", True), ("restarting", True), ("exited", False), ("dead", False)],
)
def test_a_container_in_the_list_has_processes_or_not(state: str, running: bool) -> None:
    assert ContainerSummary("a" * 64, "train", state).is_running is running
