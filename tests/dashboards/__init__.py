"""The Grafana dashboards, from which the JSON in compose/grafana/dashboards is written.

`python -m tests.dashboards` writes it. Grafana reads the JSON alone; this keeps what all panels
have in common in one place.
"""

from typing import Any

from tests.dashboards import dcgm, my_usage, overview, remediator


def dashboards() -> dict[str, dict[str, Any]]:
    """Return each dashboard by the name of its file."""
    made = (overview.dashboard(), my_usage.dashboard(), dcgm.dashboard(), remediator.dashboard())
    return {f"{dashboard['uid']}.json": dashboard for dashboard in made}
