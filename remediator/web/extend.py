"""The page behind the link in a notice: keep one container for a while, by one more click.

Mail scanners and browsers fetch links ahead, so a GET changes nothing, and whoever has the link
needs no login. All that is done here is to ask the worker, which decides.
"""

import json
import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta

from flask import Blueprint, Response, redirect, render_template, request
from werkzeug.wrappers import Response as AnyResponse

from remediator.clock import Clock
from remediator.core.durations import format_duration, in_hours
from remediator.core.extensions import Extension, Via, clock_of
from remediator.core.notices import clean
from remediator.errors import InboxError, JournalError, SetupError
from remediator.inbox.store import Inbox
from remediator.journal.journal import Journal
from remediator.journal.operations import CommandRecord
from remediator.keep_links import ForgedError, KeepLink, LinkKey
from remediator.web.allowance import Allowance

log = logging.getLogger(__name__)

_FORM_LASTS = timedelta(hours=1)
_LONGEST_NUMBER = 18
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none';"
    " form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
    # The link is all that is needed: it must not be told to whoever is linked to from here.
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class ExtendParts:
    """What the page is made of; *ring* wakes the worker."""

    key: LinkKey
    inbox: Inbox
    journal: Callable[[], Journal]
    ring: Callable[[], None]
    clock: Clock


@dataclass(frozen=True, slots=True)
class _Known:
    """What the journal knows about the container of a link."""

    name: str = ""
    owner: str = ""
    kept: Extension | None = None
    answer: CommandRecord | None = None


class _RefusedError(Exception):
    """This request leads nowhere."""

    def __init__(self, status: int, title: str, why: str) -> None:
        super().__init__(why)
        self.status, self.title, self.why = status, title, why


def make_extend(parts: ExtendParts) -> Blueprint:
    """Return the page; nobody has to log in to it."""
    pages = Blueprint(
        "extend",
        __name__,
        template_folder="templates",
        static_folder="static",
        static_url_path="/extend/static",
    )
    view = _Extend(parts)
    pages.add_url_rule("/extend", view_func=view.show, methods=["GET"])
    pages.add_url_rule("/extend", endpoint="keep", view_func=view.keep, methods=["POST"])
    pages.register_error_handler(_RefusedError, _refused)
    pages.register_error_handler(SetupError, _without_key)
    pages.after_request(_with_headers)
    return pages


class _Extend:
    def __init__(self, parts: ExtendParts) -> None:
        self._parts = parts
        self._forgeries = Allowance(most=30, per=timedelta(minutes=1))
        self._wishes = Allowance(most=6, per=timedelta(minutes=1))

    def show(self) -> Response:
        """Answer what the link is about, and the one button; or what came of the wish."""
        text, link = self._link()
        number = _number(request.args.get("n", ""))
        known = self._known(link, number)
        waits = number > 0 and known.answer is None
        now = self._parts.clock.now()
        is_kept = known.kept is not None and known.kept.holds_at(now)
        return _page(
            200,
            link=link,
            known=known,
            is_kept=is_kept,
            waits=waits,
            until=clock_of(known.kept.until) if is_kept and known.kept else "",
            longest=in_hours(link.longest),
            expires=clock_of(link.expires_at),
            action=f"?k={text}&f={self._parts.key.sign_form(text, now + _FORM_LASTS)}",
        )

    def keep(self) -> AnyResponse:
        """Ask the worker to keep the container, and lead to where its answer is shown."""
        text, link = self._link()
        now = self._parts.clock.now()
        if not self._parts.key.accepts_form(text, request.args.get("f", ""), now):
            raise _RefusedError(
                403, "Not done", "This form is too old: open the link in the mail once more."
            )
        if not self._wishes.allows(link.container, now):
            raise _RefusedError(429, "Too often", "Wait a minute before you try again.")
        try:
            number = self._parts.inbox.give(_command(link), self._actor(link), now)
        except InboxError:
            log.exception("a wish to keep a container could not be stored")
            why = "Nothing could be stored. Run touch /workspace/.keep-alive in the container."
            raise _RefusedError(503, "Not done", why) from None
        self._parts.ring()
        # Relative, so that it is right behind a proxy with a prefix as well.
        return redirect(f"?k={text}&n={number}", 303)

    def _link(self) -> tuple[str, KeepLink]:
        """Return the link as it was given and what it permits."""
        text = request.args.get("k", "")
        now = self._parts.clock.now()
        try:
            link = self._parts.key.verify(text)
        except ForgedError:
            if not self._forgeries.allows("", now):
                raise _RefusedError(429, "Too often", "Wait a minute.") from None
            log.warning("a link that is none of ours, from %s", request.remote_addr)
            why = "This link is not whole, or not ours. Copy all of it from the mail."
            raise _RefusedError(403, "Not a valid link", why) from None
        if now > link.expires_at:
            why = f"It was good until {clock_of(link.expires_at)}. A newer mail has a newer link."
            raise _RefusedError(410, "This link is over", why)
        return text, link

    def _known(self, link: KeepLink, number: int) -> _Known:
        try:
            with closing(self._parts.journal()) as journal:
                incident = journal.incidents.incident(link.incident)
                if incident is None or incident.subject != f"container:{link.container}":
                    return _Known()
                answer = journal.operations.answer_to(self._parts.inbox.identity(), number)
                is_ours = answer and answer.argument.get("container") == link.container
                return _Known(
                    name=incident.title,
                    owner=incident.owner or "",
                    kept=journal.extensions.last(link.container, link.started_at),
                    answer=answer if is_ours else None,
                )
        except (JournalError, InboxError) as error:
            log.warning("the page to keep a container shows less: %s", error)
            return _Known()

    def _actor(self, link: KeepLink) -> str:
        return self._known(link, 0).owner or "somebody"


def _command(link: KeepLink) -> bytes:
    command = {
        "action": "extend",
        "container": link.container,
        "incident": link.incident,
        "duration": format_duration(link.longest),
        "via": Via.LINK.value,
    }
    if link.started_at is not None:
        command["started_at"] = link.started_at.isoformat()
    return json.dumps(command).encode()


def _number(text: str) -> int:
    good = text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER
    return int(text) if good else 0


def _page(status: int, **values: object) -> Response:
    return Response(render_template("extend.html", short=_short, **values), status)


def _short(text: object) -> str:
    return clean(str(text), 300)


def _refused(error: Exception) -> Response:
    if not isinstance(error, _RefusedError):
        raise error
    return _page(error.status, title=error.title, why=error.why)


def _without_key(error: Exception) -> Response:
    log.error("no link can be followed: %s", error)
    why = "Links cannot be followed at the moment. Run touch /workspace/.keep-alive instead."
    return _page(503, title="Not available", why=why)


def _with_headers(answer: Response) -> Response:
    answer.headers.update(_HEADERS)
    return answer
