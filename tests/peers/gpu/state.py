"""The state file of a simulated GPU host: its keys, and how to change it.

The library (state.c), the stand-in nvidia-smi, the `gpu` tool and GpuHost all read and write this
one file. Whoever writes holds a lock on FILE.lock and renames a new file into place, so a reader
never sees half of an edit and two writers never lose one.
"""

import difflib
import fcntl
import os
import re
import time
import uuid as uuids
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

AUTO = "auto"


class StateError(Exception):
    """What was asked makes no sense; the message says why."""


class UnreadableError(StateError):
    """The state file cannot be read or is not one."""


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a GPU: what it starts as, what it may be, and what it means."""

    default: str
    meaning: str
    most: int | None = 10**9
    may_be_auto: bool = False

    @property
    def is_text(self) -> bool:
        """Whether any line of text will do."""
        return self.most is None


def _text(default: str, meaning: str) -> Key:
    return Key(default, meaning, most=None)


def _switch(default: str, meaning: str) -> Key:
    return Key(default, meaning, most=1)


GPU_KEYS = {
    "uuid": _text("", "set when the GPU is added"),
    "name": _text("NVIDIA A100-SXM4-80GB", "product name"),
    "bus": _text("", "PCI bus id, set when the GPU is added"),
    "minor": Key("0", "N of /dev/nvidiaN, set when the GPU is added"),
    "temp": Key("35", "degrees Celsius", most=200),
    "util": Key(
        AUTO, "GPU busy, percent; auto: the highest GPU_TASK_UTIL of its processes", 100, True
    ),
    "memutil": Key("0", "memory interface busy, percent", most=100),
    "total_mib": Key("81920", "memory size, MiB"),
    "used_mib": Key(
        AUTO, "memory used, MiB; auto: what its processes use + leaked_mib", 10**9, True
    ),
    "leaked_mib": Key("0", "memory used by nobody, MiB; a reset frees it"),
    "reserved_mib": Key("0", "memory the driver keeps for itself, MiB; part of total_mib"),
    "auto_mib": Key("512", "memory of a process that does not say (GPU_TASK_MIB), MiB"),
    "memory_temp": Key(AUTO, "degrees Celsius of the memory; auto: the GPU cannot tell", 200, True),
    "power_mw": Key("60000", "power drawn, milliwatts"),
    "energy_mj": Key("0", "energy used since the driver loaded, millijoules", most=10**15),
    "sm_mhz": Key("1410", "clock of the multiprocessors, MHz"),
    "mem_mhz": Key("1593", "clock of the memory, MHz"),
    "power_limit_mw": Key("400000", "power limit, milliwatts"),
    "power_min_mw": Key("100000", "least power limit, milliwatts"),
    "power_max_mw": Key("400000", "greatest power limit, milliwatts"),
    "power_default_mw": Key("400000", "default power limit, milliwatts"),
    "persistence": _switch("1", "persistence mode"),
    "lost": _switch("0", "1: fallen off the bus, every call fails with GPU_IS_LOST"),
    "reset_required": _switch("0", "1: measurements fail with RESET_REQUIRED"),
    "recovery_action": Key(
        "0", "field 230: 0 none, 1 reset, 2 reboot, 3 drain P2P, 4 drain and reset", most=7
    ),
    "remap_pending": _switch("0", "1: a row remap waits for a reset"),
    "remap_failed": _switch("0", "1: a row remap failed; stays after a reset"),
    "remap_correctable": Key("0", "rows remapped after correctable errors"),
    "remap_uncorrectable": Key("0", "rows remapped after uncorrectable errors, but for the above"),
    "ecc_dbe": Key("0", "double-bit ECC errors; a reset clears them"),
    "ecc_dbe_before": Key("0", "double-bit ECC errors of earlier times; kept for ever"),
    "unlisted": _switch("0", "1: the driver came up without it; later GPUs move up one index"),
    "refuse": _text("", "functions that fail for this GPU, and with which code: nvmlName=4 ..."),
    "hang": Key("0", "seconds for which each call about this GPU blocks (0 frees it at once)"),
    "xid": Key("0", "code of the last XID; setting it is a new event"),
    "xid_count": Key("0", "XID events so far; grows by itself when xid is set"),
    "nvlink": _text("", "what its NVLinks lead to: indexes of GPUs or switch, as in 1,2"),
    "compute_capability": _text("8.0", "7.x and less: GPUs linked by NVLink are reset together"),
    "gpm": _switch("0", "1: has GPM, as Hopper and later do"),
    "mig_capable": _switch("1", "0: the GPU does not know MIG"),
    "mig_mode": _switch("0", "MIG mode; set by `gpu mig`"),
    "mig_slices": Key("7", "compute slices of the whole GPU (A100 7, A30 4)", most=8),
    "reset_hang": Key("0", "nvidia-smi blocks this many seconds before it resets"),
    "reset_fail": _text("", "nvidia-smi prints this and fails instead of resetting"),
    "reset_exit": Key("255", "the exit status that goes with reset_fail", most=255),
    "reset_incomplete": _switch("0", "1: the reset does not complete, and nothing is cleared"),
    "reset_needs_persistence_off": _switch("0", "1: persistence mode counts as another client"),
    "reset_count": Key("0", "resets that succeeded so far"),
}

GLOBAL_KEYS = {
    "driver": _text("550.54.15", "driver version"),
    "driver_loaded": _switch("1", "0: no driver, every call fails with DRIVER_NOT_LOADED"),
    "cuda": Key("12040", "CUDA version of the driver: major * 1000 + minor * 10"),
    "devices": _text("", "the folder that holds the device nodes"),
}

CLEARED_BY_RESET = ("reset_required", "recovery_action", "remap_pending", "ecc_dbe", "leaked_mib")
CLEARED_BY_RESTORE = (
    *CLEARED_BY_RESET,
    *("lost", "unlisted", "refuse", "hang", "remap_failed", "xid"),
)


@dataclass(frozen=True, slots=True)
class Mig:
    """One MIG device: its instance ids, and its share of the GPU in slices and MiB."""

    uuid: str
    gi: int
    ci: int
    profile: str
    slices: int
    mib: int

    def line(self) -> str:
        """Return the state's line for it."""
        return (
            f"mig={self.uuid} gi={self.gi} ci={self.ci} profile={self.profile}"
            f" slices={self.slices} mib={self.mib}"
        )


@dataclass(frozen=True, slots=True)
class Listed:
    """A process listed by hand; None is whatever /proc or the GPU's defaults say.

    `start` are the clock ticks of /proc/PID/stat: a later process with this pid is not meant.
    """

    pid: int
    start: int = 0
    mib: int | None = None
    util: int | None = None
    gi: int | None = None
    ci: int | None = None
    kind: str = "compute"

    def line(self) -> str:
        """Return the state's line for it."""
        words = [f"proc={self.pid} start={self.start} kind={self.kind}"]
        for name in ("mib", "util", "gi", "ci"):
            value = getattr(self, name)
            if value is not None:
                words.append(f"{name}={value}")
        return " ".join(words)


@dataclass(slots=True)
class Gpu:
    """One GPU as the file describes it. `values` has every key of GPU_KEYS."""

    values: dict[str, str]
    migs: list[Mig] = field(default_factory=list)
    listed: list[Listed] = field(default_factory=list)

    def is_on(self, key: str) -> bool:
        """Whether a switch is on."""
        return self.values[key] not in ("", "0")

    def number(self, key: str) -> int:
        """Return a number; raises ValueError for `auto`."""
        return int(self.values[key])

    def set(self, key: str, value: object) -> None:
        """Change one key, checked; a set `xid` counts as one more event."""
        self.values[key] = checked(GPU_KEYS, key, value)
        if key == "xid" and self.number("xid"):
            self.values["xid_count"] = str(self.number("xid_count") + 1)

    def clear(self, keys: tuple[str, ...]) -> None:
        """Put *keys* back to their defaults."""
        for key in keys:
            self.values[key] = GPU_KEYS[key].default


@dataclass(slots=True)
class State:
    """The whole file. `values` has every key of GLOBAL_KEYS."""

    values: dict[str, str]
    gpus: list[Gpu] = field(default_factory=list)

    def set(self, key: str, value: object) -> None:
        """Change one global key, checked."""
        self.values[key] = checked(GLOBAL_KEYS, key, value)

    def gpu(self, index: int) -> Gpu:
        """Return GPU *index*; StateError names those that there are."""
        if not 0 <= index < len(self.gpus):
            raise StateError(f"no GPU {index}; there are {len(self.gpus)}, numbered from 0")
        return self.gpus[index]

    def add_gpu(self, values: dict[str, object]) -> int:
        """Add a GPU with a UUID of its own and the next place; return its index."""
        index = len(self.gpus)
        gpu = Gpu({key: known.default for key, known in GPU_KEYS.items()})
        gpu.values["uuid"] = f"GPU-{uuids.uuid4()}"
        gpu.values["bus"] = f"00000000:{index + 1:02X}:00.0"
        gpu.values["minor"] = str(index)
        for key, value in values.items():
            gpu.set(key, value)
        self.gpus.append(gpu)
        return index


def checked(keys: dict[str, Key], name: str, value: object) -> str:
    """Return *value* as it is written to the file, or raise StateError saying what is allowed."""
    if name not in keys:
        raise StateError(f"unknown key {name!r}{suggestion(name, keys)}")
    key, text = keys[name], str(int(value) if isinstance(value, bool) else value).strip()
    if key.is_text:
        if "\n" in text:
            raise StateError(f"{name} must be one line")
        return text
    if key.may_be_auto and text == AUTO:
        return text
    if not re.fullmatch(r"\d+", text) or (key.most is not None and int(text) > key.most):
        wanted = f"a whole number from 0 to {key.most}" + (" or auto" if key.may_be_auto else "")
        raise StateError(f"{name} must be {wanted}, not {text!r}")
    return text


def suggestion(name: str, known: dict[str, Key]) -> str:
    """Return ` (did you mean ...?)` with the nearest key, or the list of all of them."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else f" (known: {', '.join(known)})"


def start_ticks(pid: int) -> int | None:
    """Return when a living process started, in clock ticks after boot; None for a dead one."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else int(fields[19])


# Where the instances of a profile lie on an A100, by slices: the GPU instance ids the driver gives.
_INSTANCE_IDS = {7: (0,), 4: (1,), 3: (2, 1), 2: (3, 5, 4), 1: (7, 8, 9, 11, 12, 13, 14)}
_PROFILE = re.compile(r"([12347])g\.([0-9]+)gb")


def instances(profiles: list[str], slices: int) -> list[Mig]:
    """Return new MIG devices for *profiles* like `2g.20gb`, if they fit into *slices*."""
    found: list[Mig] = []
    for profile in profiles:
        match = _PROFILE.fullmatch(profile)
        if match is None:
            raise StateError(f"no MIG profile {profile!r}; write it like 1g.10gb or 3g.40gb")
        width, gigabytes = int(match[1]), int(match[2])
        taken = {mig.gi for mig in found}
        free = [gi for gi in _INSTANCE_IDS[width] if gi not in taken]
        if not free or sum(mig.slices for mig in found) + width > slices:
            raise StateError(f"{' '.join(profiles)} does not fit into {slices} slices")
        found.append(Mig(f"MIG-{uuids.uuid4()}", free[0], 0, profile, width, gigabytes * 1024))
    return found


def _words(value: str) -> tuple[str, dict[str, str]]:
    first, *rest = value.split()
    return first, dict(word.split("=", 1) for word in rest)


def _mig(value: str) -> Mig:
    uuid, words = _words(value)
    return Mig(
        uuid,
        int(words["gi"]),
        int(words["ci"]),
        words["profile"],
        int(words["slices"]),
        int(words["mib"]),
    )


def _listed(value: str) -> Listed:
    pid, words = _words(value)
    numbers = {name: int(word) for name, word in words.items() if name != "kind"}
    return replace(Listed(int(pid), kind=words.get("kind", "compute")), **numbers)  # type: ignore[arg-type]


def _read_gpu_line(gpu: Gpu, key: str, value: str) -> None:
    if key == "mig":
        gpu.migs.append(_mig(value))
    elif key == "proc":
        gpu.listed.append(_listed(value))
    else:
        gpu.values[key] = checked(GPU_KEYS, key, value)


def _begin_gpu(state: State, header: str) -> Gpu:
    if header != f"[gpu{len(state.gpus)}]":
        raise StateError(f"expected [gpu{len(state.gpus)}], got {header}")
    state.gpus.append(Gpu({key: known.default for key, known in GPU_KEYS.items()}))
    return state.gpus[-1]


def parse(text: str) -> State:
    """Return what the file says; StateError names the line that is wrong."""
    state = State({key: known.default for key, known in GLOBAL_KEYS.items()})
    gpu: Gpu | None = None
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        try:
            if not line or line.startswith("#"):
                continue
            if line.startswith("["):
                gpu = _begin_gpu(state, line)
                continue
            key, _, value = (part.strip() for part in line.partition("="))
            if gpu is None:
                state.set(key, value)
            else:
                _read_gpu_line(gpu, key, value)
        except (StateError, KeyError, ValueError) as error:
            raise StateError(f"line {number}: {error}") from error
    return state


def render(state: State) -> str:
    """Return the text that `parse` reads back to the same."""
    lines = [f"{key}={value}" for key, value in state.values.items()]
    for index, gpu in enumerate(state.gpus):
        lines += ["", f"[gpu{index}]", *(f"{key}={value}" for key, value in gpu.values.items())]
        lines += [mig.line() for mig in gpu.migs]
        lines += [process.line() for process in gpu.listed]
    return "\n".join(lines) + "\n"


def read(path: Path) -> State:
    """Return the state in the file *path*."""
    try:
        return parse(path.read_text())
    except OSError as error:
        raise UnreadableError(f"cannot read the state {path}: {error.strerror}") from error
    except StateError as error:
        raise UnreadableError(f"{path}: {error}") from error


def write(path: Path, state: State) -> None:
    """Put *state* in place of the file. Only for whoever holds the lock; see `edit`."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(render(state))
    fresh.chmod(0o644)
    # The library notices an edit by its time, which the file system alone keeps too coarsely.
    now = time.time_ns()
    os.utime(fresh, ns=(now, now))
    fresh.rename(path)


@contextmanager
def edit(path: Path) -> Iterator[State]:
    """Yield the state to be changed; it is written when the block ends without an error."""
    with path.with_name(f"{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = read(path)
        yield state
        write(path, state)


def create(path: Path, devices: Path) -> None:
    """Make the file of a host without GPUs whose nodes will lie in *devices*."""
    state = State({key: known.default for key, known in GLOBAL_KEYS.items()})
    state.set("devices", devices)
    write(path, state)
