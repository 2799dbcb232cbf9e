"""Serve the receiver with gunicorn: one process, so that nothing has to be shared."""

from collections.abc import Callable
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

_THREADS = 8


class ReceiverServer(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """gunicorn, configured by us alone: no command line, no configuration file.

    The application is made in the worker process, after the fork: an SQLite connection must
    never cross one.
    """

    def __init__(self, make_app: Callable[[], Flask], address: str) -> None:
        self._make_app = make_app
        self._address = address
        super().__init__()

    def load_config(self) -> None:
        """Set what differs from gunicorn's defaults."""
        settings: dict[str, Any] = {
            "bind": [self._address],
            "workers": 1,
            "worker_class": "gthread",
            "threads": _THREADS,
            "timeout": 30,
            "graceful_timeout": 10,
            "keepalive": 75,
            "worker_tmp_dir": None,
            "proc_name": "remediator-receiver",
            "accesslog": None,
            "errorlog": "-",
            "loglevel": "warning",
            "control_socket_disable": True,
        }
        for name, value in settings.items():
            if name in self.cfg.settings:
                self.cfg.set(name, value)

    def load(self) -> Flask:
        """Return the application."""
        return self._make_app()
