"""A backtest as plain values with stable keys, for JSON and for the page."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from remediator.backtest.backtest import Result
from remediator.backtest.deciding import Deed, Story, time_of
from remediator.backtest.history import Stretch
from remediator.backtest.judging import Judged
from remediator.core.catalogue import offer_of
from remediator.core.targets import subject_of

Plain = dict[str, object]


@dataclass(frozen=True, slots=True)
class AlertCount:
    """How often one alert fired, for how long in all, and what came of it.

    Something was done about it, people were only told, it was held, or its container was gone by
    then, since it would have been stopped before.
    """

    alert: str
    fired: int
    lasted: timedelta
    acted_on: int
    told: int
    held: int
    moot: int


def counted(result: Result, end: int) -> list[AlertCount]:
    """Return the counts of every alert that fired, by name."""
    stories: dict[str, list[Story]] = {}
    for story in result.outcome.stories:
        stories.setdefault(story.fired.alert, []).append(story)
    return [
        AlertCount(
            name,
            len(found),
            sum((lasted(story, end) for story in found), timedelta()),
            sum(any(map(acts, story.deeds)) for story in found),
            sum(bool(story.deeds) and not any(map(acts, story.deeds)) for story in found),
            sum(not story.deeds and story.last is not None for story in found),
            sum(story.moot for story in found),
        )
        for name, found in sorted(stories.items())
    ]


def acts(deed: Deed) -> bool:
    """Tell whether more was done than to tell people."""
    return offer_of(deed.remediation).acts


def lasted(story: Story, end: int) -> timedelta:
    """Return for how long an alert fired until *end* (milliseconds)."""
    until = end if story.fired.resolved_at is None else min(story.fired.resolved_at, end)
    return timedelta(milliseconds=until - story.fired.fired_at)


def what_became(story: Story) -> str:
    """Return in a few words what came of one firing."""
    if story.deeds:
        first = story.deeds[0]
        more = f" and {len(story.deeds) - 1} more" if len(story.deeds) > 1 else ""
        return f"{first.remediation} at {first.at:%d %b %H:%M}{more}"
    if story.moot:
        return "its container was gone already"
    return f"held: {story.last.reason.value}" if story.last else "ended before it was looked at"


def plain(results: Sequence[Result], reported: Stretch) -> Plain:
    """Return everything, for ``--json``."""
    return {
        "from": _text(time_of(reported.begin)),
        "to": _text(time_of(reported.end)),
        "variants": [_variant(result, reported.end) for result in results],
    }


def _variant(result: Result, end: int) -> Plain:
    return {
        "name": result.variant.name,
        "mode": result.variant.policy.mode.value,
        "gpu_hours_returned": round(result.hours, 3),
        "regretted": result.regretted,
        "warnings": sum(len(story.warned) for story in result.outcome.stories),
        "breaker_opened_at": _text(result.outcome.breaker_at),
        "done": dict(Counter(one.deed.remediation for one in result.judged)),
        "held": {reason.value: count for reason, count in result.held().items()},
        "deeds": [_deed(one) for one in result.judged],
        "alerts": [_alert(story, end) for story in result.outcome.stories],
    }


def _deed(one: Judged) -> Plain:
    deed = one.deed
    return {
        "at": _text(deed.at),
        "remediation": deed.remediation,
        "policy_rule": deed.policy_rule,
        "alertname": deed.fired.alert,
        "subject": str(deed.subject),
        "title": deed.title,
        "owner": deed.owner,
        "gpu_hours": None if one.hours is None else round(one.hours, 3),
        "busy_again_at": _text(one.busy_again_at),
        "really_ended_at": _text(one.ended_at),
    }


def _alert(story: Story, end: int) -> Plain:
    fired = story.fired
    labels = dict(fired.labels)
    resolved = fired.resolved_at is not None and fired.resolved_at <= end
    return {
        "alertname": fired.alert,
        "labels": labels,
        "subject": str(subject_of(labels)),
        "active_at": _text(time_of(fired.active_at)),
        "fired_at": _text(time_of(fired.fired_at)),
        "resolved_at": _text(time_of(fired.resolved_at or end)) if resolved else None,
        "warned_at": [_text(warned.at) for warned in story.warned],
        "done_at": [_text(deed.at) for deed in story.deeds],
        "held": {
            reason.value: held.because
            for reason, held in story.held.items()
            if story.held_by(reason)
        },
        "moot": story.moot,
    }


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="milliseconds")
