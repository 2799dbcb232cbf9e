"""What a template may name: the facts of a notice or a digest, cleaned of all that is hostile."""

from collections.abc import Mapping
from datetime import datetime

from remediator.core.notices import Digest, Entry, Notice, clean
from remediator.notifiers.blocks import blocks

DIGEST = "digest"
Content = Notice | Digest


def kind_of(content: Content) -> str:
    """Return the first part of the names of the templates for *content*."""
    return content.kind.value if isinstance(content, Notice) else DIGEST


def facts_of(content: Content) -> dict[str, object]:
    """Return what the templates of a subject and of a plain text may name."""
    return dict(content.facts) if isinstance(content, Notice) else _of_digest(content)


def facts_for_html(content: Content, subject: str, body: str) -> dict[str, object]:
    """Return what the template of an HTML text may name: the texts that were made as well."""
    return {**facts_of(content), "subject": subject, "blocks": blocks(body)}


def _of_digest(digest: Digest) -> dict[str, object]:
    entries = digest.entries
    return {
        "kind": digest.kind.value,
        "host": clean(digest.host),
        "count": len(entries),
        "first": _time(min(entry.at for entry in entries)),
        "last": _time(max(entry.at for entry in entries)),
        "entries": tuple(_entry(entry) for entry in entries),
    }


def _entry(entry: Entry) -> Mapping[str, object]:
    return {
        "at": _time(entry.at),
        "subject": clean(entry.subject),
        "why": clean(entry.why, 400),
        "advice": clean(entry.advice, 400),
        "incident": entry.incident,
    }


def _time(at: datetime) -> str:
    return f"{at.astimezone():%H:%M:%S}"
