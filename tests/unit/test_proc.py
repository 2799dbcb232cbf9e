import os
from pathlib import Path

import pytest

from remediator.errors import SourceError
from remediator.sources.proc import ProcSource

ID = "4c05e644aff0ea386c1b79593b5ecf3b9ed5342f7b4033dd4d3dd34058477bb8"
OTHER = "f" * 64
PID = 4711


class Machine:
    """A /proc and a cgroup file system in a folder."""

    def __init__(self, folder: Path) -> None:
        self.proc = folder / "proc"
        self.cgroup = folder / "cgroup"
        self.source = ProcSource(self.proc, self.cgroup)

    def process(self, pid: int = PID, **files: str) -> None:
        for name, text in files.items():
            self.write(self.proc / str(pid) / name.replace("__", "/"), text)

    def network(self, pid: int | str, namespace: str, kind: str = "net") -> None:
        folder = self.proc / str(pid) / "ns"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / kind).symlink_to(namespace)

    def counter(self, path: str, text: str) -> None:
        self.write(self.cgroup / path, text)

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize(
    "cgroup",
    [
        pytest.param(f"9:name=systemd:/\n4:memory:/docker/{ID}\n0::/docker/{ID}\n", id="v1"),
        pytest.param(f"0::/docker/{ID}/init.scope\n", id="systemd inside"),
        pytest.param(f"0::/system.slice/docker-{ID}.scope\n", id="v2 with systemd"),
        pytest.param(f"0::/ds01.slice/ds01-lab-alice.slice/docker-{ID}.scope\n", id="DS01's slice"),
        pytest.param(f"0::/kubepods.slice/pod1.slice/cri-containerd-{ID}.scope\n", id="Kubernetes"),
        pytest.param(f"0::/machine.slice/libpod-{ID}.scope/container\n", id="podman"),
        pytest.param(f"0::/../{ID}\n", id="a daemon in a cgroup namespace"),
        pytest.param(f"0::/docker/{OTHER}/docker/{ID}\n", id="nested"),
    ],
)
def test_a_process_is_found_by_its_cgroup(machine: Machine, cgroup: str) -> None:
    machine.process(cgroup=cgroup)

    assert machine.source.container_of(PID, [ID]) == ID


@pytest.mark.parametrize(
    "cgroup",
    [
        pytest.param("0::/user.slice/user-1000.slice\n", id="a host process"),
        pytest.param(f"0::/docker/{OTHER}\n", id="a container nobody asked about"),
        pytest.param(f"0::/docker/{ID}00\n", id="longer than an id"),
    ],
)
def test_a_process_of_nobody_is_nobodys(machine: Machine, cgroup: str) -> None:
    machine.process(cgroup=cgroup)

    assert machine.source.container_of(PID, [ID]) is None


def test_a_vanished_process_is_no_error(machine: Machine) -> None:
    source = machine.source

    assert source.container_of(PID, [ID]) is None
    assert source.container_id_in_cgroup(PID) is None
    assert source.start_ticks(PID) is None
    assert source.owner_uid(PID) is None
    assert source.comm(PID) is None
    assert source.cpu_seconds(PID, ID) is None
    assert source.memory_bytes(PID) is None
    assert source.memory_limit_bytes(PID) is None
    assert source.process_count(PID) is None
    assert source.network_bytes(PID) is None


def test_what_identifies_a_process_is_read_past_a_hostile_name(machine: Machine) -> None:
    fields = " ".join(str(number) for number in range(3, 40))
    machine.process(
        stat=f"{PID} (a) R 1 (b)) {fields}\n",
        status="Name:\tx\nUid:\t1001\t0\t0\t0\n",
        comm="a) R 1 (b)\n",
    )

    assert machine.source.start_ticks(PID) == 22
    assert machine.source.owner_uid(PID) == 1001
    assert machine.source.comm(PID) == "a) R 1 (b)"


def a_stat(state: str = "S", *, flags: int = 0, threads: int = 1) -> str:
    fields = ["0"] * 50
    fields[0], fields[6], fields[17] = state, str(flags), str(threads)
    return f"{PID} (python) {' '.join(fields)}\n"


@pytest.mark.parametrize(
    ("stat", "has_ended"),
    [
        pytest.param(a_stat(), False, id="asleep"),
        pytest.param(a_stat("D"), False, id="stuck"),
        pytest.param(a_stat("Z"), True, id="a zombie"),
        pytest.param(a_stat("Z", threads=3), False, id="only its first thread has ended"),
        pytest.param(a_stat("X"), True, id="dead"),
    ],
)
def test_a_process_has_ended_when_its_last_thread_has(
    machine: Machine, stat: str, has_ended: bool
) -> None:
    machine.process(stat=stat)

    assert machine.source.has_ended(PID) is has_ended
    assert machine.source.has_ended(PID + 1)


def test_a_part_of_the_kernel_is_told_from_a_process(machine: Machine) -> None:
    machine.process(stat=a_stat(flags=0x00208040))
    machine.process(PID + 1, stat=a_stat(flags=0x00400100))

    assert machine.source.is_kernel_thread(PID)
    assert not machine.source.is_kernel_thread(PID + 1)
    assert not machine.source.is_kernel_thread(PID + 2)


def test_it_is_told_where_in_the_kernel_a_process_hangs(machine: Machine) -> None:
    machine.process(stat=a_stat("D"), wchan="nvidia_dev_close")
    machine.process(PID + 1, stat=a_stat("R"), wchan="0")

    assert machine.source.standing(PID) == "state D (uninterruptible), waits in nvidia_dev_close"
    assert machine.source.standing(PID + 1) == "state R"
    assert machine.source.standing(PID + 2) is None


def test_nested_containers_are_all_named_the_outermost_first(machine: Machine) -> None:
    machine.process(cgroup=f"4:memory:/docker/{ID}/docker/{OTHER}\n0::/docker/{ID}\n")

    assert machine.source.container_ids_in_cgroup(PID) == (ID, OTHER)
    assert machine.source.container_id_in_cgroup(PID) == ID


def test_a_command_line_is_one_line(machine: Machine) -> None:
    machine.process(cmdline="python\0train.py\0--lr\0")

    assert machine.source.command(PID) == "python train.py --lr"
    assert machine.source.command(PID + 1) is None


def test_a_stat_that_makes_no_sense_is_an_error(machine: Machine) -> None:
    machine.process(stat="nonsense")

    with pytest.raises(SourceError, match="makes no sense"):
        machine.source.start_ticks(PID)


@pytest.mark.parametrize("mount", ["cpuacct", "cpu,cpuacct"])
def test_counters_of_version_1_are_read(machine: Machine, mount: str) -> None:
    machine.process(
        cgroup=f"5:memory:/docker/{ID}\n2:{mount}:/docker/{ID}/init.scope\n0::/docker/{ID}\n"
    )
    machine.counter(f"{mount}/docker/{ID}/cpuacct.usage", "2500000000\n")
    machine.counter(f"memory/docker/{ID}/memory.usage_in_bytes", "1000\n")
    machine.counter(f"memory/docker/{ID}/memory.stat", "cache 900\ntotal_inactive_file 400\n")

    assert machine.source.cpu_seconds(PID, ID) == 2.5
    assert machine.source.memory_bytes(PID, ID) == 600


@pytest.mark.parametrize("mount", ["", "unified/"])
def test_counters_of_version_2_are_read(machine: Machine, mount: str) -> None:
    machine.process(cgroup=f"0::/system.slice/docker-{ID}.scope\n")
    folder = f"{mount}system.slice/docker-{ID}.scope"
    machine.counter(f"{folder}/cpu.stat", "usage_usec 2500000\nuser_usec 1\n")
    machine.counter(f"{folder}/memory.current", "1000\n")
    machine.counter(f"{folder}/memory.stat", "anon 1\ninactive_file 400\n")

    assert machine.source.cpu_seconds(PID, ID) == 2.5
    assert machine.source.memory_bytes(PID, ID) == 600


def test_limit_and_processes_of_version_1_are_read(machine: Machine) -> None:
    machine.process(cgroup=f"5:memory:/docker/{ID}\n2:cpuacct:/docker/{ID}\n0::/docker/{ID}\n")
    machine.counter(f"cpuacct/docker/{ID}/cpuacct.usage", "1\n")
    machine.counter(f"cpuacct/docker/{ID}/cgroup.procs", "10\n11\n")
    machine.counter(f"memory/docker/{ID}/memory.usage_in_bytes", "1000\n")
    machine.counter(f"memory/docker/{ID}/memory.limit_in_bytes", "4096\n")

    assert machine.source.memory_limit_bytes(PID, ID) == 4096
    assert machine.source.process_count(PID, ID) == 2


def test_limit_and_processes_of_version_2_are_read(machine: Machine) -> None:
    machine.process(cgroup=f"0::/system.slice/docker-{ID}.scope/init.scope\n")
    folder = f"system.slice/docker-{ID}.scope"
    machine.counter(f"{folder}/cpu.stat", "usage_usec 1\n")
    machine.counter(f"{folder}/memory.current", "1000\n")
    machine.counter(f"{folder}/memory.max", "4096\n")
    machine.counter(f"{folder}/cgroup.procs", "")
    machine.counter(f"{folder}/init.scope/cgroup.procs", "10\n")
    machine.counter(f"{folder}/system.slice/some.service/cgroup.procs", "11\n12\n")
    machine.counter(f"{folder}/system.slice/cgroup.procs", "")

    assert machine.source.memory_limit_bytes(PID, ID) == 4096
    assert machine.source.process_count(PID, ID) == 3


@pytest.mark.parametrize(
    ("file", "text"),
    [("memory.limit_in_bytes", "9223372036854771712"), ("memory.max", "max"), ("other", "1")],
)
def test_no_limit_is_no_number(machine: Machine, file: str, text: str) -> None:
    machine.process(cgroup=f"4:memory:/docker/{ID}\n0::/docker/{ID}\n")
    mount, usage = (
        ("memory/", "memory.usage_in_bytes") if "limit" in file else ("", "memory.current")
    )
    machine.counter(f"{mount}docker/{ID}/{usage}", "1000\n")
    machine.counter(f"{mount}docker/{ID}/{file}", f"{text}\n")

    assert machine.source.memory_limit_bytes(PID, ID) is None


def test_a_reused_pid_gives_nobody_elses_counters(machine: Machine) -> None:
    machine.process(cgroup=f"0::/docker/{OTHER}\n")
    machine.counter(f"docker/{OTHER}/cpu.stat", "usage_usec 1\n")

    assert machine.source.cpu_seconds(PID, ID) is None


def test_a_container_that_moved_is_found_again(machine: Machine) -> None:
    machine.process(cgroup=f"0::/a.slice/docker-{ID}.scope\n")
    machine.counter(f"a.slice/docker-{ID}.scope/cpu.stat", "usage_usec 1000000\n")
    assert machine.source.cpu_seconds(PID, ID) == 1

    (machine.cgroup / "a.slice").rename(machine.cgroup / "b.slice")
    machine.process(cgroup=f"0::/b.slice/docker-{ID}.scope\n")

    assert machine.source.cpu_seconds(PID, ID) == 1


def test_a_living_container_without_counters_is_an_error(machine: Machine) -> None:
    machine.process(cgroup=f"0::/docker/{ID}\n")

    with pytest.raises(SourceError, match="has no cpuacct"):
        machine.source.cpu_seconds(PID, ID)


NET_DEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop
    lo: 999999 1 0 0 0 0 0 0 999999 1 0 0 0 0 0 0
  eth0:    100 1 0 0 0 0 0 0     20 1 0 0 0 0 0 0
  eth1:1000 1 0 0 0 0 0 0 200 1 0 0 0 0 0 0
"""


def test_network_is_counted_without_the_loopback(machine: Machine) -> None:
    machine.process(net__dev=NET_DEV)
    machine.network(PID, "net:[2]")
    machine.network(1, "net:[1]")

    assert machine.source.network_bytes(PID) == (1100, 220)


@pytest.mark.parametrize("other", [1, "self"])
def test_the_hosts_own_network_says_nothing_about_a_container(
    machine: Machine, other: int | str
) -> None:
    machine.process(net__dev=NET_DEV)
    machine.network(PID, "net:[1]")
    machine.network(other, "net:[1]")

    assert machine.source.network_bytes(PID) is None


def test_what_is_there_and_cannot_be_read_is_an_error(machine: Machine) -> None:
    (machine.proc / str(PID) / "comm").mkdir(parents=True)

    with pytest.raises(SourceError, match="cannot read"):
        machine.source.comm(PID)
    with pytest.raises(SourceError, match="boot_id"):
        machine.source.boot_id()


def test_this_very_process_can_be_read() -> None:
    source = ProcSource()
    ticks = os.sysconf("SC_CLK_TCK")
    uptime = float(Path("/proc/uptime").read_text().split()[0])

    assert 0 < (source.start_ticks(os.getpid()) or 0) <= uptime * ticks
    assert source.owner_uid(os.getpid()) == os.getuid()
    assert source.comm(os.getpid())
    assert len(source.boot_id()) == 36
    assert source.network_bytes(os.getpid()) is None


@pytest.mark.parametrize(
    ("pids", "users", "is_the_hosts"),
    [
        ("pid:[1]", "user:[1]", True),
        ("pid:[2]", "user:[1]", False),
        ("pid:[1]", "user:[2]", False),
    ],
)
def test_a_process_in_namespaces_of_its_own_is_not_the_hosts(
    machine: Machine, pids: str, users: str, is_the_hosts: bool
) -> None:
    for pid, process_namespace, user_namespace in ((1, "pid:[1]", "user:[1]"), (PID, pids, users)):
        machine.network(pid, process_namespace, "pid")
        machine.network(pid, user_namespace, "user")

    assert machine.source.is_in_hosts_namespaces(PID) is is_the_hosts
    assert machine.source.is_in_hosts_namespaces(PID + 1) is None


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/nvidia-dcgm.service\n", "nvidia-dcgm.service"),
        ("1:name=systemd:/system.slice/a.service\n0::/\n", "a.service"),
        (f"0::/docker/{ID}/system.slice/a.service/sub\n", "a.service"),
        ("0::/system.slice/system-a.slice/a@1.service\n", "a@1.service"),
        (f"0::/system.slice/docker-{ID}.scope\n", f"docker-{ID}.scope"),
        (
            "0::/user.slice/user-1001.slice/user@1001.service/system.slice/nvidia-dcgm.service\n",
            None,
        ),
        ("0::/user.slice/user-1001.slice/session-1.scope\n", None),
        ("0::/init.scope\n", None),
        ("0::/\n", None),
    ],
)
def test_the_unit_of_a_process_is_the_systems_own_and_no_users(
    machine: Machine, cgroup: str, unit: str | None
) -> None:
    machine.process(cgroup=cgroup)

    assert machine.source.unit_of(PID) == unit


def test_who_is_gone_is_in_no_unit(machine: Machine) -> None:
    assert machine.source.unit_of(PID) is None
