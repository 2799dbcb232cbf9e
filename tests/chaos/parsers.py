"""Everything that reads what somebody else wrote, as functions of bytes that may raise one thing.

Each target raises only what its caller is promised; whatever else comes out is a bug.
"""

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from remediator.config.chat_urls import read_chat_urls
from remediator.config.limits import read_limits
from remediator.config.policy import read_policy
from remediator.config.reader import read_nodes
from remediator.config.settings import read_settings
from remediator.core.durations import parse_duration
from remediator.core.matchers import parse_matcher
from remediator.core.targets import subject_of
from remediator.engine.commands import _argument_of
from remediator.errors import ConfigError, DeliveryError, SetupError, SourceError, TargetGoneError
from remediator.keep_links import ForgedError, LinkKey
from remediator.payload import parse_delivery
from remediator.rules import promql
from remediator.rules.alertmanager_file import read_alertmanager_file
from remediator.rules.labels import Labels, branches_of
from remediator.rules.prometheus_file import read_prometheus_file
from remediator.rules.rule_file import read_rule_file
from remediator.rules.units import unit_in
from remediator.sources import dcgm_page, docker_engine
from remediator.sources.event_lines import Lines
from remediator.sources.login_sessions import LoginSessions
from remediator.sources.proc import ProcSource
from remediator.web.users import Users

_FOLDER = Path(tempfile.mkdtemp(prefix="parsers-", dir="/dev/shm"))
_KEY = _FOLDER / "key"
_KEY.write_text("k" * 64)
_PID = 4711
_PROC = _FOLDER / "proc" / str(_PID)
_PROC.mkdir(parents=True)


def _file(data: bytes) -> Path:
    path = _FOLDER / "file"
    path.write_bytes(data)
    return path


def _delivery(data: bytes) -> None:
    try:
        for alert in parse_delivery(data).alerts:
            subject_of(alert.labels)
    except DeliveryError:
        return


def _policy(data: bytes) -> None:
    _config(lambda: read_policy(_file(data)))


def _limits(data: bytes) -> None:
    _config(lambda: read_limits(_file(data)))


def _settings(data: bytes) -> None:
    _config(lambda: read_settings(_file(data), {}))


def _chat_urls(data: bytes) -> None:
    _config(lambda: read_chat_urls(_file(data)))


def _rule_files(data: bytes) -> None:
    def read() -> None:
        reader, node = read_nodes(_file(data))
        read_rule_file(reader, node, data.decode(errors="replace"))
        read_alertmanager_file(reader, node)
        read_prometheus_file(reader, node)

    _config(read)


def _config(read: Callable[[], object]) -> None:
    try:
        read()
    except (ConfigError, SetupError):
        return


def _promql(data: bytes) -> None:
    try:
        expression = promql.parse(data.decode(errors="replace"))
    except promql.PromqlError:
        return
    branches_of(expression, lambda _: (Labels(),))
    unit_in(expression, lambda _: None)
    list(promql.walk(expression))


def _words(data: bytes) -> None:
    text = data.decode(errors="replace")
    for parse in (parse_duration, parse_matcher):
        try:
            parse(text)
        except ValueError:
            continue


def _docker(data: bytes) -> None:
    """What Docker answers, read as the program does: errors are translated at the seam."""
    try:
        with docker_engine._translated("a container", "x"):
            answer = json.loads(data)
            for read in (
                lambda: docker_engine.facts_of(answer, ()),
                lambda: docker_engine._summary(answer),
                lambda: docker_engine._event(answer),
                lambda: docker_engine._archive_mtime(answer),
            ):
                read()
    except (SourceError, TargetGoneError, RecursionError):
        return


def _proc(data: bytes) -> None:
    for name in ("stat", "cgroup", "status", "cmdline", "comm"):
        (_PROC / name).write_bytes(data)
    (_PROC / "net").mkdir(exist_ok=True)
    (_PROC / "net" / "dev").write_bytes(data)
    source = ProcSource(_FOLDER / "proc", _FOLDER / "cgroup")
    questions: tuple[Callable[[int], Any], ...] = (
        *(source.container_id_in_cgroup, source.unit_of, source.start_ticks, source.has_ended),
        *(source.is_kernel_thread, source.command, source.comm, source.network_bytes),
        *(source.cpu_seconds, source.memory_bytes),
    )
    for ask in questions:
        try:
            ask(_PID)
        except SourceError:
            continue


def _dcgm(data: bytes) -> None:
    try:
        dcgm_page._figures(data.decode(errors="replace"))
    except ValueError:
        return


def _events(data: bytes) -> None:
    lines = Lines()
    middle = len(data) // 2
    for part in (data[:middle], data[middle:], b"\n"):
        list(lines.take(part))


def _commands(data: bytes) -> None:
    _argument_of(data)


def _users(data: bytes) -> None:
    try:
        Users(_file(data)).all()
    except SetupError:
        return


def _links(data: bytes) -> None:
    try:
        LinkKey(_KEY).verify(data.decode(errors="replace"))
    except ForgedError:
        return


def _sessions(data: bytes) -> None:
    folder = _FOLDER / "sessions"
    folder.mkdir(exist_ok=True)
    (folder / "1").write_bytes(data)
    utmp = _file(data + b"\0" * (-len(data) % 384))
    for file in (utmp, _FOLDER / "missing"):
        try:
            LoginSessions(file, folder).users()
        except SourceError:
            continue


# Something to begin with, so that not every input fails at its first byte.
SEEDS: Mapping[str, tuple[bytes, ...]] = {
    "delivery": (
        b'{"version":"4","groupKey":"{}","alerts":[{"status":"firing","labels":{"a":"b"},'
        b'"startsAt":"2026-03-01T12:00:00Z","fingerprint":"60c6e0280cbb09d5"}]}',
    ),
    "policy": (
        b"mode: act\nbreaker: {open_after: [10 per 1h]}\nnever: ['a=\"b\"']\nrules:\n"
        b"  - name: idle\n    match: ['alertname=\"A\"']\n    warn: {before: 5m, tell: [owner]}\n"
        b"    do:\n      - stop-container: {grace: 10s}\n        attempts: [2 per 6h]\n",
    ),
    "limits": (b"defaults: {idle_timeout_h: 0.5}\npolicies: {grace_period_m: 5}\n",),
    "settings": (b"host: x\nlisten: 127.0.0.1:1\nmail: {host: h, port: 25}\npage: {}\n",),
    "chat_urls": (b"admins = slack://a/b/c\nowner:alice = json://x\n",),
    "rule_files": (
        b"groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up == 0\n    for: 5m\n"
        b"route: {receiver: r, matchers: ['a=\"b\"']}\nreceivers: [{name: r}]\n",
    ),
    "promql": (b'sum by (a) (rate(x{b=~"c.*"}[5m])) / on (a) group_left (d) y > 0.5',),
    "words": (b"1h30m", b'a=~"b.*"'),
    "docker": (
        b'{"Id":"a","State":{"StartedAt":"2026-01-01T00:00:00Z","Pid":1},"Config":{"Env":["A=b"],'
        b'"Labels":{"a":"b"}},"HostConfig":{"DeviceRequests":[{"Count":-1,"Capabilities":'
        b'[["gpu"]]}]},"Mounts":[{"Source":"/a"}],"time":1,"Names":["/a"],"Action":"die"}',
    ),
    "proc": (
        b"4711 (a b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23\n",
        b"0::/system.slice/docker-" + b"a" * 64 + b".scope\n",
    ),
    "dcgm": (b'DCGM_FI_DEV_GPU_TEMP{gpu="0",UUID="GPU-1"} 40\nDCGM_FI_DEV_POWER_USAGE 1e3\n',),
    "events": (b'{"timestamp":"2026-01-01T00:00:00Z","event_type":"gpu.allocated"}\n',),
    "commands": (b'{"action":"pause","reason":"x","incident":1}', b'{"a":' + b"[" * 500),
    "users": (b"alice:operator:sha256:" + b"0" * 64 + b"\n",),
    "links": (LinkKey(_KEY)._signer("remediator keep link").sign(b"A" * 120),),
    "sessions": (b"USER=alice\nTTY=pts/0\nCLASS=user\n",),
}
TARGETS: Mapping[str, Callable[[bytes], None]] = {
    "delivery": _delivery,
    "policy": _policy,
    "limits": _limits,
    "settings": _settings,
    "chat_urls": _chat_urls,
    "rule_files": _rule_files,
    "promql": _promql,
    "words": _words,
    "docker": _docker,
    "proc": _proc,
    "dcgm": _dcgm,
    "events": _events,
    "commands": _commands,
    "users": _users,
    "links": _links,
    "sessions": _sessions,
}
