"""Judge from what is seen on the machine now whether a container is idle.

This is the third opinion: Prometheus has said that it was idle for long, and the driver and the
kernel must say that it is idle still. What cannot be told counts as busy.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from remediator.core.limits import Limits
from remediator.core.observation import Fact, Verdict

# DS01 states the network threshold as bytes in a window of this length.
NETWORK_WINDOW = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class SlotUse:
    """What one GPU or MIG device shows of a container's use of it.

    ``utilization`` is the slot's, ``own_utilization`` that of the container's processes alone, in
    percent 0-100, None where nobody can tell. ``lost`` is why the GPU does not answer, and
    ``unseen`` is how many of the other processes may work for the container all the same.
    ``returns`` is what of a GPU is free once the container is gone (0-1), 0 where others use it.
    """

    name: str
    own_processes: int
    other_processes: int
    utilization: float | None = None
    own_utilization: float | None = None
    lost: str | None = None
    unseen: int = 0
    returns: float = 0.0


@dataclass(frozen=True, slots=True)
class Activity:
    """What a container does now.

    ``cpu_percent`` is of one core; ``network_bytes`` is scaled to `NETWORK_WINDOW`. Both are
    averages over ``measured_for``, None where nobody can tell. A container in the network of the
    host has no traffic of its own to count (``host_network``).
    """

    slots: tuple[SlotUse, ...]
    measured_for: timedelta | None
    cpu_percent: float | None
    network_bytes: float | None
    host_network: bool = False


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether it is idle, in a verdict, a sentence, and numbers."""

    verdict: Verdict
    says: str
    facts: Mapping[str, Fact]


def judge_idle(activity: Activity, limits: Limits) -> Judgement:
    """Return whether *activity* is idleness under *limits*; doubt is silence, never agreement."""
    if not activity.slots:
        return Judgement(Verdict.SILENT, "no GPU could be looked at", _facts(activity))
    findings = [_slot(use, limits.gpu_idle_percent) for use in activity.slots]
    findings.append(_cpu(activity, limits.cpu_idle_percent))
    findings.append(_network(activity, limits.network_idle_bytes))
    verdicts = {verdict for verdict, _ in findings}
    # Proof of work outweighs doubt about something else: it is the better reason to give.
    verdict = next(
        (v for v in (Verdict.DISAGREES, Verdict.SILENT) if v in verdicts), Verdict.AGREES
    )
    told = [says for found, says in findings if found is verdict]
    return Judgement(verdict, "; ".join(told), _facts(activity))


def _slot(use: SlotUse, threshold: float) -> tuple[Verdict, str]:
    name = f"GPU {use.name}"
    if use.lost is not None:
        return Verdict.SILENT, f"{name} does not answer: {use.lost}"
    if not use.own_processes:
        hidden = use.unseen or not use.other_processes
        if hidden and use.utilization is not None and use.utilization >= threshold:
            # Whose work is it, if not that of the container the GPU was given to?
            says = f"{name} is {use.utilization:.0f} % used by processes that cannot be seen"
            return Verdict.SILENT, f"{says}, so it counts as busy"
        return Verdict.AGREES, f"{name} runs no process of it"
    shared = use.other_processes > 0
    percent = use.own_utilization if shared or use.utilization is None else use.utilization
    if percent is None:
        whose = "its share of" if shared else "the utilisation of"
        return (
            Verdict.SILENT,
            f"{name} runs {use.own_processes} of its processes and {whose}"
            " the GPU cannot be told, so it counts as busy",
        )
    says = f"{name} is {percent:.0f} % used by {use.own_processes} of its processes"
    if percent < threshold:
        if use.unseen and (use.utilization is None or use.utilization >= threshold):
            # Theirs may be its work as well: MPS works for all its clients.
            return Verdict.SILENT, f"{says} and by some that work for nobody knows whom"
        return Verdict.AGREES, says
    return Verdict.DISAGREES, f"{says}, idle is below {threshold:g} %"


def _cpu(activity: Activity, threshold: float) -> tuple[Verdict, str]:
    if activity.cpu_percent is None or activity.measured_for is None:
        return Verdict.SILENT, "its use of the CPU cannot be told, so it counts as busy"
    over = f"over {activity.measured_for.total_seconds():.1f} s"
    says = f"CPU {activity.cpu_percent:.1f} % of a core {over}"
    if activity.cpu_percent < threshold:
        return Verdict.AGREES, says
    return Verdict.DISAGREES, f"{says}, idle is below {threshold:g} %"


def _network(activity: Activity, threshold: float) -> tuple[Verdict, str]:
    if activity.host_network:
        return Verdict.AGREES, "network not its own"
    if activity.network_bytes is None:
        return Verdict.SILENT, "its use of the network cannot be told, so it counts as busy"
    says = f"network {activity.network_bytes / 1024:.0f} KiB per 5 min"
    if activity.network_bytes < threshold:
        return Verdict.AGREES, says
    return Verdict.DISAGREES, f"{says}, idle is below {threshold / 1024:.0f} KiB"


def _facts(activity: Activity) -> dict[str, Fact]:
    facts: dict[str, Fact] = {
        "cpu_percent": _rounded(activity.cpu_percent),
        "network_bytes_per_5m": _rounded(activity.network_bytes),
    }
    for use in activity.slots:
        facts[f"gpu_{use.name}_utilization_percent"] = _rounded(use.utilization)
        facts[f"gpu_{use.name}_own_processes"] = use.own_processes
        facts[f"gpu_{use.name}_other_processes"] = use.other_processes
    return facts


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 2)
