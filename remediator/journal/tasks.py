"""Tasks as the journal keeps them: JSON that any later version can read."""

import json
from datetime import timedelta
from typing import Any, assert_never

from remediator.core.attempts import Task
from remediator.core.durations import format_duration, parse_duration
from remediator.core.policy import Option
from remediator.core.targets import (
    Container,
    Named,
    PhysicalGpu,
    Process,
    Service,
    Subject,
    Target,
    UnstartedContainer,
)
from remediator.database import moment, stamp


def task_to_json(task: Task) -> str:
    """Return *task* as one JSON object."""
    value = {
        "target": _fields_of(task.target),
        "timeout": format_duration(task.timeout),
        "verify_within": format_duration(task.verify_within),
        "options": {name: _kept(option) for name, option in task.options.items()},
        "context": dict(task.context),
        "seen_at": stamp(task.seen_at) if task.seen_at else None,
    }
    return json.dumps(value, ensure_ascii=False)


def task_from_json(text: str) -> Task:
    """Return the task that `task_to_json` wrote; ValueError, KeyError, TypeError if it is none."""
    value: dict[str, Any] = json.loads(text)
    seen_at = value.get("seen_at")
    return Task(
        _target_of(value["target"]),
        timeout=parse_duration(value["timeout"]),
        verify_within=parse_duration(value["verify_within"]),
        options={name: _option_of(kept) for name, kept in value["options"].items()},
        context=value["context"],
        seen_at=moment(seen_at) if seen_at else None,
    )


def _fields_of(target: Target) -> dict[str, str | int]:
    match target:
        case Container():
            return {"container": target.id, "started_at": stamp(target.started_at)}
        case UnstartedContainer():
            return {"container": target.id, "created_at": stamp(target.created_at)}
        case Process():
            return {"pid": target.pid, "ticks": target.start_ticks, "boot": target.boot_id}
        case PhysicalGpu():
            return {"gpu": target.uuid}
        case Service():
            return {"service": target.name, "host": target.host}
        case Named():
            return {"kind": target.subject.kind, "name": target.subject.name}
        case _:
            assert_never(target)


def _target_of(kept: dict[str, Any]) -> Target:
    if "created_at" in kept:
        return UnstartedContainer(kept["container"], moment(kept["created_at"]))
    if "container" in kept:
        return Container(kept["container"], moment(kept["started_at"]))
    if "pid" in kept:
        return Process(int(kept["pid"]), int(kept["ticks"]), kept["boot"])
    if "gpu" in kept:
        return PhysicalGpu(kept["gpu"])
    if "service" in kept:
        return Service(kept["service"], kept["host"])
    return Named(Subject(kept["kind"], kept["name"]))


def _kept(option: Option) -> object:
    # A text stands for a duration, as it always has; a text that is one is wrapped.
    if isinstance(option, timedelta):
        return format_duration(option)
    return {"text": option} if isinstance(option, str) else option


def _option_of(kept: Any) -> Option:
    if isinstance(kept, str):
        return parse_duration(kept)
    option: Option = kept["text"] if isinstance(kept, dict) else kept
    return option
