"""In which unit a metric counts, and whether a threshold can be in that unit.

A percentage compared with 0.9 and a ratio compared with 90 are both accepted by Prometheus, and
fire always or never.
"""

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import promql_parser as pql

from remediator.rules.promql import metric_of

COMPARISONS = frozenset({"==", "!=", "<", "<=", ">", ">="})
_BELOW = frozenset({"<", "<="})
_KEEPS_VALUE = frozenset({"max", "min", "avg", "topk", "bottomk", "quantile", "limitk"})
_KEEPS_VALUE_CALLS = frozenset(
    {
        *("max_over_time", "min_over_time", "avg_over_time", "last_over_time", "first_over_time"),
        *("quantile_over_time", "label_replace", "label_join", "sort", "sort_desc", "abs", "round"),
        *("clamp", "clamp_min", "clamp_max", "ceil", "floor"),
    }
)


class Unit(enum.Enum):
    """What a value counts, in the words of a message."""

    PERCENT = "a percentage 0-100"
    RATIO = "a ratio 0-1"
    CELSIUS = "in degrees Celsius"
    WATTS = "in watts"
    MIB = "in MiB"
    BYTES = "in bytes"
    LIMIT = "in seconds"
    MOMENT = "a moment, in seconds since 1970"


_PREFIXES = (
    ("DCGM_FI_PROF_PCIE_", None),
    ("DCGM_FI_PROF_NVLINK_", None),
    ("DCGM_FI_PROF_", Unit.RATIO),
)
_METRICS: Mapping[str, Unit] = {
    **dict.fromkeys(
        (
            *("DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_MEM_COPY_UTIL", "DCGM_FI_DEV_ENC_UTIL"),
            *("DCGM_FI_DEV_DEC_UTIL", "ds01_container_gpu_idle_percent_threshold"),
        ),
        Unit.PERCENT,
    ),
    **dict.fromkeys(
        (
            *("ds01_gpu_demand_ratio", "ds01_gpu_high_demand_threshold"),
            *("ds01_gpu_high_demand_idle_reduction", "DCGM_FI_DEV_FB_USED_PERCENT"),
        ),
        Unit.RATIO,
    ),
    **dict.fromkeys(("DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_MEMORY_TEMP"), Unit.CELSIUS),
    **dict.fromkeys(("DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_POWER_MGMT_LIMIT"), Unit.WATTS),
    **dict.fromkeys(
        ("DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE", "DCGM_FI_DEV_FB_TOTAL"), Unit.MIB
    ),
    **dict.fromkeys(
        (
            *("ds01_gpu_memory_unaccounted_bytes", "ds01_gpu_process_memory_bytes"),
            *("ds01_container_memory_usage_bytes", "ds01_container_memory_limit_bytes"),
            *("ds01_state_disk_bytes", "ds01_user_memory_current_bytes"),
        ),
        Unit.BYTES,
    ),
    **dict.fromkeys(
        (
            *("ds01_container_idle_timeout_seconds", "ds01_container_max_runtime_seconds"),
            *("ds01_container_hold_seconds", "ds01_container_created_timeout_seconds"),
            "ds01_container_grace_seconds",
        ),
        Unit.LIMIT,
    ),
    **dict.fromkeys(
        (
            *("ds01_container_created_time_seconds", "ds01_container_started_time_seconds"),
            *("ds01_container_finished_time_seconds", "ds01_container_keep_alive_until_seconds"),
            *(
                "node_boot_time_seconds",
                "container_start_time_seconds",
                "process_start_time_seconds",
            ),
        ),
        Unit.MOMENT,
    ),
}


def unit_of(name: str) -> Unit | None:
    """Return the unit of an exported metric, None if it has none that is known."""
    if name in _METRICS:
        return _METRICS[name]
    return next((unit for start, unit in _PREFIXES if name.startswith(start)), None)


def unit_in(expr: pql.Expr, recorded: Callable[[str], Unit | None]) -> Unit | None:
    """Return the unit of what *expr* yields; *recorded* knows that of the rules' own metrics."""
    if isinstance(expr, pql.VectorSelector):
        name = metric_of(expr)
        return unit_of(name) or recorded(name)
    if isinstance(expr, pql.MatrixSelector):
        return unit_in(expr.vector_selector, recorded)
    if isinstance(expr, pql.ParenExpr | pql.SubqueryExpr):
        return unit_in(expr.expr, recorded)
    if isinstance(expr, pql.AggregateExpr):
        return unit_in(expr.expr, recorded) if str(expr.op) in _KEEPS_VALUE else None
    if isinstance(expr, pql.Call) and expr.func.name in _KEEPS_VALUE_CALLS:
        series = [one for one in expr.args if not isinstance(one, pql.NumberLiteral)]
        return unit_in(series[0], recorded) if series else None
    if isinstance(expr, pql.BinaryExpr):
        return _unit_of_binary(expr, recorded)
    return None


def _unit_of_binary(expr: pql.BinaryExpr, recorded: Callable[[str], Unit | None]) -> Unit | None:
    operation = str(expr.op).lower()
    left, right = unit_in(expr.lhs, recorded), unit_in(expr.rhs, recorded)
    if operation in {*COMPARISONS, "and", "unless"}:
        returns_bool = expr.modifier is not None and expr.modifier.return_bool
        return None if returns_bool else left
    if operation == "or":
        return left if left == right else None
    if operation in {"*", "/"}:
        return _scaled(operation, left or right, constant(expr.rhs) or constant(expr.lhs))
    return None


def _scaled(operation: str, unit: Unit | None, factor: float | None) -> Unit | None:
    if (unit, operation, factor) == (Unit.RATIO, "*", 100.0):
        return Unit.PERCENT
    if (unit, operation, factor) == (Unit.PERCENT, "/", 100.0):
        return Unit.RATIO
    return None


def constant(expr: pql.Expr) -> float | None:
    """Return the number that *expr* is, None if it is none."""
    if isinstance(expr, pql.NumberLiteral):
        return float(expr.val)
    if isinstance(expr, pql.ParenExpr):
        return constant(expr.expr)
    if isinstance(expr, pql.UnaryExpr):
        inner = constant(expr.expr)
        return None if inner is None else -inner
    if not isinstance(expr, pql.BinaryExpr):
        return None
    left, right = constant(expr.lhs), constant(expr.rhs)
    if left is None or right is None:
        return None
    return _folded(str(expr.op), left, right)


def _folded(operation: str, left: float, right: float) -> float | None:
    if operation == "*":
        return left * right
    if operation == "+":
        return left + right
    if operation == "-":
        return left - right
    if operation == "/" and right:
        return left / right
    return None


@dataclass(frozen=True, slots=True)
class _Range:
    """Between which thresholds a value of some unit makes sense, and what others look like.

    Zero always does. A bound that is only meant against nonsense (``< 200`` degrees) may be as
    high as it likes where ``caps`` is set.
    """

    least: float = 0.0
    most: float = math.inf
    low: str = ""
    high: str = ""
    caps: bool = False


_RANGES: Mapping[Unit, _Range] = {
    Unit.PERCENT: _Range(1, 100, "looks like a ratio", "is out of its range"),
    Unit.RATIO: _Range(0, 1, high="looks like a percentage"),
    Unit.CELSIUS: _Range(0, 150, high="is never reached", caps=True),
    Unit.WATTS: _Range(0, 5000, high="looks like milliwatts", caps=True),
    Unit.MIB: _Range(0, 1e7, high="looks like bytes", caps=True),
    Unit.BYTES: _Range(1e5, low="looks like MiB or GiB"),
    Unit.LIMIT: _Range(59, low="looks like minutes or hours"),
    Unit.MOMENT: _Range(1e9, low="is a length of time: subtract it from time()"),
}


def why_not(unit: Unit, operation: str, threshold: float) -> str | None:
    """Return what is wrong with comparing a value in *unit* with *threshold*, None if nothing."""
    fits = _RANGES[unit]
    if 0 < threshold < fits.least or (threshold == fits.least > 0 and operation in _BELOW):
        return fits.low
    if threshold > fits.most and not (fits.caps and operation in _BELOW):
        return fits.high
    return None
