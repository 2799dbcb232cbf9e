"""Invented notices of every kind: templates are tried with them, and a preview shows them."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from remediator.core import notices
from remediator.core.notices import Digest, Entry, Matter, Notice, NoticeKind, WayToKeep
from remediator.core.policy import Rung
from remediator.notifiers.facts import Content, kind_of

_AT = datetime(2026, 3, 1, 14, 30, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)
_STOP, _REMOVE, _RESET = Rung("stop-container"), Rung("remove-container"), Rung("reset-gpu")
_LINK = "https://gpu1.example.org/extend/4f1c09ab77de?until=1772377200&signature=0f3b"


@dataclass(frozen=True, slots=True)
class Sample:
    """One invented notice, or a digest of some; ``name`` says which case it shows."""

    name: str
    content: Content

    @property
    def kind(self) -> str:
        """The first part of the names of its templates."""
        return kind_of(self.content)


def _idle(title: str = "train-resnet", incident: int = 42, alert: str = "") -> Matter:
    evidence = (
        "prometheus: fires since 14:00:10: idle for 31 min, and its limit is 30 min",
        f"docker: {title} of alice runs since 08:12:45",
        "nvml: GPU 0 is at 0 %, and no process of it is there",
    )
    return Matter(incident, "gpu1", title, "alice", alert or "DS01ContainerIdle", evidence)


_GPU = Matter(
    incident=43,
    host="gpu1",
    title="GPU-8f3a1c52-77d0-4b1e-9c7a-2f6d40e1b7aa",
    owner=None,
    alert="DS01GPUNeedsReset",
    evidence=("nvml: the driver asks for a reset of GPU 3", "proc: nobody holds GPU 3"),
)


def _digest() -> Digest:
    names = ("train-resnet", "llama-finetune", "jupyter-7", "sweep-12")
    entries = tuple(
        Entry(
            at=_AT + number * timedelta(seconds=7),
            subject=f"{name} on gpu1 was stopped and removed",
            why=notices.acted(_idle(name, 42 + number), "stop-container", {}, "x").why,
            advice=f"remediator incidents show {42 + number}",
            incident=42 + number,
        )
        for number, name in enumerate(names)
    )
    return Digest(NoticeKind.ACTED, "gpu1", entries)


def _warning(alert: str, rung: Rung = _STOP, link: str = "") -> Notice:
    matter = replace(_idle(alert=alert), keep=WayToKeep(url=link))
    return notices.warning(matter, rung, _AT, 5 * _MINUTE)


SAMPLES: tuple[Sample, ...] = (
    Sample("an idle container", _warning("DS01ContainerIdle", link=_LINK)),
    Sample("an idle container, without a link", _warning("DS01ContainerIdle")),
    Sample("a container that runs too long", _warning("DS01ContainerMaxRuntime")),
    Sample("a container that never ran", _warning("DS01ContainerNeverStarted", _REMOVE)),
    Sample("a GPU", notices.warning(_GPU, _RESET, _AT, 5 * _MINUTE)),
    Sample(
        "a container",
        notices.acted(
            _idle(), "stop-container", {}, "it ended by itself after 2 s; the container is gone"
        ),
    ),
    Sample("a GPU", notices.acted(_GPU, "reset-gpu", {}, "GPU 3 was reset and is well")),
    Sample(
        "a container",
        notices.failed(_idle(), "stop-container", "dockerd did not answer within 10 s"),
    ),
    Sample("a hot GPU", notices.restored(_GPU, "cap-power", "its limit is 700 W again")),
    Sample("a GPU", notices.escalated(_GPU, "1 attempt of reset-gpu within 24 h has failed")),
    Sample("a container", notices.informed(_idle(), "It is stopped in 10 min", keepable=True)),
    Sample("a GPU", notices.informed(_GPU, "")),
    Sample("a GPU", notices.approval_wanted(_GPU, _RESET, 240 * _MINUTE)),
    Sample("a host", notices.breaker_opened(_idle(), "10 destructive attempts within 1 h")),
    Sample("stops of several containers", _digest()),
)
