"""Serve the receiver with gunicorn: one process, so that nothing has to be shared."""

import errno
import logging
import os
import socket
import time
from collections.abc import Callable
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.errors import AppImportError
from gunicorn.glogging import Logger

from remediator.errors import RemediatorError, SetupError
from remediator.web.buffering import BufferingWorker
from remediator.web.connection import Limits
from remediator.web.framing import Announced
from remediator.web.late import LateApp

log = logging.getLogger(__name__)

_BACKLOG = 1024
_GRACE_SECONDS = 10
# A receiver that was killed frees its port as soon as its orphaned worker notices.
_PORT_PATIENCE_SECONDS = 2.0


class ReceiverServer(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn, configured by us alone: no command line, no configuration file.

    The application is made in the worker process, after the fork: an SQLite connection must
    never cross one. `BufferingWorker` reads *limits*, and asks *accepts_body* before it takes a
    body in.
    """

    def __init__(
        self,
        make_app: Callable[[], LateApp],
        listener: socket.socket,
        limits: Limits,
        accepts_body: Callable[[Announced], bool],
    ) -> None:
        self.limits = limits
        self.accepts_body = accepts_body
        self._make_app = make_app
        self._descriptor = listener.detach()
        super().__init__()

    def load_config(self) -> None:
        """Set what differs from gunicorn's defaults."""
        settings: dict[str, Any] = {
            "bind": [f"fd://{self._descriptor}"],
            "workers": 1,
            "worker_class": BufferingWorker,
            "timeout": 30,
            "graceful_timeout": _GRACE_SECONDS,
            "backlog": _BACKLOG,
            "proc_name": "remediator-receiver",
            "logger_class": _Log,
            "loglevel": "warning",
            # Nobody may tell us by a header who or where he is.
            "forwarded_allow_ips": "",
            "control_socket_disable": True,
        }
        for name, value in settings.items():
            # Older gunicorns lack some, and then also what they switch off.
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> LateApp:
        """Return the application; if it cannot be made, gunicorn ends without another try."""
        try:
            return self._make_app()
        except RemediatorError as error:
            raise AppImportError(f"remediator: {error}") from error

    def serve(self) -> None:
        """Serve until told to stop; SetupError if the application could not be made."""
        parent = os.getpid()
        try:
            self.run()
        except SystemExit as end:
            # A worker leaves this way as well; its code tells the parent not to start another.
            if os.getpid() != parent or not end.code:
                raise
            raise SetupError("the receiver cannot run, see above") from end


class _Log(Logger):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn's messages in our log."""

    def setup(self, cfg: Any) -> None:
        """Hand all messages on to the root logger's handlers."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; SetupError says why that can't be."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    give_up_at = time.monotonic() + _PORT_PATIENCE_SECONDS
    while True:
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE or time.monotonic() > give_up_at:
                raise SetupError(f"cannot listen on {host}:{port}: {error.strerror}") from error
            time.sleep(0.1)
        else:
            return listener
