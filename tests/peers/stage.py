"""A stage: peers below one folder, stopped in reverse order whatever happens.

Tests get one from a fixture, the demo opens one itself.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from tests.peers.alertmanager import Alertmanager
from tests.peers.dockerd import DockerEngine
from tests.peers.process import Daemon
from tests.peers.prometheus import Prometheus
from tests.peers.smtp import MailServer
from tests.peers.systemd_host import PACKAGES as HOST_PACKAGES
from tests.peers.systemd_host import SystemdHost
from tests.peers.terminals import Terminals


class Peer(Protocol):
    """What all peers have in common."""

    def start(self) -> object: ...
    def stop(self) -> None: ...


P = TypeVar("P", bound=Peer)


class Stage:
    """Starts peers, each in a folder of its own, and stops them at the end.

    Everything handed out is started and ready.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._daemons: list[Daemon] = []
        self._numbers: dict[str, int] = {}
        self._stack = contextlib.ExitStack()

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
        """Stop all, the last started first."""
        self._stack.close()
        self._daemons.clear()

    def prometheus(
        self,
        rule_files: Iterable[Path] = (),
        scrape: Mapping[str, Sequence[str]] | None = None,
        interval: str = "1s",
        alertmanagers: Iterable[str] = (),
        *,
        rule_interval: str | None = None,
        waits: str | None = None,
        arguments: Sequence[str] = (),
    ) -> Prometheus:
        """A started `Prometheus`."""
        prometheus = Prometheus(
            self._subfolder("prometheus"),
            rule_files,
            scrape,
            interval,
            alertmanagers,
            rule_interval=rule_interval,
            waits=waits,
            arguments=arguments,
        )
        return self._begin(prometheus, prometheus.daemon)

    def alertmanager(
        self,
        webhook_url: str = "",
        token_file: Path | None = None,
        config: Mapping[str, Any] | None = None,
        *,
        mesh: bool = False,
        peers: Iterable[str] = (),
    ) -> Alertmanager:
        """A started `Alertmanager` with *config*, or one that posts each target to a webhook."""
        folder = self._subfolder("alertmanager")
        alertmanager = Alertmanager(folder, webhook_url, token_file, config, mesh=mesh, peers=peers)
        return self._begin(alertmanager, alertmanager.daemon)

    def shipped_alertmanager(
        self,
        config_path: Path,
        webhook_url: str,
        token_file: Path | None = None,
        *,
        mail: MailServer | None = None,
    ) -> Alertmanager:
        """A started `Alertmanager` with the routes we ship."""
        folder = self._subfolder("alertmanager")
        alertmanager = Alertmanager.from_shipped(
            folder, config_path, webhook_url, token_file, mail=mail
        )
        return self._begin(alertmanager, alertmanager.daemon)

    def mail_server(self) -> MailServer:
        """A started `MailServer`."""
        return self._begin(MailServer(self._subfolder("mail")))

    def terminals(self) -> Terminals:
        """The one `Terminals` of this machine."""
        return self._begin(Terminals())

    def docker_engine(self, *, live_restore: bool = False, apart: bool = False) -> DockerEngine:
        """A started `DockerEngine` of its own, to be killed or frozen at will."""
        engine = DockerEngine(self._subfolder("docker"), apart=apart)
        engine.live_restore = live_restore
        return self._begin(engine, engine.daemon)

    def systemd_host(
        self,
        engine: DockerEngine,
        packages: Sequence[str] = HOST_PACKAGES,
        shown: Sequence[Path] = (),
    ) -> SystemdHost:
        """A booted `SystemdHost` on *engine*."""
        folder = self._subfolder("systemd")
        return self._begin(SystemdHost(engine.client(), folder, packages, shown))

    def daemon(
        self,
        name: str,
        command: Sequence[str],
        *,
        ready: Callable[[], object] = lambda: True,
        environment: Mapping[str, str] | None = None,
        ready_within: float = 15,
        grace: float = 10,
    ) -> Daemon:
        """Any other program, started."""
        daemon = Daemon(
            name,
            command,
            self._subfolder(name),
            ready=ready,
            environment=environment,
            ready_within=ready_within,
            grace=grace,
        )
        return self._begin(daemon, daemon)

    @property
    def daemons(self) -> tuple[Daemon, ...]:
        """The programs on stage, in the order of their first start."""
        return tuple(self._daemons)

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call *callback* at the end, after what comes on stage later was stopped."""
        self._stack.callback(callback)

    def logs(self, lines: int = 20) -> list[tuple[str, str]]:
        """For each program on stage: where its log is, and how it ends."""
        return [(str(daemon.log), daemon.log_tail(lines)) for daemon in self._daemons]

    def _begin(self, peer: P, daemon: Daemon | None = None) -> P:
        if daemon is not None:
            self._daemons.append(daemon)
        self._stack.callback(peer.stop)
        peer.start()
        return peer

    def _subfolder(self, name: str) -> Path:
        number = self._numbers[name] = self._numbers.get(name, 0) + 1
        return self.folder / (name if number == 1 else f"{name}-{number}")
