"""Honest deliveries that never stop: each is posted again and again until somebody has said 200."""

import json
import threading
import time
from dataclasses import dataclass, field

import requests

from tests.eventually import eventually
from tests.peers.site import Site

_EVERY_SECONDS = 0.1
ALERT = "ChaosProbe"


@dataclass(slots=True)
class Tally:
    """What a stretch of the stream came to: fingerprints, and the slowest answer in seconds."""

    offered: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    slowest: float = 0.0


class Stream:
    """Posts a delivery ten times a second with *site*'s token, from one thread."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._tally = Tally()
        self._thread = threading.Thread(target=self._run, name="stream")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; the delivery that nobody has acknowledged yet stays unacknowledged."""
        self._stopping.set()
        self._thread.join()

    def take(self) -> Tally:
        """Return what there was since the last time, and begin anew."""
        with self._lock:
            tally, self._tally = self._tally, Tally()
        return tally

    def peek(self) -> Tally:
        """Return what there was since the last time, so far."""
        return self._tally

    def more(self, count: int, within: float) -> str:
        """Wait until *count* more deliveries are acknowledged; return the last one's name."""
        tally = self._tally
        enough = len(tally.acknowledged) + count
        eventually(
            lambda: len(tally.acknowledged) >= enough, within, f"{count} more deliveries answered"
        )
        return tally.acknowledged[enough - 1]

    def _run(self) -> None:
        number = 0
        with requests.Session() as session:
            while not self._stopping.wait(_EVERY_SECONDS):
                number += 1
                self._deliver(session, f"probe-{number:07d}")

    def _deliver(self, session: requests.Session, name: str) -> None:
        with self._lock:
            self._tally.offered.append(name)
        body = body_of(name)
        while not self._stopping.is_set():
            began = time.monotonic()
            if self._post(session, body):
                with self._lock:
                    self._tally.acknowledged.append(name)
                    self._tally.slowest = max(self._tally.slowest, time.monotonic() - began)
                return
            self._stopping.wait(0.05)

    def _post(self, session: requests.Session, body: bytes) -> bool:
        headers = {
            "Authorization": f"Bearer {self._site.token}",
            "Content-Type": "application/json",
        }
        try:
            answer = session.post(self._site.webhook, data=body, headers=headers, timeout=5)
        except requests.RequestException:
            return False
        return answer.status_code == requests.codes.ok


def body_of(name: str, **labels: str) -> bytes:
    """Return a delivery of one alert that no policy rule is about."""
    alert = {
        "status": "firing",
        # Of a subject of its own each, or one incident would be decided about again and again.
        "labels": {"alertname": ALERT, "container_id": name, **labels},
        "annotations": {},
        "startsAt": "2026-01-01T00:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "fingerprint": name,
    }
    return json.dumps(
        {"version": "4", "groupKey": "{}", "receiver": "remediator", "alerts": [alert]}
    ).encode()
