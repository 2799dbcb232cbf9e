"""What the Docker engine knows of its containers.

Only questions are asked here. The engine may be down when this is made and may come and go:
each question makes its connection or takes one that is idle, so that any number of threads can
ask at the same time and a restarted engine is found again by the next question.
"""

import base64
import contextlib
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any, cast

import docker
import requests
from docker.errors import DockerException, NotFound
from docker.types import CancellableStream
from docker.utils import kwargs_from_env

from remediator.core.containers import (
    ContainerEvent,
    ContainerFacts,
    ContainerSummary,
    Mount,
    parse_moment,
)
from remediator.core.gpu_claims import claims_of
from remediator.errors import SourceError, TargetGoneError

KEEP_ALIVE = PurePosixPath("/workspace/.keep-alive")
_VISIBLE = "NVIDIA_VISIBLE_DEVICES="
# Enough for a host's images; a forgotten one only costs a question.
_MOST_IMAGES = 1000
_EPOCH = datetime.fromtimestamp(0, UTC)
# Seconds from then to the year 2200: later is as good as that, and sums stay in the calendar.
_LATEST = 7_258_118_400.0
_LOCAL = "unix://"
_DEFAULT = "unix:///var/run/docker.sock"


class DockerSource:
    """One Docker engine.

    *base_url* as in ``DOCKER_HOST``; None takes that and the other variables of Docker's own
    client. *timeout* bounds each wait for an answer. Every question raises SourceError when
    there is no usable answer.
    """

    def __init__(self, base_url: str | None, timeout: timedelta) -> None:
        self._base_url = base_url
        self._timeout = timeout.total_seconds()
        self._lock = threading.Lock()
        self._idle: list[docker.APIClient] = []
        self._image_envs: dict[str, tuple[str, ...]] = {}

    def version(self) -> str:
        """Return the engine's version."""
        with self._asking("its version") as api:
            return str(api.version().get("Version", "unknown"))

    def list(self) -> tuple[ContainerSummary, ...]:
        """Return all containers, the stopped ones too, by one request."""
        with self._asking("the list of containers") as api:
            return tuple(_summary(entry) for entry in api.containers(all=True))

    def inspect(self, container_id: str) -> ContainerFacts:
        """Return what is known of one container; TargetGoneError if there is none such."""
        with self._asking(f"container {container_id}", container_id) as api:
            answer = api.inspect_container(container_id)
            return facts_of(answer, self._image_env(api, answer))

    def labels_of_removed(self, container_id: str) -> Mapping[str, str] | None:
        """Return the labels of a container that this engine remembers removing; None if it doesn't.

        An engine remembers its last 256 events, of any kind, until it is restarted (moby,
        daemon/events). An id is never given twice, so it proves whose container that was.
        """
        filters = {"type": ["container"], "event": ["destroy"], "container": [container_id]}
        # With an end that is past, the engine answers at once and does not wait for more.
        params = {"since": "1", "until": f"{time.time():.9f}", "filters": json.dumps(filters)}
        with self._asking("its past events") as api:
            url = f"{api.base_url}/v{api.api_version}/events"
            answer = api.get(url, params=params, timeout=self._timeout)
            answer.raise_for_status()
            for line in answer.text.splitlines():
                actor = json.loads(line).get("Actor") or {}
                if actor.get("ID") == container_id:
                    return dict(actor.get("Attributes") or {})
        return None

    def events(self, since: datetime | None = None, *, silence: timedelta) -> "EventStream":
        """Return the events of containers from *since* on (from now on if None), as they come.

        The stream ends when the connection does or when nothing was heard for *silence*: the
        engine may be frozen or the other end gone. Ask again from the last event's time.
        """
        api = self._client()
        url = f"{api.base_url}/v{api.api_version}/events"
        params = {"filters": json.dumps({"type": ["container"]})}
        if since is not None:
            params["since"] = f"{since.timestamp():.9f}"
        try:
            with _translated("its events"):
                response = api.get(
                    url,
                    params=params,
                    stream=True,
                    timeout=(self._timeout, silence.total_seconds()),
                )
                response.raise_for_status()
        except SourceError:
            api.close()
            raise
        return EventStream(api, response)

    def keep_alive_at(self, facts: ContainerFacts) -> tuple[datetime, datetime] | None:
        """Return modification and change time of ``/workspace/.keep-alive``; None without one.

        Nothing is run in the container. On a bind mount or volume of this machine the file is
        looked at from the host, without following a link it may be. Where that shows none, the
        engine's archive interface is asked as well: this program may see other files there than
        the container does (a hidden /home, a container of its own). The archive knows no change
        time, so a modification time in the future, which no honest ``touch`` makes, counts from
        the container's start.
        """
        path = self._host_path(facts)
        times = None if path is None else _times_of(path)
        if times is not None:
            return times
        with self._asking(f"{KEEP_ALIVE} of container {facts.id}", facts.id) as api:
            url = f"{api.base_url}/v{api.api_version}/containers/{facts.id}/archive"
            answer = api.head(url, params={"path": str(KEEP_ALIVE)}, timeout=self._timeout)
            if answer.status_code == requests.codes.not_found:
                return None
            answer.raise_for_status()
            mtime = _archive_mtime(answer.headers)
        if mtime is None:
            return None
        ceiling = mtime if mtime <= datetime.now(UTC) else facts.started_at or facts.created_at
        return mtime, ceiling

    def close(self) -> None:
        """Close the idle connections; later questions make new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
        for api in idle:
            api.close()

    def _image_env(self, api: docker.APIClient, answer: Mapping[str, Any]) -> Sequence[str] | None:
        """Return the image's environment, asked for once, and only where it could matter."""
        env = (answer.get("Config") or {}).get("Env") or []
        if not any(variable.startswith(_VISIBLE) for variable in env):
            return ()
        image = str(answer.get("Image", ""))
        known = self._image_envs.get(image)
        if known is None:
            try:
                found = api.inspect_image(image)  # type: ignore[no-untyped-call]
            except NotFound:
                return None
            known = tuple((found.get("Config") or {}).get("Env") or ())
            if len(self._image_envs) >= _MOST_IMAGES:
                self._image_envs.clear()
            self._image_envs[image] = known
        return known

    def _host_path(self, facts: ContainerFacts) -> str | None:
        """Return where this machine sees the keep-alive file, if a mount tells."""
        if not self._is_local():
            return None
        holding = [m for m in facts.mounts if KEEP_ALIVE.is_relative_to(m.destination)]
        if not holding:
            return None
        mount = max(holding, key=lambda m: len(PurePosixPath(m.destination).parts))
        if mount.kind not in {"bind", "volume"} or not mount.source:
            return None
        return os.path.join(mount.source, KEEP_ALIVE.relative_to(mount.destination))

    def _is_local(self) -> bool:
        return self._url().startswith(_LOCAL)

    def _url(self) -> str:
        return self._base_url or os.environ.get("DOCKER_HOST") or _DEFAULT

    @contextlib.contextmanager
    def _asking(self, what: str, container_id: str | None = None) -> Iterator[docker.APIClient]:
        with _translated(what, container_id):
            api = self._client()
            try:
                yield api
            except NotFound:
                self._give_back(api)
                raise
            except BaseException:
                # Whatever went wrong may have left half an answer in the connection.
                api.close()
                raise
            self._give_back(api)

    def _client(self) -> docker.APIClient:
        with _translated("anything"):
            self._knock()
        with self._lock:
            if self._idle:
                return self._idle.pop()
        # The types say int, requests takes any number of seconds.
        timeout = cast(int, self._timeout)
        with _translated("its version"):
            # "auto" asks the engine, so that an older one is spoken to in its own version.
            if self._base_url is None:
                return docker.APIClient(version="auto", timeout=timeout, **kwargs_from_env())
            return docker.APIClient(self._base_url, version="auto", timeout=timeout)

    def _knock(self) -> None:
        """Raise OSError if nobody listens on the engine's local socket.

        The SDK would only say so after leaving an open socket behind (docker 7.2).
        """
        if not self._is_local():
            return
        path = self._url().removeprefix(_LOCAL)
        with socket.socket(socket.AF_UNIX) as knock:
            knock.settimeout(self._timeout)
            knock.connect(f"/{path.lstrip('/')}")

    def _give_back(self, api: docker.APIClient) -> None:
        with self._lock:
            self._idle.append(api)


class EventStream:
    """The running events of an engine; iterate in one thread, close from any."""

    def __init__(self, api: docker.APIClient, response: requests.Response) -> None:
        self._api = api
        self._response = response

    def __iter__(self) -> Iterator[ContainerEvent]:
        """Return the events as they come; ends when the stream does, for whatever reason."""
        with contextlib.suppress(requests.RequestException, OSError, ValueError, AttributeError):
            # AttributeError: urllib3 reads from a connection that close() took away.
            for line in self._response.iter_lines(chunk_size=None):
                event = _event(json.loads(line)) if line else None
                if event is not None:
                    yield event

    def close(self) -> None:
        """End the stream, also one that is waiting in another thread."""
        with contextlib.suppress(OSError, AttributeError, DockerException):
            # Shutting down the socket is what wakes a reader; closing alone does not.
            CancellableStream(iter(()), self._response).close()
        self._api.close()


def facts_of(answer: Mapping[str, Any], image_env: Sequence[str] | None) -> ContainerFacts:
    """Return Docker's inspect *answer* as a value; see `claims_of` for *image_env*."""
    state = answer.get("State") or {}
    config = answer.get("Config") or {}
    started_at = parse_moment(state.get("StartedAt") or "")
    return ContainerFacts(
        id=str(answer["Id"]),
        name=str(answer.get("Name") or "").lstrip("/"),
        image=str(config.get("Image") or answer.get("Image") or ""),
        labels=dict(config.get("Labels") or {}),
        state=str(state.get("Status") or "unknown"),
        pid=int(state.get("Pid") or 0),
        created_at=parse_moment(answer.get("Created") or "") or datetime.fromtimestamp(0, UTC),
        started_at=started_at,
        finished_at=parse_moment(state.get("FinishedAt") or ""),
        # Docker says 0 for a container that runs or never ran.
        exit_code=None if started_at is None or state.get("Running") else state.get("ExitCode"),
        claims=claims_of(answer, image_env),
        mounts=tuple(_mount(mount) for mount in answer.get("Mounts") or ()),
        network_mode=str((answer.get("HostConfig") or {}).get("NetworkMode") or ""),
        restart_count=int(answer.get("RestartCount") or 0),
    )


def _mount(mount: Mapping[str, Any]) -> Mount:
    return Mount(
        source=str(mount.get("Source") or ""),
        destination=str(mount.get("Destination") or "/"),
        kind=str(mount.get("Type") or ""),
    )


def _summary(entry: Mapping[str, Any]) -> ContainerSummary:
    names = entry.get("Names") or [""]
    return ContainerSummary(
        id=str(entry["Id"]), name=str(names[0]).lstrip("/"), state=str(entry.get("State") or "")
    )


def _event(entry: Mapping[str, Any]) -> ContainerEvent | None:
    actor = entry.get("Actor") or {}
    container_id = actor.get("ID") or entry.get("id")
    if not container_id:
        return None
    seconds, nanos = divmod(int(entry.get("timeNano") or int(entry["time"]) * 10**9), 10**9)
    at = datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=nanos // 1000)
    # "exec_start: sh -c …" and "health_status: healthy" carry text after the word.
    action = str(entry.get("Action") or entry.get("status") or "").partition(":")[0]
    return ContainerEvent(str(container_id), action, at)


def _times_of(path: str) -> tuple[datetime, datetime] | None:
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise SourceError(f"cannot look at keep-alive file {path}: {error.strerror}") from error
    if stat.S_ISDIR(found.st_mode):
        return None
    return _moment_of(found.st_mtime), _moment_of(found.st_ctime)


def _moment_of(seconds: float) -> datetime:
    """Return the time of a file, whose owner may have set it to one that no calendar has."""
    return _EPOCH + timedelta(seconds=min(max(seconds, 0.0), _LATEST))


def _archive_mtime(headers: Mapping[str, str]) -> datetime | None:
    """Read the header described in Docker's API, "Get information about files"."""
    encoded = headers.get("X-Docker-Container-Path-Stat", "")
    described = json.loads(base64.b64decode(encoded))
    return parse_moment(str(described.get("mtime") or ""))


@contextlib.contextmanager
def _translated(what: str, container_id: str | None = None) -> Iterator[None]:
    """Turn what the libraries raise into our errors, naming *what* was asked for."""
    try:
        yield
    except NotFound as error:
        if container_id is not None:
            raise TargetGoneError(f"container {container_id} no longer exists") from error
        raise SourceError(f"Docker has no {what}: {error}") from error
    except (DockerException, requests.RequestException, OSError) as error:
        # A live client lets the exceptions of requests through (docker 7.2).
        raise SourceError(f"Docker did not answer when asked for {what}: {error}") from error
    except (ValueError, OverflowError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"Docker's answer about {what} makes no sense: {error!r}") from error
