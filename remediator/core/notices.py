"""What people are told, as values: the kind of each notice, and the facts its text is made of.

The words are templates (`remediator.notifiers.wording`), which a site may replace. Whatever comes
from a label is cleaned here: other people chose it, and it ends up in mails, on terminals and in
logs.
"""

import enum
import shlex
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
_MOST_EVIDENCE = 20
# How long a notice that is nobody's hurry may wait for others of its kind; and a warning, as a
# part of its notice period.
_PATIENCE = timedelta(seconds=30)
_PART_OF_NOTICE = 20
# What a command that keeps a container asks for, where that much is allowed.
_EXAMPLE = timedelta(hours=4)

Fact = str | int | bool | tuple[str, ...]


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


class WayOut(enum.Enum):
    """What the reader can do about a notice; the values are for templates."""

    KEEP = "keep"
    SAVE = "save"
    START = "start"
    SHOW = "show"


@dataclass(frozen=True, slots=True)
class Letter:
    """One notice to one recipient, through one notifier.

    ``why`` and ``advice`` are its reason and its way out in a line each, for a digest; for
    ``patience`` it may wait for others of its kind, and without any it is never part of a digest.
    """

    kind: NoticeKind
    notifier: str
    recipient: str
    subject: str
    body: str
    html: str = ""
    why: str = ""
    advice: str = ""
    patience: timedelta = timedelta()


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


@dataclass(frozen=True, slots=True)
class Notice:
    """What is to be told, before it is known to whom and in which words.

    ``own`` are the facts that only this kind has; ``advice`` is the one thing to do about it.
    """

    kind: NoticeKind
    matter: Matter
    own: Mapping[str, Fact]
    advice: str
    patience: timedelta = timedelta()

    @property
    def facts(self) -> dict[str, Fact]:
        """Everything a template may name, cleaned: no text of a label starts a line."""
        matter = self.matter
        lines = matter.evidence[:_MOST_EVIDENCE]
        longest = matter.keep.longest
        return {
            "kind": self.kind.value,
            "host": clean(matter.host),
            "incident": matter.incident,
            "title": clean(matter.title),
            "owner": clean(matter.owner or ""),
            "alert": clean(matter.alert),
            "evidence": tuple(clean(line, 400) for line in lines),
            "keep_url": matter.keep.url,
            "keep_longest": in_hours(longest),
            "keep_example": format_duration(min(_EXAMPLE, longest)),
            **self.own,
        }

    @property
    def why(self) -> str:
        """The reason in one line."""
        first = self.matter.evidence[:1]
        return clean(": ".join((self.matter.alert, *first)), 400)


@dataclass(frozen=True, slots=True)
class DigestRule:
    """So many notices of one kind that wait together go as one; they wait no longer than that."""

    at_least: int = 3
    within: timedelta = _PATIENCE


@dataclass(frozen=True, slots=True)
class Text:
    """A notice in words: one line, plain text of whole lines, and the same as HTML."""

    subject: str
    body: str
    html: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One notice of a digest: when it was made, and what it said in a line each."""

    at: datetime
    subject: str
    why: str
    advice: str
    incident: int | None


@dataclass(frozen=True, slots=True)
class Digest:
    """Notices of one kind to one recipient that are told as one."""

    kind: NoticeKind
    host: str
    entries: tuple[Entry, ...]


def warning(matter: Matter, rung: Rung, act_at: datetime, left: timedelta) -> Notice:
    """Return the notice that *rung* will be carried out, and how to prevent it."""
    is_container = _is_container(rung.remediation)
    overstay = overstay_of(matter.alert) if is_container else None
    way_out = _way_out(overstay)
    own: dict[str, Fact] = {
        "done": _done(rung.remediation, rung.options),
        "at": _clock(act_at),
        "left": humanize(left),
        "is_container": is_container,
        "over_runtime": overstay is Overstay.RUNTIME,
        "way_out": way_out.value,
    }
    patience = min(_PATIENCE, left / _PART_OF_NOTICE)
    return Notice(NoticeKind.WARNING, matter, own, _advice(matter, way_out), patience)


def acted(matter: Matter, remediation: str, options: Mapping[str, Option], outcome: str) -> Notice:
    """Return the notice that something was done and has been verified."""
    own: dict[str, Fact] = {
        "done": _done(remediation, options),
        "outcome": clean(outcome),
        "is_container": _is_container(remediation),
    }
    return Notice(NoticeKind.ACTED, matter, own, _show(matter), _PATIENCE)


def failed(matter: Matter, remediation: str, message: str) -> Notice:
    """Return the notice that something was tried and did not do what it should."""
    own: dict[str, Fact] = {"remediation": remediation, "message": clean(message, 800)}
    return Notice(NoticeKind.FAILED, matter, own, _show(matter))


def restored(matter: Matter, remediation: str, outcome: str) -> Notice:
    """Return the notice that what a remediation did has been put back."""
    own: dict[str, Fact] = {"remediation": remediation, "outcome": clean(outcome)}
    return Notice(NoticeKind.RESTORED, matter, own, _show(matter), _PATIENCE)


def escalated(matter: Matter, because: str) -> Notice:
    """Return the notice that a person has to look."""
    return Notice(NoticeKind.ESCALATED, matter, {"because": clean(because)}, _show(matter))


def approval_wanted(matter: Matter, rung: Rung, within: timedelta) -> Notice:
    """Return the question whether *rung* may be carried out, which waits for *within*."""
    own: dict[str, Fact] = {
        "done": _done(rung.remediation, rung.options),
        "remediation": rung.remediation,
        "within": humanize(within),
    }
    advice = f"remediator approve {matter.incident}"
    return Notice(NoticeKind.APPROVAL_WANTED, matter, own, advice)


def breaker_opened(matter: Matter, because: str) -> Notice:
    """Return the notice that nothing destructive is done any more until a person has looked."""
    own: dict[str, Fact] = {"because": clean(because)}
    return Notice(NoticeKind.BREAKER_OPENED, matter, own, "remediator incidents list")


def informed(matter: Matter, summary: str, *, keepable: bool = False) -> Notice:
    """Return the notice of a remediation that on purpose only tells people.

    *keepable* says that it is about a container, which its owner can keep.
    """
    own: dict[str, Fact] = {"summary": clean(summary, 400), "keepable": keepable}
    advice = _advice(matter, WayOut.KEEP if keepable else WayOut.SHOW)
    return Notice(NoticeKind.INFORMED, matter, own, advice, _PATIENCE)


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


def _way_out(overstay: Overstay | None) -> WayOut:
    """Return what the owner of a container can do before something is done to it."""
    match overstay:
        case Overstay.IDLE:
            return WayOut.KEEP
        case Overstay.RUNTIME:
            return WayOut.SAVE
        case Overstay.NEVER_STARTED | Overstay.STOPPED:
            return WayOut.START
        case None:
            return WayOut.SHOW
        case _:
            assert_never(overstay)


def _advice(matter: Matter, way_out: WayOut) -> str:
    match way_out:
        case WayOut.KEEP:
            return matter.keep.url or "touch /workspace/.keep-alive"
        case WayOut.SAVE:
            return "save your work"
        case WayOut.START:
            # To be pasted into a shell, as it stands there.
            return f"docker start {shlex.quote(clean(matter.title))}"
        case WayOut.SHOW:
            return _show(matter)
        case _:
            assert_never(way_out)


def _show(matter: Matter) -> str:
    return f"remediator incidents show {matter.incident}"


def _is_container(remediation: str) -> bool:
    return offer_of(remediation).kind is Kind.CONTAINER


def _clock(at: datetime) -> str:
    return at.astimezone().strftime("%H:%M:%S %Z on %d %B %Y")
