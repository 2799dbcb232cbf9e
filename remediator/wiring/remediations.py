"""Every remediation with what it asks and what it acts through; nothing is connected to yet."""

from datetime import timedelta

from remediator.actuators.containers import ContainerActuator
from remediator.actuators.power import PowerActuator
from remediator.actuators.processes import ProcessActuator
from remediator.config.limits_file import LimitsFile
from remediator.config.settings import Settings
from remediator.core.targets import Service
from remediator.driver_lock import DriverLock
from remediator.quiesce.for_gpus import GpuServices
from remediator.remediations.cap_power import CapPower
from remediator.remediations.container_restart import ContainerRestart
from remediator.remediations.dcgm_watch import DcgmWatch
from remediator.remediations.interface import Remediation
from remediator.remediations.keepable import KeepableContainers
from remediator.remediations.kill_orphan import KillOrphan
from remediator.remediations.notify_only import NotifyOnly
from remediator.remediations.orphan_senses import OrphanSenses, Permitted
from remediator.remediations.own_alerts import OwnAlerts
from remediator.remediations.remove_container import RemoveContainer
from remediator.remediations.reset_senses import ResetSenses
from remediator.remediations.restart_dcgm import LEAST_STOP, PATIENCE, Owner, RestartDcgm
from remediator.remediations.restart_service import RestartService
from remediator.remediations.senses import Senses
from remediator.remediations.stop_container import StopContainer
from remediator.remediations.unit_restart import UnitRestart
from remediator.sources.accounts import Accounts
from remediator.sources.dcgm_page import DcgmPage
from remediator.sources.docker_engine import DockerSource
from remediator.sources.holders import HolderSource
from remediator.sources.in_time import (
    AccountsInTime,
    CommandsInTime,
    DriverInTime,
    EngineInTime,
    HoldersInTime,
)
from remediator.sources.nvml import NvmlSource
from remediator.sources.proc import ProcSource
from remediator.sources.prometheus import PrometheusSource
from remediator.wiring.quiesce import MadeQuiesce, make_services
from remediator.wiring.resetting import make_reset_gpu

# As long as Prometheus waits for a scrape.
_PAGE_TIMEOUT = timedelta(seconds=10)
# The worker's loop waits for this.
_PATIENCE_FOR_COMMANDS = timedelta(seconds=3)


def make_remediations(
    settings: Settings, limits: LimitsFile, quiesce: MadeQuiesce
) -> dict[str, Remediation]:
    """Return every remediation by its name; nothing is connected to yet."""
    prometheus = OwnAlerts(
        PrometheusSource(
            settings.prometheus_url, settings.prometheus_timeout, settings.prometheus_freshness
        )
    )
    docker = DockerSource(settings.docker_host, settings.docker_timeout)
    lock = DriverLock(settings.state_dir)
    driver = DriverInTime(NvmlSource(lock.is_taken), settings.docker_timeout)
    kernel = ProcSource()
    users = AccountsInTime(Accounts(), settings.docker_timeout)
    senses = Senses(
        prometheus=prometheus,
        engine=EngineInTime(docker, settings.docker_timeout),
        driver=driver,
        kernel=kernel,
        users=users,
    )
    holders = HoldersInTime(HolderSource(driver, kernel, users), settings.docker_timeout)
    permitted = Permitted(
        frozenset(settings.permitted_host_users), frozenset(settings.permitted_processes)
    )
    hands = ContainerActuator(settings.docker_host, settings.docker_timeout)
    gpu_services = GpuServices(quiesce.quiesce, quiesce.record)
    made: list[Remediation] = [
        StopContainer(senses, hands, limits, permitted),
        RemoveContainer(senses, hands, limits, permitted),
        KillOrphan(
            OrphanSenses(
                prometheus,
                docker,
                driver,
                kernel,
                users,
                CommandsInTime(kernel, settings.docker_timeout),
            ),
            ProcessActuator(kernel),
            permitted,
        ),
        CapPower(prometheus, driver, PowerActuator(settings.docker_timeout)),
        make_reset_gpu(
            settings,
            ResetSenses(prometheus, docker, driver, holders, kernel, users),
            gpu_services,
            make_services(settings),
            lock,
        ),
        *_restarting(settings, prometheus, driver, docker, hands, gpu_services),
        NotifyOnly(prometheus),
    ]
    return {remediation.name: remediation for remediation in made}


def make_keepable(settings: Settings, limits: LimitsFile) -> KeepableContainers:
    """Return what finds a container that somebody wants to keep.

    It has a connection of its own, and the worker's loop waits for it: not as long as others may.
    """
    timeout = min(settings.docker_timeout, _PATIENCE_FOR_COMMANDS)
    docker = DockerSource(settings.docker_host, timeout)
    driver = DriverInTime(NvmlSource(), timeout)
    prometheus = PrometheusSource(
        settings.prometheus_url, settings.prometheus_timeout, settings.prometheus_freshness
    )
    users = AccountsInTime(Accounts(), timeout)
    engine = EngineInTime(docker, timeout)
    return KeepableContainers(Senses(prometheus, engine, driver, ProcSource(), users), limits)


def _restarting(
    settings: Settings,
    prometheus: OwnAlerts,
    driver: DriverInTime,
    engine: DockerSource,
    hands: ContainerActuator,
    maintenance: GpuServices,
) -> list[Remediation]:
    """Return what restarts services: the DCGM exporter through its one owner, and any unit."""
    services = make_services(settings)
    owner: Owner = UnitRestart(services, PATIENCE, least_stop=LEAST_STOP)
    if settings.dcgm_container:
        owner = ContainerRestart(engine, hands, PATIENCE, LEAST_STOP)
    dcgm = Service(settings.dcgm_container or settings.dcgm_unit, settings.host)
    watch = DcgmWatch(DcgmPage(settings.dcgm_url, _PAGE_TIMEOUT), driver)
    return [
        RestartDcgm(prometheus, owner, watch, dcgm, maintenance),
        RestartService(prometheus, services, settings.host, maintenance=maintenance),
    ]
