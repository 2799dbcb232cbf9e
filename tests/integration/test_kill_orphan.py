"""kill-orphan on the real kernel and a real engine: who dies, and above all who does not."""

import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta

import pytest
from docker import DockerClient

from remediator.actuators.processes import ProcessActuator
from remediator.core.attempts import Proof
from remediator.core.observation import Observation, Source, Verdict
from remediator.core.targets import Process
from remediator.errors import EffectUnknownError, RefusedError, TargetGoneError
from remediator.sources.docker_engine import DockerSource
from tests.builders import SECOND
from tests.eventually import eventually
from tests.fakes import MemorySteps
from tests.integration.orphan_machine import ALICE, BOB, OrphanMachine
from tests.peers.dockerd import DockerEngine
from tests.peers.gpu import build
from tests.peers.gpu.host import GpuHost
from tests.peers.gpu.image import build_gpu_image, device_options
from tests.peers.pids import spawn_as
from tests.peers.stage import Stage

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.gpu]

SOON = timedelta(milliseconds=300)


@pytest.fixture
def machine(engine: DockerEngine, docker_client: DockerClient) -> Iterator[OrphanMachine]:
    with GpuHost(2) as host:
        made = OrphanMachine(host, docker_client, engine.url)
        yield made
        # Processes first: a group that holds one cannot be taken away.
        host.end_tasks()
        made.close()


def verdicts(seen: Observation) -> dict[Source, Verdict]:
    return {report.source: report.verdict for report in seen.reports}


def said(seen: Observation) -> str:
    return " | ".join(report.says for report in seen.reports)


def is_spared(machine: OrphanMachine, target: Process, gpu: int = 0) -> Observation:
    """Check that *target* is neither agreed on nor signalled when told to; return what was seen."""
    seen = machine.look(target, gpu)
    steps = MemorySteps()
    with pytest.raises((RefusedError, TargetGoneError)):
        machine.kill.execute(machine.task(target, gpu), steps)
    assert steps.names == []
    agrees = {report.verdict for report in seen.reports} == {Verdict.AGREES}
    assert not agrees or seen.exempt
    return seen


def test_an_orphan_that_honours_the_signal_is_ended_and_proven_gone(machine: OrphanMachine) -> None:
    target = machine.start()
    asked = (Source.PROMETHEUS, Source.DOCKER, Source.NVML)
    seen = machine.look(target)
    assert verdicts(seen) == dict.fromkeys(asked, Verdict.AGREES)
    assert seen.target == target
    assert seen.owner == "alice"
    task = machine.task(target)
    assert machine.kill.verify(task).proof is Proof.DISPROVEN
    steps = MemorySteps()

    told = machine.kill.execute(task, steps)

    assert told == "it ended when it was asked to"
    assert steps.names == ["sigterm", "wait"]
    assert not machine.lives(target)
    assert machine.kill.verify(task).proof is Proof.PROVEN


def test_one_that_ignores_the_signal_is_ended_by_force(machine: OrphanMachine) -> None:
    target = machine.start(task="stubborn")
    steps = MemorySteps()

    told = machine.kill.execute(machine.task(target, wait=SOON), steps)

    assert "ended by force" in told
    assert steps.names == ["sigterm", "wait", "sigkill"]
    assert machine.kill.verify(machine.task(target)).proof is Proof.PROVEN


def test_the_process_that_a_container_started_is_spared(machine: OrphanMachine) -> None:
    container, target = machine.run("train")

    seen = is_spared(machine, target)

    assert verdicts(seen)[Source.DOCKER] is Verdict.DISAGREES
    assert "its container is running" in said(seen)
    assert machine.lives(target)
    container.reload()
    assert container.status == "running"


def test_what_was_started_in_a_container_later_is_spared(machine: OrphanMachine) -> None:
    container, main = machine.run("train")
    container.exec_run(["gpu-task"], detach=True)
    others = lambda: {h.pid for h in machine.host.holders(0)} - {main.pid}  # noqa: E731
    [pid] = eventually(others, 10, "the second process")

    is_spared(machine, machine.target(pid))

    assert machine.lives(machine.target(pid))


def test_what_a_container_with_the_hosts_processes_started_is_spared(
    machine: OrphanMachine,
) -> None:
    _, target = machine.run("nosy", pid_mode="host", user=str(ALICE))

    seen = is_spared(machine, target)

    assert "its container is running" in said(seen)
    assert machine.lives(target)


def test_a_paused_containers_process_is_spared(machine: OrphanMachine) -> None:
    container, target = machine.run("asleep")
    container.pause()
    try:
        is_spared(machine, target)
    finally:
        container.unpause()
    assert machine.lives(target)


def test_what_is_in_a_group_of_ds01s_own_is_spared(machine: OrphanMachine) -> None:
    _, target = machine.run("grouped", cgroup_parent="/ds01-lab-alice")

    is_spared(machine, target)

    assert machine.lives(target)


def test_another_engines_container_is_spared(machine: OrphanMachine, stage: Stage) -> None:
    other = stage.docker_engine()
    client = other.client()
    container = client.containers.run(
        build_gpu_image(client),
        ["gpu-task"],
        detach=True,
        network_mode="none",
        devices=device_options(machine.host, (0,)),
        environment={"NVIDIA_VISIBLE_DEVICES": machine.host.uuid(0)},
    )
    container.reload()
    pid = int(container.attrs["State"]["Pid"])
    machine.until_on(0, pid)

    seen = is_spared(machine, machine.target(pid))

    assert "its container is not known" in said(seen)
    container.kill()
    container.remove()


@pytest.mark.parametrize("uid", [0, BOB, 999])
def test_a_permitted_users_process_and_a_services_are_spared(
    machine: OrphanMachine, uid: int
) -> None:
    target = machine.start(uid=uid)

    seen = is_spared(machine, target)

    assert seen.exempt
    assert machine.lives(target)


@pytest.mark.parametrize("kind", ["--pid", "--user"])
def test_a_process_in_namespaces_of_its_own_is_spared(machine: OrphanMachine, kind: str) -> None:
    node = str(machine.host.device(0))
    user = ["setpriv", f"--reuid={ALICE}", "--"] if kind == "--pid" else []
    command = ["unshare", kind, "--fork", *user, str(build.task()), "idle", node]
    with subprocess.Popen(command, start_new_session=True):
        try:
            users = lambda: [h.pid for h in machine.host.holders(0) if h.is_user]  # noqa: E731
            [pid] = eventually(users, 10, "the process in its namespaces")

            seen = is_spared(machine, machine.target(pid))

            assert verdicts(seen)[Source.DOCKER] is Verdict.SILENT
            assert "another kind" in said(seen)
            assert machine.lives(machine.target(pid))
        finally:
            machine.host.end_tasks()


def test_who_has_a_dead_ones_number_is_spared(machine: OrphanMachine) -> None:
    """An orphan again, and on the same GPU: nobody has looked at this one yet."""
    first = machine.start()
    os.kill(first.pid, 9)
    eventually(lambda: not machine.lives(first), 5, "it is gone")
    machine.host.end_tasks()
    command = ["setpriv", f"--reuid={ALICE}", str(build.task()), "idle"]
    command.append(str(machine.host.device(0)))
    with spawn_as(first.pid, command, after=first.start_ticks) as child:
        try:
            machine.until_on(0, child.pid)
            second = machine.target(child.pid)
            assert second.pid == first.pid
            assert second != first

            seen = is_spared(machine, first)

            assert verdicts(seen)[Source.NVML] is Verdict.GONE
            assert machine.lives(second)
            assert machine.kill.verify(machine.task(first)).proof is Proof.PROVEN
        finally:
            child.kill()


@pytest.mark.parametrize("pid", [1, os.getpid(), os.getppid()], ids=["first", "self", "parent"])
def test_the_first_process_and_we_ourselves_are_spared(machine: OrphanMachine, pid: int) -> None:
    is_spared(machine, machine.target(pid))


def test_nothing_happens_while_the_driver_is_silent(machine: OrphanMachine) -> None:
    target = machine.start()
    machine.host.unload_driver()

    seen = is_spared(machine, target)

    assert verdicts(seen)[Source.NVML] is Verdict.SILENT
    assert machine.lives(target)


def test_nothing_happens_while_docker_is_silent(machine: OrphanMachine) -> None:
    target = machine.start()
    nowhere = DockerSource("unix:///nonexistent/docker.sock", SECOND)
    kill = machine.remediation(ProcessActuator(machine.kernel), nowhere)

    with pytest.raises(RefusedError, match="docker: Docker did not answer"):
        kill.execute(machine.task(target), MemorySteps())

    assert machine.lives(target)


def test_what_ended_by_itself_is_gone(machine: OrphanMachine) -> None:
    target = machine.start()
    os.kill(target.pid, 9)
    eventually(lambda: not machine.lives(target), 5, "it is gone")

    seen = is_spared(machine, target)

    assert verdicts(seen)[Source.NVML] is Verdict.GONE


def test_on_a_mig_gpu_its_instance_counts(machine: OrphanMachine) -> None:
    first, second = machine.host.partition(1, "1g.10gb", "1g.10gb")
    target = machine.start(1, NVIDIA_VISIBLE_DEVICES=second.uuid)
    wrong = machine.task(target, 1, gpu_i_id=str(first.gi))
    right = machine.task(target, 1, gpu_i_id=str(second.gi))

    seen = machine.look(target, 1, gpu_i_id=str(first.gi))
    assert verdicts(seen)[Source.NVML] is Verdict.DISAGREES
    with pytest.raises(RefusedError, match="is not on GPU"):
        machine.kill.execute(wrong, MemorySteps())
    with pytest.raises(RefusedError, match="does not show"):
        machine.kill.execute(machine.task(target, 1), MemorySteps())

    machine.kill.execute(right, MemorySteps())
    assert machine.kill.verify(right).proof is Proof.PROVEN


@pytest.mark.parametrize("removed", [False, True])
def test_what_a_container_of_this_engine_left_behind_is_ended(
    machine: OrphanMachine, removed: bool
) -> None:
    container, main = machine.run("train")
    target = machine.start(task="stubborn", uid=0)
    machine.put_in_container(target, str(container.id))
    is_spared(machine, target)
    machine.take_out(target)
    container.kill()
    container.wait()
    if removed:
        container.remove()
    machine.put_in_container(target, str(container.id))

    seen = machine.look(target)
    assert ("was removed by this Docker" if removed else "is exited") in said(seen)
    machine.kill.execute(machine.task(target, wait=SOON), MemorySteps())

    assert not machine.lives(target)
    assert not machine.lives(main)


def test_what_nobodys_container_left_behind_is_spared(machine: OrphanMachine) -> None:
    target = machine.start()
    machine.put_in_container(target, "f" * 64)

    seen = is_spared(machine, target)

    assert "its container is not known" in said(seen)
    assert machine.lives(target)


def test_one_that_the_kernel_does_not_end_is_told_with_its_state(machine: OrphanMachine) -> None:
    machine.dying = SOON
    target = machine.start(task="stubborn")
    group = machine.freeze(target)
    task = machine.task(target, wait=SOON)
    try:
        with pytest.raises(EffectUnknownError, match=r"by SIGKILL either: state D"):
            machine.kill.execute(task, MemorySteps())
        found = machine.kill.verify(task)
    finally:
        machine.thaw(group)

    assert found.proof is Proof.DISPROVEN
    assert "state D (uninterruptible)" in found.says
    eventually(lambda: machine.kill.verify(task).proof is Proof.PROVEN, 10, "it is gone at last")
