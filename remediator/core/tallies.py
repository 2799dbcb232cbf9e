"""What is counted for good, in the journal: no restart and no forgetting takes it away."""

import enum


class Tally(enum.Enum):
    """A thing that is counted; the values are names in the journal.

    Each is counted by labels, joined by ``/``.
    """

    ATTEMPTS = "attempts"
    DECISIONS = "decisions"
    ALERT_TO_ACTION = "alert_to_action"
    ALERT_TO_ACTION_SECONDS = "alert_to_action_seconds"
    GPU_HOURS = "gpu_hours_returned"
    JOULES = "energy_not_wasted_joules"
    COUNTED_TO = "returned_counted_to"


class Until(enum.Enum):
    """Up to where the time from an alert's start is measured; the values are a metric's labels."""

    BEGUN = "begun"
    PROVEN = "proven"
