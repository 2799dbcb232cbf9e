"""The page: what happened and why, what waits, and forms that give the worker commands."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from flask import Blueprint, Response, g, redirect, render_template, request, url_for

from remediator.clock import Clock
from remediator.core.commands import Action
from remediator.core.months import month_of
from remediator.core.report import Report
from remediator.errors import InboxError, JournalError, ReportError
from remediator.journal.search import Query
from remediator.reports.file import html_of
from remediator.reports.tables import assumptions, remarks, tables
from remediator.web import shapes
from remediator.web.asking import NAMES, local_path, month_in, number_of, query_of
from remediator.web.commands import Commands
from remediator.web.drawing import bars_of, moment_text, percent_of, span_text
from remediator.web.facts import Facts
from remediator.web.gate import FOREIGN_FORM, Gate, Refusal, visitor
from remediator.web.gpu_watch import GpuWatch
from remediator.web.sessions import Sessions

PER_PAGE = 50
DAYS = 14
_OPEN_AT_ONCE = 25
_ACTIONS = 15
# With its script the page renews itself sooner, and keeps what was typed.
_REFRESH_SECONDS = 30
_PATIENCE_SECONDS = 5
_OPEN_TO_ALL = frozenset({"pages.log_in", "pages.take_login", "pages.static"})
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self';"
    " img-src 'self'; connect-src 'self'; form-action 'self'; frame-ancestors 'none';"
    " base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class PageParts:
    """What the page and the API are made of."""

    host: str
    facts: Facts
    gpus: GpuWatch
    commands: Commands
    gate: Gate
    sessions: Sessions
    clock: Clock


def make_pages(parts: PageParts) -> Blueprint:
    """Return the pages."""
    pages = Blueprint("pages", __name__, template_folder="templates", static_folder="static")
    views = _Pages(parts)
    pages.before_request(views.admit)
    pages.after_request(with_headers)
    pages.add_url_rule("/", view_func=views.overview)
    pages.add_url_rule("/incidents", view_func=views.incidents)
    pages.add_url_rule("/incidents/<int:number>", view_func=views.incident)
    pages.add_url_rule("/report", view_func=views.report)
    pages.add_url_rule("/report/file", view_func=views.report_file)
    pages.add_url_rule("/login", view_func=views.log_in)
    pages.add_url_rule("/login", view_func=views.take_login, methods=["POST"])
    pages.add_url_rule("/logout", view_func=views.log_out, methods=["POST"])
    pages.add_url_rule("/commands", view_func=views.command, methods=["POST"])
    pages.app_template_filter("span")(span_text)
    pages.app_template_filter("at")(lambda at: moment_text(at, parts.clock.now()))
    pages.app_template_global("percent_of")(percent_of)
    pages.app_template_global("now")(parts.clock.now)
    return pages


class _Pages:
    def __init__(self, parts: PageParts) -> None:
        self._parts = parts
        self._facts = parts.facts

    def admit(self) -> Response | None:
        """Let in who may look; a stranger is asked to log in."""
        if request.endpoint in _OPEN_TO_ALL:
            return None
        refusal = self._parts.gate.admit(request)
        if refusal is None:
            return None
        if refusal.status == 401 and request.method == "GET":  # noqa: PLR2004 - a status
            if request.headers.get("Sec-Fetch-Site") == "cross-site":
                # From another site, such as a mail read in the browser, the cookie does not come
                # along. From a page of ours it does, if there is one.
                return Response(render_template("onward.html"))
            here = request.full_path if request.query_string else request.path
            return _to(url_for("pages.log_in", next=here))
        return self._refused(refusal)

    def overview(self) -> Response:
        """Answer the first page: the GPUs, what is open, what waits, what was done."""
        gpus = self._parts.gpus.newest()
        try:
            overview = shapes.Overview(
                state=self._facts.state(),
                approvals=self._facts.approvals().approvals,
                gpus=gpus,
                incidents=self._facts.incidents(Query(state="open"), _OPEN_AT_ONCE).incidents,
                actions=self._facts.actions(_ACTIONS).actions,
                returned=self._facts.returned(DAYS),
            )
        except JournalError as error:
            return self._page("waiting.html", 503, problem=str(error), gpus=gpus)
        bars = bars_of(overview.returned.days)
        instances = {gpu.instance for gpu in gpus.gpus}
        return self._page("overview.html", bars=bars, it=overview, hosts=len(instances))

    def incidents(self) -> Response:
        """Answer the incidents that are searched for, a page at a time."""
        asked = {name: request.args.get(name, "") for name in ("q", "state", "since", "until")}
        asked |= {name: request.args.get(name, "") for name in NAMES}
        try:
            found = self._facts.incidents(query_of(request.args), PER_PAGE)
        except ValueError as error:
            nothing = shapes.Incidents((), None)
            return self._page("incidents.html", 400, asked=asked, it=nothing, problem=str(error))
        except JournalError as error:
            return self._page("waiting.html", 503, problem=str(error), gpus=None)
        words = {name: text for name, text in asked.items() if text}
        older = f"?{urlencode({**words, 'before': found.next})}" if found.next else None
        newest = f"?{urlencode(words)}" if request.args.get("before") else None
        return self._page(
            "incidents.html", asked=asked, it=found, older=older, newest=newest, problem=None
        )

    def incident(self, number: int) -> Response:
        """Answer one incident with its story."""
        try:
            story = self._facts.story(number) if number < 2**63 else None
        except JournalError as error:
            return self._page("waiting.html", 503, problem=str(error), gpus=None)
        if story is None:
            return self._refused(Refusal(404, f"there is no incident {number}"))
        return self._page("incident.html", it=story)

    def report(self) -> Response:
        """Answer what a month brought."""
        found = self._report()
        if isinstance(found, Response):
            return found
        month = month_of(found.since)
        return self._page(
            "report.html",
            it=found,
            bars=bars_of(found.days),
            tables=tables(found),
            remarks=remarks(found),
            assumptions=assumptions(),
            month=month,
            has_before=found.journal_since < month.begin,
        )

    def report_file(self) -> Response:
        """Answer the same as one file, to be kept or sent."""
        found = self._report()
        if isinstance(found, Response):
            return found
        answer = Response(html_of(found))
        name = f"remediator-{found.figures.month}.html"
        answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return answer

    def _report(self) -> Report | Response:
        try:
            return self._facts.report(month_in(request.args))
        except ValueError as error:
            return self._refused(Refusal(400, str(error)))
        except ReportError as error:
            newest = f"{month_of(self._parts.clock.now())}"
            return self._page("no_report.html", 404, says=str(error), newest=newest)
        except JournalError as error:
            return self._page("waiting.html", 503, problem=str(error), gpus=None)

    def log_in(self, refusal: Refusal | None = None, name: str = "") -> Response:
        """Answer the form to log in with."""
        answer = self._page(
            "login.html",
            refusal.status if refusal else 200,
            has_names=self._parts.gate.has_names,
            name=name[:64],
            next=local_path(request.values.get("next", "/")),
            problem=refusal.says if refusal else None,
        )
        if refusal is not None and refusal.retry_after:
            answer.headers["Retry-After"] = str(refusal.retry_after)
        return answer

    def take_login(self) -> Response:
        """Log somebody in, and go on to where they wanted to."""
        name = request.form.get("name", "").strip()
        if not self._parts.sessions.is_own_form(request.form.get("form", "")):
            return self.log_in(FOREIGN_FORM, name)
        refusal = self._parts.gate.log_in(request, name, request.form.get("password", ""))
        if refusal is not None:
            return self.log_in(refusal, name)
        return _to(local_path(request.form.get("next", "/")))

    def log_out(self) -> Response:
        """End the session."""
        if visitor().by_browser and not self._parts.sessions.is_own_form(
            request.form.get("form", "")
        ):
            return self._refused(FOREIGN_FORM)
        self._parts.sessions.end()
        return _to(url_for("pages.log_in"))

    def command(self) -> Response:
        """Give the worker a command, and go back to where its answer is shown."""
        refusal = self._parts.gate.admit_command(request, request.form.get("form", ""))
        if refusal is not None:
            return self._refused(refusal)
        try:
            given = self._parts.commands.give(_order(request.form), f"{visitor().name} (page)")
        except ValueError as error:
            return self._refused(Refusal(400, str(error)))
        except InboxError:
            return self._refused(Refusal(503, "the inbox cannot be written: nothing was commanded"))
        back = local_path(request.form.get("next", "/"))
        return _to(f"{back}?{urlencode({'command': given.number})}")

    def _refused(self, refusal: Refusal) -> Response:
        return self._page("refused.html", refusal.status, says=refusal.says)

    def _page(self, template: str, status: int = 200, **values: object) -> Response:
        """Answer a page; one with a command in its address tells what became of it."""
        is_in = "visitor" in g
        body = render_template(
            template,
            host=self._parts.host,
            visitor=visitor() if is_in else None,
            form=self._parts.sessions.form_token() if is_in or template == "login.html" else "",
            told=self._told() if is_in else None,
            path=request.path,
            is_still="still" in request.args,
            turned=_turned(),
            refresh=_REFRESH_SECONDS,
            **values,
        )
        return Response(body, status)

    def _told(self) -> Mapping[str, object] | None:
        """Return what is to be said of the command that has just been given."""
        try:
            number = number_of(request.args, "command")
            command = self._parts.commands.look(number) if number else None
        except (ValueError, InboxError):
            return None
        if command is None:
            return None
        waited = 0.0
        if command.given_at is not None:
            waited = (self._parts.clock.now() - command.given_at).total_seconds()
        return {"command": command, "is_late": waited > _PATIENCE_SECONDS}


def _turned() -> str:
    """Return the address of this page standing still, or renewing itself where it stands still."""
    words = {name: text for name, text in request.args.items() if name not in {"still", "command"}}
    if "still" not in request.args:
        words["still"] = "yes"
    return f"{request.path}?{urlencode(words)}" if words else request.path


def _order(form: Mapping[str, str]) -> shapes.Order:
    action = form.get("action", "")
    if action not in {known.value for known in Action}:
        raise ValueError("there is no such command")
    return shapes.Order(
        action=action,  # type: ignore[arg-type]  # one of them, as has just been seen
        reason=form.get("reason", ""),
        incident=number_of(form, "incident"),
        question=number_of(form, "question"),
        container=form.get("container", ""),
        duration=form.get("duration", ""),
    )


def _to(path: str) -> Response:
    """Answer that the browser should go there; 303, so that it never sends a form twice."""
    answer: Response = redirect(path, 303)  # type: ignore[assignment]  # flask's own class
    return answer


def with_headers(answer: Response) -> Response:
    """Add what keeps others from framing, sniffing, keeping or scripting an answer."""
    answer.headers.update(HEADERS)
    return answer
