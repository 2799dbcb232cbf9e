"""The receiver: takes deliveries, and answers only when they are on the disk.

Alertmanager retries at once on 5xx, and on any other failure waits for the group's next flush.
Our own trouble is therefore always 503, never 429.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus

from flask import Flask, Response, request
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from remediator.clock import Clock
from remediator.config.page import PageSettings
from remediator.core.alerts import Alert, Delivery
from remediator.core.policy import Policy
from remediator.core.targets import subject_of
from remediator.errors import ConfigError, InboxError, SetupError
from remediator.inbox.store import Inbox
from remediator.journal.journal import Journal
from remediator.keep_links import LinkKey
from remediator.metrics import ReceiverMetrics
from remediator.payload import parse_delivery
from remediator.web.api import make_api
from remediator.web.auth import DELIVERIES, LARGEST_FORM, TokenFile
from remediator.web.commands import Commands
from remediator.web.extend import ExtendParts, make_extend
from remediator.web.facts import Facts
from remediator.web.gate import Gate
from remediator.web.gpu_watch import GpuWatch
from remediator.web.pages import PageParts, make_pages
from remediator.web.prometheus import Sample
from remediator.web.proxies import Proxies
from remediator.web.sessions import Sessions, set_up_sessions
from remediator.web.taking import Offer, Reply, Taking
from remediator.web.throttle import Throttle
from remediator.web.visitors import Visitors


@dataclass(frozen=True, slots=True)
class ReceiverParts:
    """What the receiver is made of.

    ``token`` is None where only this machine can reach it, ``link_key`` where there are no links.
    """

    inbox: Inbox
    token: TokenFile | None
    journal: Callable[[], Journal]
    policy: Callable[[], Policy]
    ring: Callable[[], None]
    metrics: ReceiverMetrics
    clock: Clock
    largest_body: int
    host: str
    page: PageSettings
    session_key: bytes
    ask_prometheus: Callable[..., list[Sample]]
    link_key: LinkKey | None = None


def create_app(parts: ReceiverParts, taking: Taking | None = None) -> Flask:
    """Return the WSGI application of the receiver; *taking* takes deliveries without it as well."""
    app = Flask("remediator", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = parts.largest_body
    receiver = _Receiver(parts, taking or _taking_of(parts))
    app.add_url_rule(
        DELIVERIES,
        view_func=receiver.deliver,
        methods=["POST"],
        provide_automatic_options=False,
    )
    app.add_url_rule("/-/healthy", view_func=_healthy)
    app.add_url_rule("/-/ready", view_func=receiver.ready)
    app.add_url_rule("/metrics", view_func=receiver.expose)
    app.register_error_handler(HTTPException, _refused)
    app.before_request(_limit_forms)
    page = _page_parts(app, parts)
    app.register_blueprint(make_pages(page))
    app.register_blueprint(make_api(page))
    if parts.link_key is not None:
        extend = ExtendParts(parts.link_key, parts.inbox, parts.journal, parts.ring, parts.clock)
        app.register_blueprint(make_extend(extend))
    return app


def _taking_of(parts: ReceiverParts) -> Taking:
    return Taking(
        parts.inbox, parts.token, parts.ring, parts.metrics, parts.clock, parts.largest_body
    )


def _page_parts(app: Flask, parts: ReceiverParts) -> PageParts:
    proxies = Proxies(parts.page)
    set_up_sessions(app, parts.session_key, parts.page.session, proxies)
    sessions = Sessions(parts.session_key, parts.page.session)
    visitors = Visitors(parts.page, parts.token, proxies, sessions)
    facts = Facts(parts.host, parts.journal, parts.policy, parts.clock)
    return PageParts(
        host=parts.host,
        facts=facts,
        gpus=GpuWatch(parts.ask_prometheus, parts.clock),
        commands=Commands(parts.inbox, facts, parts.ring, parts.clock),
        gate=Gate(visitors, sessions, proxies, Throttle()),
        sessions=sessions,
        clock=parts.clock,
    )


class _Receiver:
    def __init__(self, parts: ReceiverParts, taking: Taking) -> None:
        self._parts = parts
        self._taking = taking

    def deliver(self) -> Response:
        """Store a delivery; 200 means that it is on the disk."""
        headers = {name.upper(): value for name, value in request.headers}
        head = Offer(b"", request.remote_addr or "", headers)
        refusal = self._taking.unwelcome(head)
        if refusal is not None:
            return _replied(refusal)
        try:
            offer = replace(head, body=request.get_data(cache=False))
        except RequestEntityTooLarge:
            return _replied(self._taking.too_large())
        reply = self._taking.malformed(offer) or self._taking.store([offer])[0]
        if reply.status == HTTPStatus.OK and "explain" in request.args:
            return self._explain(reply, parse_delivery(offer.body))
        return _replied(reply)

    def ready(self) -> Response:
        """Answer 200 when a delivery could be taken now."""
        try:
            newest = self._parts.inbox.newest()
            if self._parts.token is not None:
                self._parts.token.read()
        except (InboxError, SetupError) as error:
            return _answer(503, ready=False, error=str(error))
        return _answer(200, ready=True, newest_delivery=newest)

    def expose(self) -> Response:
        """Answer our own metrics."""
        text = generate_latest(self._parts.metrics.registry)
        return Response(text, content_type=CONTENT_TYPE_LATEST)

    def _explain(self, reply: Reply, delivery: Delivery) -> Response:
        try:
            policy = self._parts.policy()
        except ConfigError as error:
            problems = [str(problem) for problem in error.problems]
            return _answer(200, **reply.fields, policy_problems=problems)
        alerts = [_explained(alert, policy) for alert in delivery.alerts]
        return _answer(200, **reply.fields, policy_mode=policy.mode.value, alerts=alerts)


def _explained(alert: Alert, policy: Policy) -> dict[str, object]:
    rule = policy.rule_for(alert.labels)
    return {
        "alertname": alert.name,
        "fingerprint": alert.firing.fingerprint,
        "status": alert.status.value,
        "subject": str(subject_of(alert.labels)),
        "policy_rule": rule.name if rule else None,
        "mode": rule.mode.capped_by(policy.mode).value if rule else None,
        "remediations": [rung.remediation for rung in rule.rungs] if rule else [],
    }


def _limit_forms() -> None:
    """Let nothing but a delivery be long: whoever sends it need not be known yet."""
    if request.path != DELIVERIES:
        request.max_content_length = LARGEST_FORM


def _healthy() -> Response:
    return _answer(200, healthy=True)


def _refused(error: Exception) -> Response:
    """Answer what Flask refuses (404, 405, …) in the same form, keeping its headers."""
    if not isinstance(error, HTTPException):
        raise error
    answer = _answer(error.code or 500, error=f"{error.name}: {error.description}")
    for name, value in error.get_headers():
        if name not in {"Content-Type", "Content-Length"}:
            answer.headers[name] = value
    return answer


def _replied(reply: Reply) -> Response:
    return Response(reply.body, reply.status, reply.headers, content_type="application/json")


def _answer(status: int, **fields: object) -> Response:
    body = json.dumps(fields, ensure_ascii=False) + "\n"
    return Response(body, status=status, content_type="application/json")
