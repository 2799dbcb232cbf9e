"""Reading Alertmanager's configuration: routes, receivers and inhibition, each with its place.

Source: config/config.go of Alertmanager 0.25 to 0.28. What Remediator has no use for is accepted
as it stands.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import yaml

from remediator.config.reader import Reader, did_you_mean, is_null
from remediator.core.durations import parse_duration
from remediator.core.matchers import Matcher, parse_matcher
from remediator.rules.findings import Place, at_node

_TOP = (
    *("global", "route", "receivers", "inhibit_rules", "templates", "mute_time_intervals"),
    *("time_intervals", "tracing"),
)
_ROUTE = (
    *("receiver", "group_by", "group_wait", "group_interval", "repeat_interval", "matchers"),
    *("match", "match_re", "continue", "routes", "mute_time_intervals", "active_time_intervals"),
)
_INHIBIT = (
    *("name", "source_match", "source_match_re", "source_matchers", "target_match"),
    *("target_match_re", "target_matchers", "equal"),
)
_WEBHOOK = (
    *("send_resolved", "url", "url_file", "http_config", "max_alerts", "timeout", "payload"),
)
_CREDENTIALS = (
    *("authorization", "basic_auth", "oauth2", "bearer_token", "bearer_token_file"),
    *("tls_config", "http_headers"),
)
_PARTS = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*")+')


@dataclass(frozen=True, slots=True)
class Route:
    """One node of the routing tree; receiver and grouping are inherited where not given."""

    place: Place
    receiver: str
    matchers: tuple[Matcher, ...]
    group_by: tuple[str, ...]
    group_by_place: Place
    goes_on: bool
    muted_at: Place | None
    routes: "tuple[Route, ...]" = ()


@dataclass(frozen=True, slots=True)
class Webhook:
    """One webhook of a receiver; ``url`` is empty where a file holds it."""

    places: Mapping[str, Place]
    url: str = ""
    send_resolved: bool = True
    max_alerts: int = 0
    has_token: bool = False

    def at(self, name: str) -> Place:
        """Return the place of one of its fields, of the webhook itself if it has not got it."""
        return self.places.get(name, self.places[""])


@dataclass(frozen=True, slots=True)
class Receiver:
    """One receiver and its webhooks."""

    name: str
    place: Place
    webhooks: tuple[Webhook, ...] = ()


@dataclass(frozen=True, slots=True)
class Inhibition:
    """While an alert matches ``source``, those that match ``target`` are muted."""

    place: Place
    source: tuple[Matcher, ...] = ()
    target: tuple[Matcher, ...] = ()
    equal: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AlertmanagerFile:
    """One Alertmanager's configuration."""

    file: str
    place: Place
    route: Route | None = None
    receivers: tuple[Receiver, ...] = ()
    inhibitions: tuple[Inhibition, ...] = ()
    receivers_place: Place = field(default=Place(""))


def read_alertmanager_file(reader: Reader, node: yaml.Node) -> AlertmanagerFile:
    """Return the configuration under *node*; problems of the grammar are reported to *reader*."""
    fields = reader.mapping(node, "", _TOP)
    reader.require(node, "", "route", "receivers")
    shared = _has_credentials(reader, _sub(fields.get("global"), "http_config"), "")
    receivers = tuple(_receivers(reader, fields.get("receivers"), has_token=shared))
    place = at_node(reader.file, node)
    parent = Route(place, "", (), (), place, goes_on=False, muted_at=None)
    top = fields.get("route")
    route = None if top is None else _Routes(reader, receivers).read(top, "route", parent)
    if route is not None and not route.receiver and top is not None:
        reader.report(top, "route", 'field "receiver" is missing: the root route needs one')
    found = fields.get("receivers")
    return AlertmanagerFile(
        reader.file,
        place,
        route,
        receivers,
        tuple(_inhibitions(reader, fields.get("inhibit_rules"))),
        place if found is None else at_node(reader.file, found, "receivers"),
    )


class _Routes:
    """Reads the routing tree, which may only name receivers that there are."""

    def __init__(self, reader: Reader, receivers: tuple[Receiver, ...]) -> None:
        self._reader = reader
        self._names = [receiver.name for receiver in receivers]

    def read(self, node: yaml.Node, path: str, parent: Route) -> Route:
        reader = self._reader
        fields = reader.mapping(node, path, _ROUTE)
        for key in ("group_wait", "group_interval", "repeat_interval"):
            if key in fields:
                reader.parsed(fields[key], f"{path}.{key}", parse_duration, None)
        muted = [key for key in ("mute_time_intervals", "active_time_intervals") if key in fields]
        grouped = fields.get("group_by")
        route = Route(
            place=at_node(reader.file, node, path),
            receiver=self._receiver(fields, path) or parent.receiver,
            matchers=_matchers(reader, fields, path, ""),
            group_by=parent.group_by
            if grouped is None
            else _names(reader, grouped, f"{path}.group_by"),
            group_by_place=parent.group_by_place
            if grouped is None
            else at_node(reader.file, grouped, f"{path}.group_by"),
            goes_on="continue" in fields and reader.boolean(fields["continue"], f"{path}.continue"),
            muted_at=at_node(reader.file, fields[muted[0]], f"{path}.{muted[0]}")
            if muted
            else None,
        )
        return self._with_routes(route, fields.get("routes"), f"{path}.routes")

    def _with_routes(self, route: Route, node: yaml.Node | None, path: str) -> Route:
        if node is None or is_null(node):
            return route
        items = enumerate(self._reader.sequence(node, path))
        below = tuple(self.read(item, f"{path}[{number}]", route) for number, item in items)
        return replace(route, routes=below)

    def _receiver(self, fields: Mapping[str, yaml.Node], path: str) -> str:
        node = fields.get("receiver")
        if node is None or is_null(node):
            return ""
        name = self._reader.text(node, f"{path}.receiver")
        if name and name not in self._names:
            hint = did_you_mean(name, self._names)
            self._reader.report(node, f"{path}.receiver", f'unknown receiver "{name}"{hint}')
        return name


def _receivers(reader: Reader, node: yaml.Node | None, *, has_token: bool) -> Iterator[Receiver]:
    seen: set[str] = set()
    for number, item in enumerate(reader.sequence(node, "receivers") if node is not None else []):
        path = f"receivers[{number}]"
        fields = reader.mapping(item, path)
        reader.require(item, path, "name")
        name = reader.text(fields["name"], f"{path}.name") if "name" in fields else ""
        if name in seen:
            reader.report(item, f"{path}.name", f'receiver "{name}" is given twice')
        seen.add(name)
        for key, value in fields.items():
            if key != "name" and not key.endswith("_configs"):
                hint = did_you_mean(key, ("name", "webhook_configs", "email_configs"))
                reader.report(value, path, f'unknown field "{key}"{hint}')
        found = fields.get("webhook_configs")
        hooks = [] if found is None or is_null(found) else reader.sequence(found, path)
        yield Receiver(
            name,
            at_node(reader.file, item, path),
            tuple(
                _webhook(reader, hook, f"{path}.webhook_configs[{n}]", has_token=has_token)
                for n, hook in enumerate(hooks)
            ),
        )


def _webhook(reader: Reader, node: yaml.Node, path: str, *, has_token: bool) -> Webhook:
    fields = reader.mapping(node, path, _WEBHOOK)
    if isinstance(node, yaml.MappingNode) and not {"url", "url_file"} & fields.keys():
        reader.report(node, path, 'one of "url" and "url_file" is needed')
    places = {key: at_node(reader.file, value, f"{path}.{key}") for key, value in fields.items()}
    most = fields.get("max_alerts")
    resolved = fields.get("send_resolved")
    return Webhook(
        {"": at_node(reader.file, node, path), **places},
        url=reader.text(fields["url"], f"{path}.url") if "url" in fields else "",
        send_resolved=resolved is None or reader.boolean(resolved, f"{path}.send_resolved"),
        max_alerts=0 if most is None else reader.integer(most, f"{path}.max_alerts"),
        has_token=_has_credentials(reader, fields.get("http_config"), path) or has_token,
    )


def _has_credentials(reader: Reader, node: yaml.Node | None, path: str) -> bool:
    if node is None or is_null(node):
        return False
    fields = reader.mapping(node, f"{path}.http_config" if path else "global.http_config")
    return any(key in fields for key in _CREDENTIALS)


def _inhibitions(reader: Reader, node: yaml.Node | None) -> Iterator[Inhibition]:
    if node is None or is_null(node):
        return
    for number, item in enumerate(reader.sequence(node, "inhibit_rules")):
        path = f"inhibit_rules[{number}]"
        fields = reader.mapping(item, path, _INHIBIT)
        equal = fields.get("equal")
        yield Inhibition(
            at_node(reader.file, item, path),
            _matchers(reader, fields, path, "source_"),
            _matchers(reader, fields, path, "target_"),
            () if equal is None else _names(reader, equal, f"{path}.equal"),
        )


def _matchers(
    reader: Reader, fields: Mapping[str, yaml.Node], path: str, start: str
) -> tuple[Matcher, ...]:
    """Return what all three ways to write a condition say."""
    found: list[Matcher] = []
    for key, operator in ((f"{start}match", "="), (f"{start}match_re", "=~")):
        node = fields.get(key)
        pairs = reader.mapping(node, f"{path}.{key}") if node is not None else {}
        for label, value in pairs.items():
            text = str(value.value) if isinstance(value, yaml.ScalarNode) else ""
            found += _parsed(
                reader, value, f"{path}.{key}.{label}", str(Matcher(label, operator, text))
            )
    node = fields.get(f"{start}matchers")
    for number, item in enumerate(reader.sequence(node, path) if node is not None else []):
        place = f"{path}.{start}matchers[{number}]"
        text = reader.text(item, place)
        for part in _PARTS.findall(text.strip().removeprefix("{").removesuffix("}")):
            found += _parsed(reader, item, place, part)
    return tuple(found)


def _parsed(reader: Reader, node: yaml.Node, path: str, text: str) -> list[Matcher]:
    try:
        return [parse_matcher(text)]
    except ValueError as error:
        reader.report(node, path, str(error))
        return []


def _names(reader: Reader, node: yaml.Node, path: str) -> tuple[str, ...]:
    if is_null(node):
        return ()
    items = enumerate(reader.sequence(node, path))
    return tuple(reader.text(item, f"{path}[{number}]") for number, item in items)


def _sub(node: yaml.Node | None, key: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)
