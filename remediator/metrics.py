"""Every metric Remediator has of its own, with its label values there from the start.

A counter that appears only with its first event has no rate for it. What the journal counts for
good goes on there after a restart; everything else begins at zero with its process.
"""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from remediator.core.attempts import AttemptState
from remediator.core.case import HoldReason
from remediator.core.catalogue import CATALOGUE
from remediator.core.delays import BUCKETS, bucket_of
from remediator.core.notices import NoticeKind
from remediator.core.observation import Source
from remediator.core.tallies import Tally, Until
from remediator.histogram import KeptHistogram

DELIVERY_RESULTS = ("stored", "refused", "unauthorized", "too_large", "failed")
NOTIFIERS = ("mail", "wall", "chat")
NOTICE_RESULTS = ("sent", "retried", "failed")
SOURCES = tuple(source.value for source in Source)


class ReceiverMetrics:
    """What the receiver counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.deliveries = Counter(
            "remediator_deliveries",
            "Deliveries by what became of them.",
            ["result"],
            registry=registry,
        )
        self.store_seconds = Histogram(
            "remediator_delivery_store_seconds",
            "Time to make one delivery durable.",
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5),
            registry=registry,
        )
        self.lost = Gauge(
            "remediator_inbox_lost_rows",
            "Acknowledged rows that were missing when the inbox was opened: the disk lost them.",
            registry=registry,
        )
        for result in DELIVERY_RESULTS:
            self.deliveries.labels(result)


class WorkerMetrics:
    """What the worker counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.taken = Counter(
            "remediator_deliveries_taken", "Deliveries taken from the inbox.", registry=registry
        )
        self.refused = Counter(
            "remediator_deliveries_unreadable",
            "Stored deliveries that turned out not to be Alertmanager's.",
            registry=registry,
        )
        self.truncated = Counter(
            "remediator_alerts_truncated",
            "Alerts that Alertmanager left out of a delivery and that never come.",
            registry=registry,
        )
        self.decisions = Counter(
            "remediator_decisions",
            "Decisions, without repeats; the reason is empty where it is to remediate.",
            ["decision", "reason"],
            registry=registry,
        )
        self.attempts = Counter(
            "remediator_attempts",
            "Settled attempts.",
            ["remediation", "outcome"],
            registry=registry,
        )
        self.attempt_seconds = Histogram(
            "remediator_attempt_duration_seconds",
            "From planning an attempt to settling it.",
            ["remediation"],
            buckets=(0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, 600),
            registry=registry,
        )
        self.running = Gauge(
            "remediator_attempts_running",
            "Attempts being carried out now.",
            ["remediation"],
            registry=registry,
        )
        self.lasting_effects = Gauge(
            "remediator_lasting_effects",
            "What remediations did and have not put back yet.",
            registry=registry,
        )
        self.breaker_open = Gauge(
            "remediator_breaker_open",
            "Whether the breaker is open: nothing destructive is done until a person closes it.",
            registry=registry,
        )
        self.gpu_hours_returned = Counter(
            "remediator_gpu_hours_returned",
            "GPU-hours that were free because an idle container had been stopped.",
            registry=registry,
        )
        self.energy_not_wasted = Counter(
            "remediator_energy_not_wasted_joules",
            "What idle GPUs drew before a stop, times the hours returned; where it was measured.",
            registry=registry,
        )
        self.alert_to_action = KeptHistogram(
            "remediator_alert_to_action_seconds",
            "From the start of an alert until an attempt was begun, and until it was proven.",
            ("until", [until.value for until in Until]),
            BUCKETS,
            registry,
        )
        self.quiesced_services = Gauge(
            "remediator_quiesced_services",
            "Services and containers that were stopped for some work and do not run again yet.",
            registry=registry,
        )
        self.backlog = Gauge(
            "remediator_backlog_deliveries",
            "Deliveries stored but not yet taken.",
            registry=registry,
        )
        self.oldest_seconds = Gauge(
            "remediator_oldest_delivery_seconds",
            "Age of the oldest delivery not yet taken, 0 if there is none.",
            registry=registry,
        )
        self.source_errors = Counter(
            "remediator_source_errors",
            "Times a source was asked and was silent.",
            ["source"],
            registry=registry,
        )
        self.notices = Counter(
            "remediator_notices",
            "Tries to send a notice, by what came of them.",
            ["notifier", "result"],
            registry=registry,
        )
        self.notices_made = Counter(
            "remediator_notices_made", "Notices put in the outbox.", ["kind"], registry=registry
        )
        self.notices_waiting = Gauge(
            "remediator_notices_waiting", "Notices not yet sent.", registry=registry
        )
        self.template_problems = Gauge(
            "remediator_template_problems",
            "Problems of a site's templates at the start; the built-in ones are used instead.",
            registry=registry,
        )
        self.template_failures = Counter(
            "remediator_template_failures",
            "Notices for which a site's template failed, sent in the built-in words.",
            registry=registry,
        )
        self.errors = Counter(
            "remediator_errors",
            "Errors nobody foresaw; each is in the log with its traceback.",
            registry=registry,
        )
        self.policy_reload_successful = Gauge(
            "remediator_policy_last_reload_successful",
            "1 if the last reading of the policy file was a success.",
            registry=registry,
        )
        self.policy_reload_time = Gauge(
            "remediator_policy_last_reload_success_timestamp_seconds",
            "When the policy in force was read.",
            registry=registry,
        )
        self._start_at_zero()

    def restore(self, kept: Mapping[tuple[Tally, str], float]) -> None:
        """Go on where the journal left what it counts for good; once, at the start."""
        counters = {
            Tally.ATTEMPTS: self.attempts,
            Tally.DECISIONS: self.decisions,
            Tally.GPU_HOURS: self.gpu_hours_returned,
            Tally.JOULES: self.energy_not_wasted,
        }
        for (tally, text), amount in kept.items():
            first, _, second = text.partition("/")
            if tally in counters:
                counter = counters[tally]
                (counter.labels(first, second) if text else counter).inc(amount)
            elif tally is Tally.ALERT_TO_ACTION:
                self.alert_to_action.count(first, second, amount)
            elif tally is Tally.ALERT_TO_ACTION_SECONDS:
                self.alert_to_action.add(first, amount)

    def observe_delay(self, until: Until, seconds: float) -> None:
        """Count how long something took from its alert's start."""
        self.alert_to_action.count(until.value, bucket_of(seconds))
        self.alert_to_action.add(until.value, seconds)

    def _start_at_zero(self) -> None:
        self.decisions.labels("remediate", "")
        for reason in HoldReason:
            self.decisions.labels("hold", reason.value)
        outcomes = (AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.REFUSED)
        for offer in CATALOGUE:
            self.running.labels(offer.name)
            self.attempt_seconds.labels(offer.name)
            for outcome in outcomes:
                self.attempts.labels(offer.name, outcome.value)
        for source in SOURCES:
            self.source_errors.labels(source)
        for notifier in NOTIFIERS:
            for result in NOTICE_RESULTS:
                self.notices.labels(notifier, result)
        for kind in NoticeKind:
            self.notices_made.labels(kind.value)
