"""What the epilog sees on the GPUs that a container has left."""

from datetime import timedelta

import pytest

from remediator.core.aftermath import Aftermath, Finding
from remediator.core.attempts import Task
from remediator.core.gpu_claims import GpuClaims
from remediator.core.gpus import GpuHealth
from remediator.core.targets import Container
from remediator.errors import SourceError
from remediator.remediations.freed_gpus import FreedGpus
from remediator.remediations.leftover_container import target_of
from remediator.remediations.orphan_senses import Permitted
from remediator.remediations.remove_container import RemoveContainer
from remediator.remediations.senses import Senses
from remediator.remediations.stop_container import StopContainer
from tests.fakes import FakeContainer, FakeHost, HandClock, a_mig_device

GONE = "e" * 64


@pytest.fixture
def host() -> FakeHost:
    return FakeHost(HandClock())


def senses_of(host: FakeHost) -> Senses:
    return Senses(host.prometheus, host.docker, host.driver, host.kernel, host.users)


def look(host: FakeHost, gpus: str = "0", **permitted: str) -> Aftermath:
    kinds = {kind: frozenset({name}) for kind, name in permitted.items()}
    return FreedGpus(senses_of(host), Permitted(**kinds)).look(GONE, gpus)


def a_process(host: FakeHost, container_id: str | None = None, gpu: str = "GPU-0") -> int:
    """Return a process of alice's on *gpu*."""
    pid = host.a_process(container_id)
    host.driver.use(gpu, pid)
    return pid


def test_where_nothing_is_left_all_is_well(host: FakeHost) -> None:
    host.run("other", gpus=("GPU-1",))

    assert look(host) == Aftermath("0")


def test_a_process_of_nobody_is_found_with_the_labels_of_the_shipped_alert(host: FakeHost) -> None:
    pid = a_process(host)

    assert look(host).findings == (
        Finding(
            "DS01GPUOrphanProcess",
            {
                "severity": "warning",
                "UUID": "GPU-0",
                "GPU_I_ID": "",
                "pid": str(pid),
                "start_ticks": "70",
                "user": "alice",
                "comm": "python",
            },
            f"pid {pid} (python)",
            f"pid {pid} (python) of alice is on GPU 0 and belongs to no running container and no"
            " permitted user",
        ),
    )


def test_what_the_container_itself_has_left_is_found(host: FakeHost) -> None:
    pid = a_process(host, GONE)

    assert [finding.labels["pid"] for finding in look(host).findings] == [str(pid)]


def test_a_process_that_is_listed_twice_is_found_once(host: FakeHost) -> None:
    pid = a_process(host)
    host.driver.use("GPU-0", pid)

    assert len(look(host).findings) == 1


def test_processes_of_running_and_of_unknown_containers_are_not(host: FakeHost) -> None:
    host.run("other")
    a_process(host, "d" * 64)

    assert look(host).findings == ()


def test_processes_on_other_gpus_are_not(host: FakeHost) -> None:
    a_process(host, gpu="GPU-1")

    assert look(host).findings == ()


def test_processes_in_another_pid_namespace_are_not(host: FakeHost) -> None:
    host.kernel.processes[a_process(host)].is_hosts = False

    assert look(host).findings == ()


def test_a_process_that_has_just_ended_is_not(host: FakeHost) -> None:
    host.kernel.forget(a_process(host))

    assert look(host).findings == ()


def test_permitted_users_and_programs_and_services_are_not(host: FakeHost) -> None:
    pid = a_process(host)
    by_user = look(host, users="alice")
    by_program = look(host, programs="python")
    host.kernel.processes[pid].comm = "nvidia-persistenced"[:15]

    assert (by_user.findings, by_program.findings, look(host).findings) == ((), (), ())


def test_a_user_without_a_name_is_a_number(host: FakeHost) -> None:
    host.kernel.processes[a_process(host)].uid = 4711

    assert look(host).findings[0].labels["user"] == "4711"


def test_what_a_process_calls_itself_is_cleaned_for_people(host: FakeHost) -> None:
    host.kernel.processes[a_process(host)].comm = "a\x1b[2J\nb"

    finding = look(host).findings[0]

    assert finding.labels["comm"] == "a\x1b[2J\nb"
    assert "\x1b" not in finding.says + finding.title


def test_a_process_on_a_mig_device_is_found_there(host: FakeHost) -> None:
    device = a_mig_device()
    host.driver.add(device)
    a_process(host, gpu=device.uuid)

    labels = look(host, "1.0").findings[0].labels

    assert (labels["UUID"], labels["GPU_I_ID"]) == ("GPU-1", "7")


@pytest.mark.parametrize(("action", "wanted"), [(1, 1), (4, 1), (6, 1), (0, 0), (2, 0), (3, 0)])
def test_a_reset_that_the_driver_wants_is_found(host: FakeHost, action: int, wanted: int) -> None:
    host.driver.health_of["GPU-0"] = GpuHealth(recovery_action=action)

    found = look(host).findings

    assert len(found) == wanted
    for finding in found:
        assert finding.alertname == "DS01GPUNeedsReset"
        assert finding.labels == {"severity": "critical", "UUID": "GPU-0", "gpu": "0"}
        assert finding.title == "GPU 0"
        assert finding.says.endswith(f"(recovery action {action})")
        assert finding.tell == ""


def test_a_driver_that_gives_no_advice_wants_nothing(host: FakeHost) -> None:
    host.driver.health_of["GPU-0"] = GpuHealth(recovery_action=None)

    assert look(host).findings == ()


@pytest.mark.parametrize(
    ("claims", "shared"),
    [
        pytest.param(GpuClaims(ids=("GPU-0",)), True, id="the same GPU"),
        pytest.param(GpuClaims(all=True), True, id="all GPUs"),
        pytest.param(GpuClaims(count=1), True, id="some GPU"),
        pytest.param(GpuClaims(ids=("GPU-1",)), False, id="another GPU"),
        pytest.param(GpuClaims(), False, id="no GPU"),
    ],
)
def test_a_person_is_told_of_a_wanted_reset_of_a_shared_gpu(
    host: FakeHost, claims: GpuClaims, shared: bool
) -> None:
    host.driver.health_of["GPU-0"] = GpuHealth(recovery_action=1)
    host.run("other", gpus=(), claims=claims)

    told = look(host).findings[0].tell

    assert told == ("it is not reset while this is so: other may use it" if shared else "")


def test_monitoring_and_stopped_containers_share_nothing(host: FakeHost) -> None:
    host.driver.health_of["GPU-0"] = GpuHealth(recovery_action=1)
    host.run("dcgm", gpus=(), claims=GpuClaims(all=True), labels={"ds01.monitoring": "true"})
    host.create("later")

    assert look(host).findings[0].tell == ""


def test_a_person_is_told_of_a_wanted_reset_of_a_mig_gpu(host: FakeHost) -> None:
    device = a_mig_device(index=2)
    host.driver.add(device)
    host.driver.health_of["GPU-2"] = GpuHealth(recovery_action=1)

    assert look(host, "2.0").findings[0].tell.endswith("it is cut up by MIG")


def test_one_gpu_with_several_slices_is_asked_once(host: FakeHost) -> None:
    for position in (0, 1):
        host.driver.add(a_mig_device(2, position, 7 + position))
    host.driver.health_of["GPU-2"] = GpuHealth(recovery_action=1)

    assert len(look(host, "2.0, 2.1").findings) == 1


def test_what_cannot_be_seen_is_said(host: FakeHost) -> None:
    a_process(host, gpu="GPU-1")
    host.driver.lost["GPU-0"] = "GPU is lost"

    seen = look(host, "0, 1, 7")

    assert len(seen.findings) == 1
    assert seen.unseen == ("GPU 0 does not answer", "GPU 7 does not answer")
    assert look(host, "").unseen == ("nobody knows which GPUs it had",)


@pytest.mark.parametrize("silent", ["driver", "docker"])
def test_nothing_is_found_while_driver_or_docker_is_silent(host: FakeHost, silent: str) -> None:
    a_process(host)
    getattr(host, silent).silent = "it does not answer"

    with pytest.raises(SourceError):
        look(host)


def a_task(container: FakeContainer) -> Task:
    return Task(target_of(container.facts), context={"gpus": "0"})


@pytest.mark.parametrize("remove", [True, False])
def test_after_a_stop_the_gpus_are_looked_at(host: FakeHost, remove: bool) -> None:
    container = host.run()
    task = a_task(container)
    stop = StopContainer(senses_of(host), host.docker, host.limits)
    running = stop.aftermath(task)
    host.docker.end(container.facts.id)
    if remove:
        host.docker.remove(container.facts.id)
    a_process(host)

    after = stop.aftermath(task)

    assert running is None
    assert after is not None
    assert len(after.findings) == 1


def test_after_a_removal_the_gpus_are_looked_at(host: FakeHost) -> None:
    container = host.create()
    task = a_task(container)
    remove = RemoveContainer(senses_of(host), host.docker, host.limits)
    there = remove.aftermath(task)
    host.docker.remove(container.facts.id)
    a_process(host)

    after = remove.aftermath(task)

    assert there is None
    assert after is not None
    assert len(after.findings) == 1


def test_a_container_that_was_started_anew_has_not_left_them(host: FakeHost) -> None:
    container = host.run()
    target = Container(container.facts.id, host.clock.now() - timedelta(days=1))
    stop = StopContainer(senses_of(host), host.docker, host.limits)

    assert stop.aftermath(Task(target, context={"gpus": "0"})) is None
