"""The last XID of each GPU. NVML keeps none: it tells them as they happen, to whoever listens.

The listener waits in a thread of its own, with its own opening of the driver. While it listens it
is a client of every GPU, as every user of NVML is: `release` it before a reset.
"""

import contextlib
import ctypes
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

import pynvml

from remediator.sources.nvml_answers import if_told

log = logging.getLogger(__name__)

_XID = pynvml.nvmlEventTypeXidCriticalError
# How long one wait for an event lasts: so long may a release take.
_WAIT_MILLISECONDS = 250
# How soon a GPU that came back, or a driver, is listened to again.
_LOOK_SECONDS = 5.0


class XidWatch:
    """Listens from `start` to `stop`, but for the time between `release` and `resume`."""

    def __init__(self, look_every: timedelta = timedelta(seconds=_LOOK_SECONDS)) -> None:
        self._look_every = look_every.total_seconds()
        self._condition = threading.Condition()
        self._is_wanted = True
        self._is_listening = False
        self._stopping = False
        self._last: dict[str, int] = {}
        self._problem = ""
        self._thread = threading.Thread(target=self._run, name="xid-watch", daemon=True)

    def start(self) -> None:
        """Begin to listen, whether there is a driver yet or not."""
        self._thread.start()

    def stop(self, within: timedelta = timedelta(seconds=2)) -> None:
        """End; a thread that hangs in the driver is left behind."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        self._thread.join(within.total_seconds())

    def last(self) -> Mapping[str, int]:
        """Return the last XID by the UUID of each GPU that was listened to; 0 for none since."""
        with self._condition:
            return dict(self._last)

    def release(self, within: timedelta) -> bool:
        """Close the driver and stay away from it; False if it was not let go in time."""
        with self._condition:
            self._is_wanted = False
            self._condition.notify_all()
            return self._condition.wait_for(lambda: not self._is_listening, within.total_seconds())

    def resume(self) -> None:
        """Listen again."""
        with self._condition:
            self._is_wanted = True
            self._condition.notify_all()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._is_wanted or self._stopping)
                if self._stopping:
                    return
                self._is_listening = True
            began = time.monotonic()
            try:
                self._listen()
            except pynvml.NVMLError as error:
                self._note(str(error))
            ended = time.monotonic()
            with self._condition:
                self._is_listening = False
                self._condition.notify_all()
            # What happens meanwhile is not heard: after a good while, as when a GPU is lost, it
            # goes on at once with the others.
            if ended - began < self._look_every:
                self._pause()

    def _listen(self) -> None:
        with _event_set() as events:
            listened: dict[int, str] = {}
            looked_at = -self._look_every
            while self._goes_on():
                if time.monotonic() - looked_at >= self._look_every:
                    looked_at = time.monotonic()
                    self._register(events, listened)
                if listened:
                    self._wait(events, listened)
                else:
                    self._pause()

    def _register(self, events: Any, listened: dict[int, str]) -> None:
        """Listen to the GPUs that are not listened to yet, as far as they can be."""
        for index in range(pynvml.nvmlDeviceGetCount()):
            with contextlib.suppress(pynvml.NVMLError):
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                if _address(handle) not in listened:
                    uuid = pynvml.nvmlDeviceGetUUID(handle)
                    pynvml.nvmlDeviceRegisterEvents(handle, _XID, events)
                    listened[_address(handle)] = uuid
        with self._condition:
            for uuid in listened.values():
                self._last.setdefault(uuid, 0)
        self._note("")

    def _wait(self, events: Any, listened: Mapping[int, str]) -> None:
        try:
            event = pynvml.nvmlEventSetWait_v2(events, _WAIT_MILLISECONDS)
        except pynvml.NVMLError as error:
            if error.value == pynvml.NVML_ERROR_TIMEOUT:
                return
            raise
        # By the handle first: a GPU that fell off the bus with this XID cannot say its UUID.
        uuid = listened.get(_address(event.device)) or if_told(
            lambda: pynvml.nvmlDeviceGetUUID(event.device)
        )
        if event.eventType & _XID and uuid:
            log.warning("GPU %s: XID %d", uuid, event.eventData)
            with self._condition:
                self._last[uuid] = int(event.eventData)

    def _goes_on(self) -> bool:
        with self._condition:
            return self._is_wanted and not self._stopping

    def _pause(self) -> None:
        with self._condition:
            self._condition.wait_for(
                lambda: self._stopping or not self._is_wanted, self._look_every
            )

    def _note(self, problem: str) -> None:
        """Log a problem when it appears and when it changes."""
        if problem != self._problem and problem:
            log.warning("XIDs are not heard for now: %s", problem)
        self._problem = problem


@contextlib.contextmanager
def _event_set() -> Iterator[Any]:
    pynvml.nvmlInit()
    try:
        events = pynvml.nvmlEventSetCreate()
        try:
            yield events
        finally:
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlEventSetFree(events)
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0
