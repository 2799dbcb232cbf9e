"""What people are told, as values: the text of each kind of notice.

Whatever comes from a label is cleaned here: other people chose it, and it ends up in mails, on
terminals and in logs.
"""

import enum
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from remediator.core.catalogue import Kind, offer_of
from remediator.core.durations import format_duration, humanize, in_hours
from remediator.core.lifecycle import Overstay, overstay_of
from remediator.core.policy import Option, Rung

_LONGEST_FIELD = 200
_KEEP_IT = """\
Still need it? Inside the container, run:

    touch /workspace/.keep-alive
"""
_OPEN_LINK = """
or open this page, which asks you once more:

    {url}
"""
_EXTEND_IT = """
or, where you may give commands on {host}:

    remediator extend {incident} {example}

That keeps it for up to {longest} at a time. Using the GPU, the CPU or the network again keeps it as
well."""
_EXAMPLE = timedelta(hours=4)
_SAVE_IT = """\
A keep-alive does not change this. Save your work before then, such as a checkpoint in a mounted
folder. You can start a new container at any time. If this one must go on, ask an administrator."""
_START_IT = """\
Still need it? Start it again:

    docker start {title}

What was written inside it and not to a mounted folder is lost with it; to keep some of that:

    docker cp {title}:/path/inside ."""


class NoticeKind(enum.Enum):
    """Why people are told; the values are also the ``kind`` label of a metric."""

    WARNING = "warning"
    ACTED = "acted"
    FAILED = "failed"
    RESTORED = "restored"
    ESCALATED = "escalated"
    INFORMED = "informed"
    APPROVAL_WANTED = "approval_wanted"
    BREAKER_OPENED = "breaker_opened"


@dataclass(frozen=True, slots=True)
class Letter:
    """One notice to one recipient, through one notifier."""

    kind: NoticeKind
    notifier: str
    recipient: str
    subject: str
    body: str

    @classmethod
    def of(cls, kind: str, notifier: str, recipient: str, subject: str, body: str) -> "Letter":
        """Return a letter from plain texts, as the journal keeps them."""
        return cls(NoticeKind(kind), notifier, recipient, subject, body)


@dataclass(frozen=True, slots=True)
class Notice:
    """What is to be told, before it is known to whom."""

    kind: NoticeKind
    subject: str
    body: str


@dataclass(frozen=True, slots=True)
class WayToKeep:
    """How a container is kept: for how long at a time, and by which link, if there is one."""

    longest: timedelta = timedelta(hours=24)
    url: str = ""


@dataclass(frozen=True, slots=True)
class Matter:
    """What a notice is about: the incident and its subject on a host, with the evidence."""

    incident: int
    host: str
    title: str
    owner: str | None
    alert: str
    evidence: tuple[str, ...]
    keep: WayToKeep = WayToKeep()


def warning(matter: Matter, rung: Rung, act_at: datetime, left: timedelta) -> Notice:
    """Return the notice that *rung* will be carried out, and how to prevent it."""
    what = _done(rung.remediation, rung.options)
    whose = "Your container " if _is_container(rung.remediation) else ""
    overstay = overstay_of(matter.alert) if whose else None
    over = "has reached its maximum runtime and " if overstay is Overstay.RUNTIME else ""
    return Notice(
        NoticeKind.WARNING,
        f"{clean(matter.title)} on {clean(matter.host)} will be {what} in {humanize(left)}",
        _body(
            matter,
            f"{whose}{clean(matter.title)} on {clean(matter.host)} {over}will be {what}"
            f" at {_clock(act_at)}, in {humanize(left)}.",
            _way_out(matter, overstay),
        ),
    )


def acted(matter: Matter, remediation: str, options: Mapping[str, Option], outcome: str) -> Notice:
    """Return the notice that something was done and has been verified."""
    what = _done(remediation, options)
    return Notice(
        NoticeKind.ACTED,
        f"{clean(matter.title)} on {clean(matter.host)} was {what}",
        _body(
            matter,
            f"{clean(matter.title)} on {clean(matter.host)} was {what}: {clean(outcome)}.",
            _FILES_STAY if _is_container(remediation) else _SHOW.format(matter),
        ),
    )


def failed(matter: Matter, remediation: str, message: str) -> Notice:
    """Return the notice that something was tried and did not do what it should."""
    return Notice(
        NoticeKind.FAILED,
        f"{remediation} failed for {clean(matter.title)} on {clean(matter.host)}",
        _body(
            matter, f"{remediation} did not succeed: {clean(message, 800)}.", _SHOW.format(matter)
        ),
    )


def restored(matter: Matter, remediation: str, outcome: str) -> Notice:
    """Return the notice that what a remediation did has been put back."""
    return Notice(
        NoticeKind.RESTORED,
        f"{remediation} has ended for {clean(matter.title)} on {clean(matter.host)}",
        _body(
            matter,
            f"Nothing asks for it any more, and {remediation} has ended: {clean(outcome)}.",
            _SHOW.format(matter),
        ),
    )


def escalated(matter: Matter, because: str) -> Notice:
    """Return the notice that a person has to look."""
    return Notice(
        NoticeKind.ESCALATED,
        f"{clean(matter.title)} on {clean(matter.host)} needs a person",
        _body(matter, f"Remediator has come to its end: {clean(because)}.", _SHOW.format(matter)),
    )


def approval_wanted(matter: Matter, rung: Rung, within: timedelta) -> Notice:
    """Return the question whether *rung* may be carried out."""
    name = f"{clean(matter.title)} on {clean(matter.host)}"
    return Notice(
        NoticeKind.APPROVAL_WANTED,
        f"May {name} be {_done(rung.remediation, rung.options)}?",
        _body(
            matter,
            f"{rung.remediation} of {name} waits for your approval, for {humanize(within)}."
            " Nothing is done without it.",
            f"Approve or reject it with one of:\n\n"
            f"    remediator approve {matter.incident}\n"
            f'    remediator reject {matter.incident} "why not"',
        ),
    )


def breaker_opened(matter: Matter, because: str) -> Notice:
    """Return the notice that nothing destructive is done any more until a person has looked."""
    return Notice(
        NoticeKind.BREAKER_OPENED,
        f"The breaker on {clean(matter.host)} is open: nothing is stopped any more",
        _body(
            matter,
            f"{clean(because)}. Nothing destructive is done on {clean(matter.host)} until"
            " somebody closes the breaker; people are still told.",
            "See what was done, and close it when you are content:\n\n"
            "    remediator incidents list\n"
            '    remediator close-breaker "what you found"',
        ),
    )


def informed(matter: Matter, summary: str, *, keepable: bool = False) -> Notice:
    """Return the notice of a remediation that on purpose only tells people.

    *keepable* says that it is about a container, which its owner can keep.
    """
    return Notice(
        NoticeKind.INFORMED,
        f"{clean(matter.alert)}: {clean(matter.title)} on {clean(matter.host)}",
        _body(
            matter,
            clean(summary, 400) or f"{clean(matter.alert)} fires.",
            how_to_keep(matter) if keepable else _SHOW.format(matter),
        ),
    )


def clean(text: str, longest: int = _LONGEST_FIELD) -> str:
    """Return *text* on one line, without control or direction marks, and not too long."""
    kept = "".join(
        " " if character in "\n\r\t" else character
        for character in text[: longest * 4]
        if character in "\n\r\t" or unicodedata.category(character)[0] != "C"
    )
    kept = " ".join(kept.split())
    return kept if len(kept) <= longest else kept[: longest - 1] + "…"


def _done(remediation: str, options: Mapping[str, Option]) -> str:
    """Return the participle for what a remediation does."""
    done = offer_of(remediation).done
    removes = remediation == "stop-container" and options.get("remove", True)
    return f"{done} and removed" if removes else done


def _way_out(matter: Matter, overstay: Overstay | None) -> str:
    """Return what the owner of a container can do before something is done to it."""
    match overstay:
        case Overstay.IDLE:
            return how_to_keep(matter)
        case Overstay.RUNTIME:
            return _SAVE_IT
        case Overstay.NEVER_STARTED | Overstay.STOPPED:
            return _START_IT.format(title=clean(matter.title))
        case None:
            return _SHOW.format(matter)
        case _:
            assert_never(overstay)


def how_to_keep(matter: Matter) -> str:
    """Return what the owner of a container can do so that it is not stopped for being idle."""
    link = _OPEN_LINK.format(url=matter.keep.url) if matter.keep.url else ""
    command = _EXTEND_IT.format(
        host=clean(matter.host),
        incident=matter.incident,
        example=format_duration(min(_EXAMPLE, matter.keep.longest)),
        longest=in_hours(matter.keep.longest),
    )
    return f"{_KEEP_IT}{link}{command}"


def _is_container(remediation: str) -> bool:
    return offer_of(remediation).kind is Kind.CONTAINER


_FILES_STAY = "Files in mounted folders are untouched. You can start a new container at any time."
_SHOW = "See everything it knows and did with:\n\n    remediator incidents show {0.incident}"


def _body(matter: Matter, what: str, then: str) -> str:
    evidence = "\n".join(f"  - {clean(line, 400)}" for line in matter.evidence)
    why = f"Why: {clean(matter.alert)}\n{evidence}" if evidence else f"Why: {clean(matter.alert)}"
    return (
        f"{what}\n\n{why}\n\n{then}\n\n-- \nRemediator on {clean(matter.host)},"
        f" incident {matter.incident}\n"
    )


def _clock(at: datetime) -> str:
    return at.astimezone().strftime("%H:%M:%S %Z on %d %B %Y")
