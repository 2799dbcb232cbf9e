"""Stop, start and remove containers through the Docker engine."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import cast

import docker
import requests
from docker.errors import APIError, DockerException, NotFound
from docker.utils import kwargs_from_env

from remediator.core.containers import KeptContainer
from remediator.errors import EffectUnknownError, RefusedError, SourceError, TargetGoneError

_REMOVAL_IN_PROGRESS = "already in progress"
_POLL_SECONDS = 0.1
_LOCAL = "unix://"
_DEFAULT = "unix:///var/run/docker.sock"


class ContainerActuator:
    """One Docker engine, asked to change something.

    A connection is made for each call: any number of threads may wait here for containers that
    take their time, and a restarted engine is found again.
    """

    def __init__(self, base_url: str | None, timeout: timedelta) -> None:
        self._base_url = base_url
        self._timeout = timeout

    def stop(self, container_id: str, grace: timedelta, timeout: timedelta) -> None:
        """Send the stop signal, by force once *grace* is over; wait at most *timeout*.

        When nobody waits for its answer any more, the engine may forget about the force (measured
        with 20.10): a container that ignores the signal then runs on.
        """
        with self._acting("stop", container_id, timeout) as api:
            api.stop(container_id, timeout=round(grace.total_seconds()))

    def remove(self, container_id: str) -> None:
        """Remove a stopped container; its volumes stay."""
        with self._acting("remove", container_id, self._timeout) as api:
            try:
                api.remove_container(container_id, v=False, force=False)
            except APIError as error:
                if _REMOVAL_IN_PROGRESS not in str(error):
                    raise

    def look(self, name: str) -> KeptContainer | None:
        """Return the container of that name, None if there is none; SourceError if silent."""
        try:
            with self._acting("look at", name, self._timeout) as api:
                found = api.inspect_container(name)
        except TargetGoneError:
            return None
        except (RefusedError, EffectUnknownError) as error:
            raise SourceError(str(error)) from error
        return KeptContainer(found["Id"], bool(found["State"]["Running"]))

    def stop_softly(self, container_id: str, within: timedelta) -> None:
        """Send its stop signal and wait until it has ended; never by force.

        The engine's own stop would end it by force: here it is left running when it takes longer
        than *within*, which is an EffectUnknownError. It counts as stopped by hand, so that no
        restart policy brings it back.
        """
        deadline = time.monotonic() + within.total_seconds()
        with self._acting("stop", container_id, self._timeout) as api:
            found = api.inspect_container(container_id)
            if not found["State"]["Running"]:
                return
            # Any other signal than its own would leave the restart policy in force.
            api.kill(container_id, found["Config"].get("StopSignal") or "SIGTERM")
            # One that somebody has stopped (SIGSTOP) takes no other signal; systemd does the same.
            with contextlib.suppress(APIError):
                api.kill(container_id, "SIGCONT")
        while (found_again := self._after_signal(container_id)) and found_again.is_running:
            if time.monotonic() >= deadline:
                raise EffectUnknownError(f"container {container_id} takes too long to stop")
            time.sleep(_POLL_SECONDS)

    def start(self, container_id: str) -> None:
        """Start a stopped container again; one that runs is left alone."""
        with self._acting("start", container_id, self._timeout) as api:
            api.start(container_id)

    def _after_signal(self, container_id: str) -> KeptContainer | None:
        try:
            return self.look(container_id)
        except SourceError as error:
            raise EffectUnknownError(str(error)) from error

    @contextlib.contextmanager
    def _acting(
        self, verb: str, container_id: str, timeout: timedelta
    ) -> Iterator[docker.APIClient]:
        with self._connected(verb, container_id) as api:
            try:
                # The SDK adds a stop's own grace to this, and takes any number of seconds.
                api.timeout = cast(int, timeout.total_seconds())
                yield api
            except NotFound as error:
                raise TargetGoneError(f"container {container_id} no longer exists") from error
            except APIError as error:
                if error.is_client_error():
                    message = f"Docker refused to {verb} {container_id}: {error.explanation}"
                    raise RefusedError(message) from error
                message = f"Docker failed to {verb} {container_id}: {error.explanation}"
                raise EffectUnknownError(message) from error
            except (DockerException, requests.RequestException, OSError) as error:
                # The engine may well have taken the request before the connection failed.
                kind = type(error).__name__
                message = f"no answer from Docker when told to {verb} {container_id}: {kind}"
                raise EffectUnknownError(message) from error

    @contextlib.contextmanager
    def _connected(self, verb: str, container_id: str) -> Iterator[docker.APIClient]:
        timeout = cast(int, self._timeout.total_seconds())
        try:
            self._knock()
            # "auto" asks the engine for its version: a first question that changes nothing.
            if self._base_url is None:
                api = docker.APIClient(version="auto", timeout=timeout, **kwargs_from_env())
            else:
                api = docker.APIClient(self._base_url, version="auto", timeout=timeout)
        except (DockerException, requests.RequestException, OSError) as error:
            message = f"Docker cannot be reached to {verb} {container_id}: {error}"
            raise RefusedError(message) from error
        try:
            yield api
        finally:
            api.close()

    def _knock(self) -> None:
        """Raise OSError if nobody listens on the engine's local socket.

        The SDK would only say so after leaving an open socket behind (docker 7.2).
        """
        url = self._base_url or os.environ.get("DOCKER_HOST") or _DEFAULT
        if not url.startswith(_LOCAL):
            return
        with socket.socket(socket.AF_UNIX) as knock:
            knock.settimeout(self._timeout.total_seconds())
            knock.connect(f"/{url.removeprefix(_LOCAL).lstrip('/')}")
