"""Puts the DS01 exporter together and runs it."""

import logging
import signal
import socket
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import FrameType

from remediator.clock import SystemClock
from remediator.config.limits_file import LimitsFile
from remediator.config.settings import Address
from remediator.core.containers import ContainerFacts
from remediator.core.ownership import Owner, owner_of
from remediator.driver_lock import DriverLock
from remediator.errors import SetupError, SourceError
from remediator.exporter.collectors import Collector, Scrape
from remediator.exporter.containers import (
    collect_containers,
    collect_inventory,
    collect_limits,
    collect_slots,
)
from remediator.exporter.dcgm import dcgm_collector
from remediator.exporter.gpu_health import collect_gpu_health, leak_collector
from remediator.exporter.gpu_watch import GpuSample, GpuWatch, take_sample
from remediator.exporter.gpus import collect_gpus, collect_processes
from remediator.exporter.inventory import Inventory
from remediator.exporter.kept import Kept
from remediator.exporter.orphans import orphan_collector
from remediator.exporter.server import ExporterServer
from remediator.exporter.unmanaged import collect_unmanaged
from remediator.exporter.usage import usage_collector
from remediator.exporter.user_slices import slice_collector
from remediator.exporter.users import collect_groups, collect_users
from remediator.exporter.view import Residents, View, basis_of, book_of, look
from remediator.exporter.yielding import Yielding
from remediator.readiness import tell_ready
from remediator.sources.accounts import Accounts
from remediator.sources.docker_engine import DockerSource
from remediator.sources.nvml import NvmlSource
from remediator.sources.nvml_xids import XidWatch
from remediator.sources.proc import ProcSource
from remediator.sources.user_slices import UserSlices
from remediator.wiring.host_sources import HostSources

log = logging.getLogger(__name__)

# How often it is looked whether a signal asked for the limits to be read again.
_SIGNAL_SECONDS = 0.2
# How often what takes long is looked at ahead of the scrapes, and so how old it may be.
_AHEAD = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class ExporterOptions:
    """What the exporter is told when it starts.

    ``docker_host`` as in DOCKER_HOST, None for that variable; ``limits`` None for the built-in
    strict limits; ``gpu_metrics`` adds DCGM's families from NVML; ``permitted_host_users`` may
    use GPUs outside containers, so that their processes are no orphans, and so may
    ``permitted_processes``, which are names of programs. ``events_log`` and
    ``ds01_state_dir`` are DS01's; the roots are where the host's own folders are mounted.
    ``state_dir`` is the worker's, where it says that it resets a GPU and who keeps a container;
    None if there is no worker.
    """

    listen: Address
    docker_host: str | None = None
    limits: Path | None = None
    gpu_metrics: bool = False
    permitted_host_users: tuple[str, ...] = ("root",)
    permitted_processes: tuple[str, ...] = ()
    events_log: Path = Path("/var/log/ds01/events.jsonl")
    ds01_state_dir: Path = Path("/var/lib/ds01")
    state_dir: Path | None = None
    proc_root: Path = Path("/proc")
    cgroup_root: Path = Path("/sys/fs/cgroup")
    run_root: Path = Path("/run")
    docker_timeout: timedelta = timedelta(seconds=10)
    resync: timedelta = timedelta(seconds=5)


class Exporter:
    """A whole exporter in this process.

    ConfigError if the limits file cannot be used, SetupError if the address can't be had. Docker
    and the driver may be down: they are asked again all the time.
    """

    def __init__(self, options: ExporterOptions) -> None:
        self.limits = LimitsFile(options.limits)
        self._docker = DockerSource(options.docker_host, options.docker_timeout)
        self._nvml = NvmlSource()
        self._proc = ProcSource(options.proc_root, options.cgroup_root)
        self._users = Accounts()
        self._inventory = Inventory(self._docker, self._owner_of, resync=options.resync)
        sample = partial(take_sample, self._nvml, self._proc, self._users.name_of_uid)
        self._gpus = GpuWatch(
            partial(sample, instruments=options.gpu_metrics), self._nvml.release, every=_AHEAD
        )
        self._residents = Residents()
        self._slices = UserSlices(options.cgroup_root)
        self._host = HostSources(
            options.events_log, options.ds01_state_dir, options.run_root, options.proc_root
        )
        self._xids = XidWatch() if options.gpu_metrics else None
        self._yielding = self._make_yielding(options.state_dir)
        self._kept = Kept(options.state_dir, SystemClock()) if options.state_dir else None
        self._scrape = Scrape(self._collectors(options), self._view, ahead_every=_AHEAD)
        self._server = _listen(options, self._scrape)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.port

    def start(self) -> None:
        """Begin to watch and to answer."""
        self._inventory.start()
        if self._yielding is not None:
            self._yielding.start()
        if self._kept is not None:
            self._kept.start()
        self._gpus.start()
        self._host.start()
        if self._xids is not None:
            self._xids.start()
        self._scrape.start()
        self._server.start()

    def stop(self) -> None:
        """Stop answering and let go of everything."""
        self._server.stop()
        self._scrape.stop()
        if self._yielding is not None:
            self._yielding.stop()
        if self._kept is not None:
            self._kept.stop()
        self._gpus.stop()
        if self._xids is not None:
            self._xids.stop()
        self._host.stop()
        self._inventory.stop()
        self._docker.close()
        self._nvml.release()

    def release_driver(self, within: timedelta = timedelta(seconds=5)) -> bool:
        """Let go of every GPU, as a reset wants it, until `resume_driver`; False if we can't.

        Scrapes are answered meanwhile, from what was known of the GPUs as long as it can be true.
        """
        heard = self._xids is None or self._xids.release(within)
        return self._gpus.release(within) and heard

    def resume_driver(self) -> None:
        """Ask the driver again."""
        self._gpus.resume()
        if self._xids is not None:
            self._xids.resume()

    def _make_yielding(self, state_dir: Path | None) -> Yielding | None:
        if state_dir is None:
            return None
        lock = DriverLock(state_dir)
        return Yielding(lock.is_taken, self.release_driver, self.resume_driver)

    def _collectors(self, options: ExporterOptions) -> list[Collector]:
        collectors = [
            Collector("inventory", collect_inventory),
            Collector("containers", collect_containers, basis_of),
            Collector("slots", collect_slots, basis_of),
            Collector("limits", collect_limits, basis_of),
            Collector("users", collect_users, basis_of),
            Collector("unmanaged", collect_unmanaged, basis_of),
            Collector("groups", collect_groups, book_of),
            Collector("user-slices", slice_collector(self._slices), ahead=True),
            Collector("usage", usage_collector(self._proc), ahead=True),
            Collector("gpus", collect_gpus),
            Collector("processes", collect_processes),
            Collector("gpu-health", collect_gpu_health),
            Collector("leaks", leak_collector(self._proc)),
            Collector(
                "orphans",
                orphan_collector(
                    self._proc, options.permitted_host_users, options.permitted_processes
                ),
            ),
        ]
        collectors += self._host.collectors()
        if self._xids is not None:
            dcgm = dcgm_collector(socket.gethostname(), self._xids.last)
            collectors.append(Collector("dcgm", dcgm))
        return collectors

    def _view(self) -> View:
        self.limits.refresh()
        view = look(
            datetime.now(UTC),
            self._inventory.snapshot(),
            self._sample(),
            book=self.limits.book,
            limits_good=self.limits.is_good,
            residents=self._residents,
        )
        return view if self._kept is None else replace(view, kept=self._kept.until)

    def _sample(self) -> GpuSample | SourceError:
        try:
            return self._gpus.latest()
        except SourceError as error:
            return error

    def _owner_of(self, facts: ContainerFacts) -> Owner:
        uid = None
        if facts.pid > 0:
            try:
                uid = self._proc.owner_uid(facts.pid)
            except SourceError as error:
                log.debug("owner of the main process of %s unknown: %s", facts.name, error)
        return owner_of(facts, users=self._users, pid_owner=uid)


def run_exporter(options: ExporterOptions) -> int:
    """Serve until SIGTERM or SIGINT; SIGHUP reads the limits file again."""
    stop = threading.Event()
    reload = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    def read_again(_signal: int, _frame: FrameType | None) -> None:
        # Not here: a signal may come while the main thread holds a lock.
        reload.set()

    # Before anybody can see that it listens, and so believe that it can be told to end.
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGHUP, read_again)
    exporter = Exporter(options)
    exporter.start()
    address = Address(options.listen.host, exporter.port)
    log.info("DS01 exporter listens on http://%s/metrics", address)
    tell_ready()
    while not stop.wait(_SIGNAL_SECONDS):
        if reload.is_set():
            reload.clear()
            exporter.limits.reload()
    exporter.stop()
    return 0


def _listen(options: ExporterOptions, scrape: Scrape) -> ExporterServer:
    try:
        return ExporterServer(options.listen.host, options.listen.port, scrape.collect)
    except OSError as error:
        message = f"cannot listen on {options.listen}: {error.strerror}"
        raise SetupError(message) from error
