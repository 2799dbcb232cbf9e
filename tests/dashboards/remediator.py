"""Remediator: what it decided, what it did, how long that took, and whether it is well."""

from typing import Any

from tests.dashboards.model import Query, Row, bars, board, series, stat, variable

W = 'instance=~"$worker"'
FINE = ((None, "green"), (1, "red"))


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    return board(
        "remediator",
        "Remediator",
        "Decisions and what held them, attempts and their time, notices, deliveries, the breaker.",
        [*_now(), *_decisions(), *_attempts(), *_around()],
        [variable("worker", "Worker", "label_values(remediator_breaker_open, instance)")],
        since="now-24h",
    )


def _now() -> list[Any]:
    return [
        stat(
            "Breaker",
            "Open after too many destructive attempts: nothing destructive is done until a person"
            " closes it with remediator close-breaker.",
            f"max(remediator_breaker_open{{{W}}})",
            "none",
            words={0: ("closed", "green"), 1: ("OPEN", "red")},
        ),
        stat(
            "GPU-hours returned",
            "Free because an idle container was stopped, in the time that is shown.",
            f"sum(increase(remediator_gpu_hours_returned_total{{{W}}}[$__range]))",
            "h",
            decimals=2,
        ),
        stat(
            "Energy not wasted",
            "What idle GPUs drew before a stop, times the hours returned, in the time that is"
            " shown; where it was measured.",
            f"sum(increase(remediator_energy_not_wasted_joules_total{{{W}}}[$__range]))",
            "joule",
        ),
        stat(
            "Lasting effects",
            "What was done and is put back when its alert ends: power limits.",
            f"sum(remediator_lasting_effects{{{W}}})",
            "short",
        ),
        stat(
            "Services stopped",
            "Stopped for some work, and not running again yet.",
            f"sum(remediator_quiesced_services{{{W}}})",
            "short",
            thresholds=FINE,
        ),
        stat(
            "Policy",
            "Whether the policy file as it is now is the one in force.",
            f"min(remediator_policy_last_reload_successful{{{W}}})",
            "none",
            words={0: ("REFUSED", "red"), 1: ("in force", "green")},
        ),
    ]


def _decisions() -> list[Any]:
    return [
        Row("Decisions"),
        series(
            "Decisions",
            "To remediate, or to hold; each alert is decided again and again while it fires.",
            [
                Query(
                    "60 * sum by (decision)"
                    f" (rate(remediator_decisions_total{{{W}}}[$__rate_interval]))",
                    "{{decision}}",
                )
            ],
            "cpm",
        ),
        bars(
            "Held, by reason",
            "How often each guard held, in the time that is shown. README: How a decision is made.",
            Query(
                "sort_desc(sum by (reason) (increase(remediator_decisions_total"
                f'{{{W}, decision="hold"}}[$__range])))',
                "{{reason}}",
            ),
            "short",
            decimals=0,
        ),
    ]


def _attempts() -> list[Any]:
    quantile = (
        "histogram_quantile({q}, sum by (le, remediation) (increase("
        f"remediator_attempt_duration_seconds_bucket{{{{{W}}}}}[$__range])))"
    )
    delay = (
        "histogram_quantile({q}, sum by (le, until) (increase("
        f"remediator_alert_to_action_seconds_bucket{{{{{W}}}}}[$__range])))"
    )
    return [
        Row("Attempts"),
        bars(
            "From alert to action, the slower half",
            "From the start of an alert until an attempt was begun, and until it was proven: half"
            " of them took longer. Warnings and approvals are waited for on purpose.",
            Query(delay.format(q="0.5"), "{{until}}"),
            "s",
        ),
        bars(
            "From alert to action, the slowest",
            "The same: one in twenty took longer.",
            Query(delay.format(q="0.95"), "{{until}}"),
            "s",
        ),
        bars(
            "Attempts, by outcome",
            "Settled in the time that is shown.",
            Query(
                "sum by (remediation, outcome)"
                f" (increase(remediator_attempts_total{{{W}}}[$__range]))",
                "{{remediation}} {{outcome}}",
            ),
            "short",
            decimals=0,
        ),
        bars(
            "Time to act, the slower half",
            "From planning an attempt to its proof: half of them took longer.",
            Query(quantile.format(q="0.5"), "{{remediation}}"),
            "s",
            width=6,
        ),
        bars(
            "Time to act, the slowest",
            "From planning an attempt to its proof: one in twenty took longer.",
            Query(quantile.format(q="0.95"), "{{remediation}}"),
            "s",
            width=6,
        ),
    ]


def _around() -> list[Any]:
    return [
        Row("Around it"),
        series(
            "Deliveries",
            "From Alertmanager, by what became of them.",
            [
                Query(
                    "60 * sum by (result) (rate(remediator_deliveries_total[$__rate_interval]))",
                    "{{result}}",
                )
            ],
            "cpm",
            width=8,
        ),
        series(
            "Time to store a delivery",
            "Until it is on the disk and acknowledged; one in a hundred of the last 15 minutes took"
            " longer.",
            [
                Query(
                    "histogram_quantile(0.99, sum by (le)"
                    " (rate(remediator_delivery_store_seconds_bucket[15m])))",
                    "slowest of a hundred",
                )
            ],
            "s",
            width=8,
        ),
        series(
            "Backlog",
            "Age of the oldest delivery that the worker has not taken.",
            [Query(f"remediator_oldest_delivery_seconds{{{W}}}", "{{instance}}")],
            "s",
            width=8,
        ),
        bars(
            "Notices",
            "Tries to send one, by what came of them, in the time that is shown.",
            Query(
                f"sum by (notifier, result) (increase(remediator_notices_total{{{W}}}[$__range]))",
                "{{notifier}} {{result}}",
            ),
            "short",
            width=8,
            decimals=0,
        ),
        bars(
            "Silent sources",
            "Times that a source was asked and did not answer; nothing is done then.",
            Query(
                f"sum by (source) (increase(remediator_source_errors_total{{{W}}}[$__range]))",
                "{{source}}",
            ),
            "short",
            width=8,
            decimals=0,
        ),
        stat(
            "Attempts now",
            "Remediations that are being carried out.",
            f"sum(remediator_attempts_running{{{W}}})",
            "short",
            width=2,
            height=8,
        ),
        stat(
            "Notices waiting",
            "Not yet sent.",
            f"sum(remediator_notices_waiting{{{W}}})",
            "short",
            width=3,
            height=8,
        ),
        stat(
            "Errors",
            "That nobody foresaw; each is in the log with its traceback.",
            f"sum(increase(remediator_errors_total{{{W}}}[$__range]))",
            "short",
            width=3,
            height=8,
            thresholds=FINE,
        ),
    ]
