"""A simulated GPU host: a folder with a driver state, device nodes and nvidia-smi.

    with GpuHost(gpus=2) as host:
        host.set(0, temp=91)
        subprocess.run([...], env={**os.environ, **host.environment})

Any number may live side by side: GPUs have UUIDs of their own. Needs root (device nodes).
"""

import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.peers.gpu import build
from tests.peers.gpu import state as states
from tests.peers.gpu.holders import Holder, holders
from tests.peers.gpu.state import Gpu, Listed, Mig, State, StateError
from tests.peers.missing import PeerMissingError, require_root, require_tool

NODE_DEVICE = os.makedev(1, 3)  # what /dev/null is: it may be opened by anybody and does nothing


class GpuHost:
    """The GPUs of one machine.

    `folder` is a new temporary one, removed at the end, if not given. One that holds a host
    already is taken over as it is. The driver's library lacks the functions *without*, as an older
    one does.
    """

    def __init__(
        self, gpus: int = 1, *, folder: Path | None = None, without: tuple[str, ...] = ()
    ) -> None:
        require_root("making GPU device nodes")
        self._is_temporary = folder is None
        self._without = without
        self.folder = (folder or Path(tempfile.mkdtemp(prefix="gpu-host-"))).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o755)  # an exporter without root must get in
        self.state = self.folder / "state.ini"
        self._tasks: list[subprocess.Popen[bytes]] = []
        try:
            self._furnish(gpus)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the tasks that were started here, orphans too; remove a temporary folder."""
        self.end_tasks()
        if self._is_temporary:
            shutil.rmtree(self.folder, ignore_errors=True)

    def end_tasks(self) -> None:
        """End the tasks that were started here, orphans too, and reap them."""
        for pid in self._task_pids():
            _kill(pid)
        for task in self._tasks:
            task.kill()
            task.wait()
        self._tasks.clear()

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to see this host instead of the machine's own driver."""
        libraries = [str(self.folder / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
        return {
            "FAKE_NVML_STATE": str(self.state),
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),
            "PATH": os.pathsep.join([str(self.folder / "bin"), os.environ.get("PATH", os.defpath)]),
            "REMEDIATOR_NVIDIA_SMI": str(self.folder / "bin" / "nvidia-smi"),
        }

    def device(self, gpu: int) -> Path:
        """Return the node of a GPU; give it to a container as `NODE:/dev/nvidiaN`."""
        return self.folder / "dev" / f"nvidia{self.get(gpu, 'minor')}"

    def uuid(self, gpu: int) -> str:
        """Return the UUID of a GPU."""
        return self.get(gpu, "uuid")

    def read(self) -> State:
        """Return the whole state."""
        return states.read(self.state)

    def get(self, gpu: int, key: str) -> str:
        """Return one value as the file has it."""
        values = self.read().gpu(gpu).values
        if key not in values:
            raise StateError(f"unknown key {key!r}{states.suggestion(key, states.GPU_KEYS)}")
        return values[key]

    def set(self, gpu: int, **values: object) -> None:
        """Change keys of a GPU (state.GPU_KEYS), all at once."""
        with states.edit(self.state) as state:
            for key, value in values.items():
                state.gpu(gpu).set(key, value)

    def add_gpu(self, **values: object) -> int:
        """Add a GPU with its node; return its index."""
        with states.edit(self.state) as state:
            index = state.add_gpu(values)
            self._make_node(state.gpu(index))
        return index

    def enable_mig(
        self, gpu: int, instances: Iterable[tuple[str, int, int, str, int]]
    ) -> tuple[Mig, ...]:
        """Cut a GPU into exactly these (uuid, gi, ci, profile, slices), as a repartition does."""
        migs = [
            Mig(uuid, gi, ci, profile, slices, _profile_mib(profile))
            for uuid, gi, ci, profile, slices in instances
        ]
        return self._set_mig(gpu, migs)

    def partition(self, gpu: int, *profiles: str) -> tuple[Mig, ...]:
        """Cut a GPU into new instances of *profiles* like `1g.10gb`; return them in order."""
        slices = int(self.get(gpu, "mig_slices"))
        return self._set_mig(gpu, states.instances(list(profiles), slices))

    def disable_mig(self, gpu: int) -> None:
        """Make a GPU whole again."""
        with states.edit(self.state) as state:
            state.gpu(gpu).migs.clear()
            state.gpu(gpu).set("mig_mode", 0)

    def lose(self, gpu: int) -> None:
        """Let a GPU fall off the bus."""
        self.set(gpu, lost=1)

    def restore(self, gpu: int) -> None:
        """Undo every fault of a GPU."""
        with states.edit(self.state) as state:
            state.gpu(gpu).clear(states.CLEARED_BY_RESTORE)

    def unload_driver(self) -> None:
        """Let every call fail with DRIVER_NOT_LOADED."""
        self._set_global("driver_loaded", 0)

    def load_driver(self) -> None:
        """Undo `unload_driver`."""
        self._set_global("driver_loaded", 1)

    def add_process(self, gpu: int, pid: int, **facts: Any) -> None:
        """List a living process, or state facts (mib, util, gi, ci, kind) of one found in /proc."""
        with states.edit(self.state) as state:
            list_process(state.gpu(gpu), pid, facts)

    def remove_process(self, gpu: int, pid: int) -> None:
        """Take a listed process back."""
        with states.edit(self.state) as state:
            unlist_process(state.gpu(gpu), pid)

    def holders(self, gpu: int) -> list[Holder]:
        """Return who has the node of a GPU open now, users and mere clients."""
        state = self.read()
        return holders(state, state.gpu(gpu))

    def start_task(
        self, *gpus: int, task: str = "idle", util: int = 0, uid: int = 0, **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start a host process, of no container, that uses *gpus*; *task* as in gpu-task.c."""
        command = [
            *(require_tool("setpriv"), f"--reuid={uid}", "--pdeathsig", "KILL", "--"),
            *(str(build.task()), task, *(str(self.device(gpu)) for gpu in gpus or (0,))),
        ]
        variables = {**os.environ, "GPU_TASK_UTIL": str(util), **environment}
        # In a session of its own: it is somebody else's, and not one of the program under test.
        process = subprocess.Popen(command, env=variables, start_new_session=True)
        self._tasks.append(process)
        return process

    def nvidia_smi_calls(self) -> list[dict[str, Any]]:
        """Return each call of nvidia-smi so far: at, argv, exit, output."""
        log = self.state.with_name(f"{self.state.name}.smi.log")
        if not log.exists():
            return []
        return [json.loads(line) for line in log.read_text().splitlines()]

    def _task_pids(self) -> list[int]:
        """Find every process of gpu-task that holds one of our nodes, whoever its parent is."""
        nodes = self.folder / "dev"
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if (process / "exe").readlink().name != "gpu-task":
                    continue
                if any(fd.readlink().parent == nodes for fd in (process / "fd").iterdir()):
                    found.append(int(process.name))
            except OSError:
                continue  # it ended meanwhile, or is a kernel thread
        return found

    def _set_global(self, key: str, value: object) -> None:
        with states.edit(self.state) as state:
            state.set(key, value)

    def _set_mig(self, gpu: int, migs: Sequence[Mig]) -> tuple[Mig, ...]:
        with states.edit(self.state) as state:
            set_mig(state.gpu(gpu), migs)
        return tuple(migs)

    def _furnish(self, gpus: int) -> None:
        (self.folder / "dev").mkdir(exist_ok=True)
        self._make_programs()
        if not self.state.exists():
            states.create(self.state, self.folder / "dev")
            for _ in range(gpus):
                self.add_gpu()

    def _make_node(self, gpu: Gpu) -> None:
        node = self.folder / "dev" / f"nvidia{gpu.values['minor']}"
        node.unlink(missing_ok=True)
        try:
            os.mknod(node, 0o666 | stat.S_IFCHR, NODE_DEVICE)
            node.chmod(0o666)  # whatever the umask
            node.open("rb").close()
        except OSError as error:
            raise PeerMissingError(f"no device nodes in {self.folder}: {error.strerror}") from error

    def _make_programs(self) -> None:
        libraries = self.folder / "lib"
        libraries.mkdir(exist_ok=True)
        # By rename: a process that has it loaded must keep what it has.
        fresh = shutil.copy2(build.library(self._without), libraries / "new")
        os.replace(fresh, libraries / "libnvidia-ml.so.1")
        programs = self.folder / "bin"
        programs.mkdir(exist_ok=True)
        for name in ("nvidia-smi", "gpu"):
            link = programs / name
            link.unlink(missing_ok=True)
            link.symlink_to(build.HERE / name)


def list_process(gpu: Gpu, pid: int, facts: dict[str, Any]) -> None:
    """List process *pid*, which must live, on *gpu*, in place of an earlier entry of it."""
    start = states.start_ticks(pid)
    if start is None:
        raise StateError(f"no living process {pid}")
    unlist_process(gpu, pid)
    gpu.listed.append(Listed(pid, start, **facts))


def unlist_process(gpu: Gpu, pid: int) -> None:
    """Drop the entry of *pid*; nothing happens if there is none."""
    gpu.listed = [process for process in gpu.listed if process.pid != pid]


def set_mig(gpu: Gpu, migs: Sequence[Mig]) -> None:
    """Give *gpu* exactly these instances and switch MIG on."""
    if not gpu.is_on("mig_capable"):
        raise StateError(f"{gpu.values['name']} does not know MIG (mig_capable=0)")
    gpu.set("mig_mode", 1)
    gpu.migs = list(migs)


def _profile_mib(profile: str) -> int:
    return int(profile.rpartition(".")[2].removesuffix("gb")) * 1024


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
