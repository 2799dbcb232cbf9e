"""Puts the DS01 exporter together and runs it."""

import logging
import signal
import socket
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import FrameType

from remediator.config.limits_file import LimitsFile
from remediator.config.settings import Address
from remediator.core.containers import ContainerFacts
from remediator.core.ownership import Owner, owner_of
from remediator.errors import SetupError, SourceError
from remediator.exporter.collectors import Collector, Scrape
from remediator.exporter.containers import (
    collect_containers,
    collect_inventory,
    collect_limits,
    collect_slots,
)
from remediator.exporter.dcgm import dcgm_collector
from remediator.exporter.gpu_watch import GpuSample, GpuWatch, take_sample
from remediator.exporter.gpus import collect_gpus, collect_processes
from remediator.exporter.inventory import Inventory
from remediator.exporter.server import ExporterServer
from remediator.exporter.usage import usage_collector
from remediator.exporter.view import View, look
from remediator.sources.accounts import Accounts
from remediator.sources.docker_engine import DockerSource
from remediator.sources.nvml import NvmlSource
from remediator.sources.proc import ProcSource

log = logging.getLogger(__name__)

# How often it is looked whether a signal asked for the limits to be read again.
_SIGNAL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class ExporterOptions:
    """What the exporter is told when it starts.

    ``docker_host`` as in DOCKER_HOST, None for that variable; ``limits`` None for the built-in
    strict limits; ``gpu_metrics`` adds DCGM's families from NVML.
    """

    listen: Address
    docker_host: str | None = None
    limits: Path | None = None
    gpu_metrics: bool = False
    proc_root: Path = Path("/proc")
    cgroup_root: Path = Path("/sys/fs/cgroup")
    docker_timeout: timedelta = timedelta(seconds=10)
    resync: timedelta = timedelta(seconds=15)


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
        self._gpus = GpuWatch(partial(take_sample, self._nvml, self._proc, self._users.name_of_uid))
        self._server = _listen(options, Scrape(self._collectors(options), self._view))

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.port

    def start(self) -> None:
        """Begin to watch and to answer."""
        self._inventory.start()
        self._gpus.start()
        self._server.start()

    def stop(self) -> None:
        """Stop answering and let go of everything."""
        self._server.stop()
        self._gpus.stop()
        self._inventory.stop()
        self._docker.close()
        self._nvml.release()

    def _collectors(self, options: ExporterOptions) -> list[Collector]:
        collectors = [
            Collector("inventory", collect_inventory),
            Collector("containers", collect_containers),
            Collector("slots", collect_slots),
            Collector("limits", collect_limits),
            Collector("usage", usage_collector(self._proc)),
            Collector("gpus", collect_gpus),
            Collector("processes", collect_processes),
        ]
        if options.gpu_metrics:
            collectors.append(Collector("dcgm", dcgm_collector(socket.gethostname())))
        return collectors

    def _view(self) -> View:
        self.limits.refresh()
        return look(
            datetime.now(UTC),
            self._inventory.snapshot(),
            self._sample(),
            book=self.limits.book,
            limits_good=self.limits.is_good,
        )

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
    while not stop.wait(_SIGNAL_SECONDS):
        if reload.is_set():
            reload.clear()
            exporter.limits.reload()
    exporter.stop()
    return 0


def _listen(options: ExporterOptions, scrape: Scrape) -> ExporterServer:
    try:
        return ExporterServer(options.listen.host, options.listen.port, scrape)
    except OSError as error:
        message = f"cannot listen on {options.listen}: {error.strerror}"
        raise SetupError(message) from error
