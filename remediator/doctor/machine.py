"""Whether what the worker acts through can be reached: Docker, driver, systemd, mail server."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from remediator.doctor.examination import AilmentError, CannotTellError, Check


@dataclass(frozen=True, slots=True)
class Reach:
    """How each is asked; each says a few words or raises a RemediatorError."""

    docker: Callable[[], str]
    driver: Callable[[], Sequence[str]]
    systemd: Callable[[], str]
    mail: Callable[[], str]


class Machine:
    """The machine that this runs on; *is_root* is whether we may do what the worker may."""

    def __init__(self, reach: Reach, *, is_root: bool) -> None:
        self._reach = reach
        self._is_root = is_root

    def checks(self) -> Iterator[Check]:
        """Return what there is to look at."""
        yield Check("docker", self._docker, "systemctl status docker, or mend docker_host")
        yield Check("driver", self._driver, "nvidia-smi says what is wrong with the driver")
        yield Check("systemd", self._systemd, "install the extra dbus, or mend dbus_address")
        yield Check("mail", self._reach.mail, "mend mail in the settings, or the mail server")

    def _docker(self) -> str:
        self._needs_root()
        return f"version {self._reach.docker()}"

    def _driver(self) -> str:
        self._needs_root()
        gpus = self._reach.driver()
        if not gpus:
            raise AilmentError("the driver knows of no GPU")
        return f"{len(gpus)} GPU{'s' if len(gpus) > 1 else ''}"

    def _systemd(self) -> str:
        self._needs_root()
        return self._reach.systemd()

    def _needs_root(self) -> None:
        if not self._is_root:
            raise CannotTellError("only root can tell")


def is_root() -> bool:
    """Tell whether we may do what the worker may."""
    return os.geteuid() == 0
