"""The sources against the real things: a Docker engine and this kernel; for NVML see test_nvml."""

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from docker import DockerClient
from docker.models.containers import Container

from remediator.core.gpu_claims import GpuClaims
from remediator.errors import SourceError, TargetGoneError
from remediator.sources.docker_engine import DockerSource
from remediator.sources.proc import ProcSource
from tests.eventually import eventually, patience
from tests.peers.dockerd import DockerEngine

pytestmark = [pytest.mark.integration, pytest.mark.docker]

SECOND = timedelta(seconds=1)


@pytest.fixture
def source(engine: DockerEngine) -> Iterator[DockerSource]:
    source = DockerSource(engine.url, 5 * SECOND)
    yield source
    source.close()


@dataclass
class Runner:
    """Starts containers that sleep."""

    client: DockerClient
    image: str

    def __call__(self, command: str = "sleep 1000", **options: Any) -> Container:
        options = {"network_mode": "none", "detach": True, **options}
        container = self.client.containers.run(self.image, ["sh", "-c", command], **options)
        container.reload()
        return container


@pytest.fixture
def run(docker_client: DockerClient, busybox: str) -> Runner:
    return Runner(docker_client, busybox)


def test_a_container_is_described_with_exact_times(source: DockerSource, run: Runner) -> None:
    container = run(
        name="exact",
        labels={"ds01.user": "alice", "odd": 'a"b\nc'},
        environment=["NVIDIA_VISIBLE_DEVICES=GPU-a"],
    )

    facts = source.inspect(container.id)

    assert (facts.id, facts.name, facts.state) == (container.id, "exact", "running")
    assert facts.labels == {"ds01.user": "alice", "odd": 'a"b\nc'}
    assert facts.claims == GpuClaims(ids=("GPU-a",))
    assert facts.pid > 1
    assert facts.exit_code is None
    assert facts.finished_at is None
    assert facts.started_at is not None
    assert timedelta() <= facts.started_at - facts.created_at < 10 * SECOND
    assert abs(datetime.now(UTC) - facts.started_at) < 60 * SECOND


def test_a_container_that_ended_has_an_end_and_no_process(
    source: DockerSource, run: Runner
) -> None:
    # Docker may note the end of a shorter life before its start.
    container = run("sleep 0.2; exit 3")
    container.wait()

    facts = source.inspect(container.id)

    assert (facts.state, facts.pid, facts.exit_code) == ("exited", 0, 3)
    assert facts.finished_at is not None
    assert facts.started_at is not None
    assert facts.finished_at >= facts.started_at


def test_the_list_has_stopped_containers_too(source: DockerSource, run: Runner) -> None:
    running, ended = run(name="running"), run("true", name="ended")
    ended.wait()

    listed = {summary.id: (summary.name, summary.state) for summary in source.list()}

    assert listed[running.id] == ("running", "running")
    assert listed[ended.id] == ("ended", "exited")


def test_an_unknown_container_is_gone_and_not_an_error_of_the_engine(source: DockerSource) -> None:
    with pytest.raises(TargetGoneError, match="0000 no longer exists"):
        source.inspect("0" * 64)


def test_a_cuda_images_own_variable_gives_no_gpu(
    source: DockerSource, docker_client: DockerClient, run: Runner
) -> None:
    commit = docker_client.api.commit(
        run().id, "cuda-like", changes=["ENV NVIDIA_VISIBLE_DEVICES=all"]
    )
    plain = Runner(docker_client, commit["Id"])()
    asked = Runner(docker_client, commit["Id"])(environment=["NVIDIA_VISIBLE_DEVICES=0"])

    assert not source.inspect(plain.id).claims.is_gpu
    assert source.inspect(asked.id).claims == GpuClaims(ids=("0",))


def test_device_requests_are_read_from_a_container_that_cannot_start(
    source: DockerSource, docker_client: DockerClient, busybox: str
) -> None:
    api = docker_client.api
    requests = [{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}]
    config = api.create_host_config(device_requests=requests)
    created = api.create_container(busybox, ["true"], host_config=config)["Id"]

    facts = source.inspect(created)

    assert facts.claims == GpuClaims(all=True)
    assert (facts.state, facts.started_at, facts.exit_code) == ("created", None, None)


def test_events_come_as_they_happen_and_end_from_another_thread(
    source: DockerSource, run: Runner
) -> None:
    feed = source.events(silence=60 * SECOND)
    seen: list[tuple[str, str]] = []

    def listen() -> None:
        seen.extend((event.container_id, event.action) for event in feed)
        seen.append(("", "end"))

    thread = threading.Thread(target=listen)
    thread.start()
    container = run()
    container.remove(force=True)
    again = source.events(datetime.now(UTC) - 10 * SECOND, silence=SECOND)
    actions = [event.action for event in again if event.container_id == container.id]
    feed.close()
    thread.join(5)

    assert actions == ["create", "start", "kill", "die", "destroy"]
    assert not thread.is_alive()
    assert seen[-1] == ("", "end")


def test_a_silent_event_stream_ends(source: DockerSource) -> None:
    began = time.monotonic()

    assert list(source.events(silence=timedelta(milliseconds=300))) == []
    assert time.monotonic() - began < 5 * patience()


def test_a_frozen_engine_is_an_error_in_time_and_works_again(engine: DockerEngine) -> None:
    source = DockerSource(engine.url, SECOND)
    source.version()
    engine.freeze()
    try:
        began = time.monotonic()
        with pytest.raises(SourceError, match="list of containers"):
            source.list()
        assert time.monotonic() - began < 5 * patience()
    finally:
        engine.thaw()

    eventually(source.version, 5, "the engine answers again")
    source.close()


def test_an_engine_that_is_not_there_yet_is_only_an_error_at_the_question(tmp_path: Path) -> None:
    source = DockerSource(f"unix://{tmp_path}/docker.sock", SECOND)

    with pytest.raises(SourceError, match="Docker did not answer"):
        source.list()
    with pytest.raises(SourceError, match="No such file"):
        source.events(silence=SECOND)


def test_many_threads_may_ask_at_once(source: DockerSource, run: Runner) -> None:
    container = run()
    answers: list[str] = []

    def ask() -> None:
        answers.extend(source.inspect(container.id).state for _ in range(5))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert answers == ["running"] * 40


def test_a_keep_alive_on_a_bind_mount_is_seen_from_the_host(
    source: DockerSource, run: Runner, tmp_path: Path
) -> None:
    facts = source.inspect(run(volumes=[f"{tmp_path}:/workspace"]).id)
    file = tmp_path / ".keep-alive"

    assert source.keep_alive_at(facts) is None
    file.touch()
    os.utime(file, (4e9, 4e9))
    found = source.keep_alive_at(facts)

    assert found is not None
    mtime, ctime = found
    assert mtime.timestamp() == 4e9
    assert abs(datetime.now(UTC) - ctime) < 60 * SECOND


def test_a_keep_alive_that_is_a_link_is_not_followed(
    source: DockerSource, run: Runner, tmp_path: Path
) -> None:
    target = tmp_path / "old"
    target.touch()
    os.utime(target, (1e9, 1e9))
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / ".keep-alive").symlink_to(target)

    found = source.keep_alive_at(source.inspect(run(volumes=[f"{workspace}:/workspace"]).id))

    assert found is not None
    assert abs(datetime.now(UTC) - found[0]) < 60 * SECOND


@pytest.mark.parametrize(
    ("touch", "forged"),
    [
        pytest.param("touch /workspace/.keep-alive", False, id="touched"),
        pytest.param("touch -d 2099-01-01 /workspace/.keep-alive", True, id="dated ahead"),
    ],
)
def test_a_keep_alive_in_the_containers_own_files_is_seen(
    source: DockerSource, run: Runner, touch: str, forged: bool
) -> None:
    container = run(f"mkdir -p /workspace; {touch}; sleep 1000")
    facts = source.inspect(container.id)

    found = eventually(lambda: source.keep_alive_at(facts), 5, "the file is there")

    assert (found[0].year == 2099) is forged
    assert abs(datetime.now(UTC) - min(found)) < 60 * SECOND
    assert (min(found) == facts.started_at) is forged


def test_a_keep_alive_is_seen_where_this_program_sees_other_files_than_the_container(
    source: DockerSource, run: Runner, tmp_path: Path
) -> None:
    """A hidden /home or a container of our own shows an empty folder in the mount's place."""
    workspace, hidden = tmp_path / "workspace", tmp_path / "hidden"
    workspace.mkdir()
    hidden.mkdir()
    (workspace / ".keep-alive").touch()
    facts = source.inspect(run(volumes=[f"{workspace}:/workspace"]).id)
    mount = replace(facts.mounts[0], source=str(hidden))

    assert source.keep_alive_at(replace(facts, mounts=(mount,))) is not None


def test_a_container_without_keep_alive_has_none(source: DockerSource, run: Runner) -> None:
    assert source.keep_alive_at(source.inspect(run().id)) is None


def test_the_kernel_tells_what_a_container_uses(source: DockerSource, run: Runner) -> None:
    facts = source.inspect(run("while :; do :; done").id)
    other = source.inspect(run().id)
    kernel = ProcSource()

    first = kernel.cpu_seconds(facts.pid, facts.id)

    assert first is not None
    eventually(lambda: (kernel.cpu_seconds(facts.pid, facts.id) or 0) > first + 0.2, 10, "it works")
    assert (kernel.cpu_seconds(other.pid, other.id) or 0) < 0.2
    assert 0 < (kernel.memory_bytes(facts.pid, facts.id) or 0) < 1e9
    assert kernel.network_bytes(facts.pid) == (0, 0)
    assert kernel.container_of(facts.pid, [other.id, facts.id]) == facts.id
    assert kernel.owner_uid(facts.pid) == 0


def test_what_docker_exec_starts_is_in_the_container(source: DockerSource, run: Runner) -> None:
    container = run()
    container.exec_run(["sleep", "500"], detach=True)

    def sleeper() -> int | None:
        rows = container.top()["Processes"]
        return next((int(row[1]) for row in rows if "sleep 500" in row[-1]), None)

    pid = eventually(sleeper, 5, "the process runs")
    assert ProcSource().container_of(pid, [container.id]) == container.id


def test_a_container_in_the_hosts_network_has_no_counters_of_its_own(
    source: DockerSource, run: Runner
) -> None:
    facts = source.inspect(run(network_mode="host").id)

    assert ProcSource().network_bytes(facts.pid) is None


def test_a_container_that_ended_uses_nothing(source: DockerSource, run: Runner) -> None:
    container = run()
    facts = source.inspect(container.id)
    kernel = ProcSource()
    assert kernel.cpu_seconds(facts.pid, facts.id) is not None

    container.remove(force=True)

    assert kernel.cpu_seconds(facts.pid, facts.id) is None
    assert kernel.memory_bytes(facts.pid, facts.id) is None
