"""A WSGI application that is made when it is first needed, or when there is time for it."""

import json
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from remediator.errors import RemediatorError
from remediator.web.taking import Taking

if TYPE_CHECKING:
    from flask import Flask

log = logging.getLogger(__name__)


class LateApp:
    """What takes deliveries, at once, and everything else a moment later.

    To import Flask and to make the page take longer than all the rest of a start, during which
    Alertmanager would wait.
    """

    def __init__(self, taking: Taking, make: Callable[[], "Flask"]) -> None:
        self.taking = taking
        self._make = make
        self._app: Flask | None = None
        self._is_tried = False

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer a request, as WSGI has it."""
        try:
            app = self._made()
        except RemediatorError as error:
            body = json.dumps({"error": str(error)}).encode() + b"\n"
            head = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
            start_response("503 Service Unavailable", head)
            return [body]
        return app(environ, start_response)

    def prepare(self) -> None:
        """Make the application if nobody has tried; what is wrong is logged, and answered later."""
        if not self._is_tried:
            try:
                self._made()
            except RemediatorError as error:
                log.error("only deliveries are taken, there is no page: %s", error)  # noqa: TRY400

    def _made(self) -> "Flask":
        self._is_tried = True
        if self._app is None:
            self._app = self._make()
        return self._app
