"""A machine for kill-orphan: simulated GPUs, a real engine, the real kernel, and its own eyes."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from docker import DockerClient
from docker.models.containers import Container

from remediator.actuators.processes import ProcessActuator
from remediator.core.alerts import Alert
from remediator.core.attempts import Task
from remediator.core.observation import Observation
from remediator.core.targets import Process
from remediator.remediations.kill_orphan import Hands, KillOrphan
from remediator.remediations.orphan_senses import Engine, OrphanSenses, Permitted
from remediator.sources.docker_engine import DockerSource
from remediator.sources.proc import ProcSource
from tests.builders import HOUR, SECOND, an_alert
from tests.contracts.nvml_server import RemoteDriver
from tests.eventually import eventually
from tests.fakes import FakeFiring, FakePrometheus, FakeUsers
from tests.peers.gpu.host import GpuHost
from tests.peers.gpu.image import run_gpu_container

ALICE, BOB = 1001, 1002
USERS = {"root": 0, "alice": ALICE, "bob": BOB}
PERMITTED = Permitted(frozenset({"root", "bob"}))
# Any hierarchy of version 1 will do: a container's processes are in its group in each.
CGROUPS = Path("/sys/fs/cgroup/pids")


@dataclass(slots=True)
class OrphanMachine:
    """What a test needs to start processes of all kinds, and to look at them as the worker does."""

    host: GpuHost
    client: DockerClient
    engine_url: str
    settling: timedelta = timedelta(milliseconds=200)
    dying: timedelta = 5 * SECOND
    kernel: ProcSource = field(default_factory=ProcSource)
    prometheus: FakePrometheus = field(default_factory=FakePrometheus)
    _drivers: list[RemoteDriver] = field(default_factory=list)
    _groups: list[Path] = field(default_factory=list)
    _made: KillOrphan | None = None

    @property
    def kill(self) -> KillOrphan:
        """The remediation, the same one each time."""
        if self._made is None:
            self._made = self.remediation(ProcessActuator(self.kernel))
        return self._made

    def remediation(self, hands: Hands, engine: Engine | None = None) -> KillOrphan:
        """Return a remediation with eyes of its own: `RemoteDriver` is for one thread only."""
        driver = RemoteDriver(self.host)
        self._drivers.append(driver)
        engine = engine or DockerSource(self.engine_url, 10 * SECOND)
        users = FakeUsers(USERS)
        senses = OrphanSenses(self.prometheus, engine, driver, self.kernel, users, self.kernel)
        return KillOrphan(senses, hands, PERMITTED, self.settling, self.dying)

    def close(self) -> None:
        """Close the drivers and take the groups away that were made here."""
        for driver in self._drivers:
            driver.close()
        for group in self._groups:
            with suppress(OSError):
                group.rmdir()

    def start(self, gpu: int = 0, *, task: str = "idle", uid: int = ALICE, **more: str) -> Process:
        """Start a process of the host that uses a GPU."""
        child = self.host.start_task(gpu, task=task, uid=uid, **more)
        self.until_on(gpu, child.pid)
        return self.target(child.pid)

    def run(self, name: str, **options: object) -> tuple[Container, Process]:
        """Start a container that uses GPU 0; return it with its main process."""
        container = run_gpu_container(self.client, self.host, name, **options)  # type: ignore[arg-type]
        pid = int(container.attrs["State"]["Pid"])
        self.until_on(0, pid)
        return container, self.target(pid)

    def until_on(self, gpu: int, pid: int) -> None:
        """Wait until a process has a GPU's device open for use."""
        users: Callable[[], set[int]] = lambda: {  # noqa: E731
            holder.pid for holder in self.host.holders(gpu) if holder.is_user
        }
        eventually(lambda: pid in users(), 10, f"process {pid} uses GPU {gpu}")

    def target(self, pid: int) -> Process:
        """Return the exact identity of whoever has *pid* now."""
        return Process(pid, self.kernel.start_ticks(pid) or 0, self.kernel.boot_id())

    def lives(self, target: Process) -> bool:
        """Tell whether exactly *target* is alive."""
        same = self.kernel.start_ticks(target.pid) == target.start_ticks
        return same and not self.kernel.has_ended(target.pid)

    def task(
        self, target: Process, gpu: int = 0, *, gpu_i_id: str = "", wait: timedelta = SECOND
    ) -> Task:
        """Return the task of ending *target* on a GPU."""
        context = {"UUID": self.host.uuid(gpu), "GPU_I_ID": gpu_i_id}
        return Task(target, options={"wait": wait}, context=context)

    def alert(self, target: Process, gpu: int = 0, *, gpu_i_id: str = "") -> Alert:
        """Return the alert about *target*, which Prometheus confirms from now on."""
        labels = {
            "pid": str(target.pid),
            "start_ticks": str(target.start_ticks),
            "UUID": self.host.uuid(gpu),
            **({"GPU_I_ID": gpu_i_id} if gpu_i_id else {}),
        }
        alert = an_alert(labels, name="DS01GPUOrphanProcess")
        self.prometheus.alerts.append(FakeFiring(alert.labels, datetime.now(UTC) - HOUR))
        return alert

    def look(self, target: Process, gpu: int = 0, *, gpu_i_id: str = "") -> Observation:
        """Observe the alert about *target*."""
        alert = self.alert(target, gpu, gpu_i_id=gpu_i_id)
        return self.kill.observe(alert, datetime.now(UTC), {})

    def put_in_container(self, target: Process, container_id: str) -> None:
        """Put a process into the group of a container, as what a container left behind is."""
        group = CGROUPS / "docker" / container_id
        if not group.exists():
            group.mkdir(parents=True)
            self._groups.append(group)
        (group / "cgroup.procs").write_text(str(target.pid))

    def take_out(self, target: Process) -> None:
        """Put a process back among the host's: Docker cannot end a group with others in it."""
        (CGROUPS / "cgroup.procs").write_text(str(target.pid))

    def freeze(self, target: Process) -> Path:
        """Keep a process from hearing any signal until `thaw` is called with what is returned."""
        group = Path("/sys/fs/cgroup/freezer") / f"remediator-test-{os.getpid()}-{target.pid}"
        group.mkdir()
        self._groups.append(group)
        (group / "cgroup.procs").write_text(str(target.pid))
        (group / "freezer.state").write_text("FROZEN")
        state = group / "freezer.state"
        eventually(lambda: state.read_text().strip() == "FROZEN", 5, "it is frozen")
        return group

    def thaw(self, group: Path) -> None:
        """Let a frozen process go on."""
        (group / "freezer.state").write_text("THAWED")
