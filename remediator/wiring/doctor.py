"""Put together what `remediator doctor` looks at."""

from collections.abc import Sequence
from datetime import timedelta

from remediator.config.settings import Settings
from remediator.doctor.examination import CannotTellError, Check
from remediator.doctor.machine import Machine, Reach, is_root
from remediator.doctor.monitoring import Monitoring
from remediator.doctor.programs import Programs
from remediator.doctor.trial import Trial
from remediator.doctor.web import RealWeb
from remediator.notifiers.mail import Mail
from remediator.sources.docker_engine import DockerSource
from remediator.sources.nvml import NvmlSource
from remediator.system_bus import SystemBus

_TIMEOUT = timedelta(seconds=10)


def checks_of(settings: Settings, *, with_trial: bool) -> list[Check]:
    """Return everything there is to look at, with a test alert if that is wanted."""
    web = RealWeb(_TIMEOUT)
    return [
        *Programs(settings, web).checks(),
        *Monitoring(settings, web).checks(),
        *(Trial(settings, web).checks() if with_trial else ()),
        *Machine(_reach(settings), is_root=is_root()).checks(),
    ]


def _reach(settings: Settings) -> Reach:
    def docker() -> str:
        source = DockerSource(settings.docker_host, settings.docker_timeout)
        try:
            return source.version()
        finally:
            source.close()

    def driver() -> Sequence[str]:
        source = NvmlSource()
        try:
            return [gpu.model for gpu in source.gpus()]
        finally:
            source.release()

    def systemd() -> str:
        with SystemBus(settings.dbus_address, _TIMEOUT).asking("whether it is there") as manager:
            manager.rows([settings.dcgm_unit])
        return "answers on its bus"

    def mail() -> str:
        if not settings.mail.host:
            raise CannotTellError("mail.host is not set: no mail is sent")
        return Mail(settings.mail).reach()

    return Reach(docker, driver, systemd, mail)
