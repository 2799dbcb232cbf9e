"""Prometheus' own rule engine over given samples, by ``promtool test rules``.

Every question is asked as a test that must fail, since the answer is in what promtool then prints.
"""

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.peers.missing import require_tool

Answer = dict[tuple[tuple[str, str], ...], float]
_SAMPLE = re.compile(r'\{((?:[^"{}]|"(?:\\.|[^"\\])*")*)\} ([-+\w.]+)')
_LABEL = re.compile(r'([\w:]+)=("(?:\\.|[^"\\])*")')
_GOT = re.compile(r"^(?: {8}got: (.*)| +expr: .*, err: .*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Question:
    """An expression, and seconds since the first sample."""

    expr: str
    at: float


@dataclass(frozen=True, slots=True)
class Past:
    """Samples by series, one every *interval* seconds, in promtool's notation (``_``, ``stale``).

    Rules are evaluated every *evaluation* seconds, from the first sample on.
    """

    series: Mapping[str, Sequence[str]]
    interval: int
    evaluation: int


def ask(
    folder: Path, rules: Sequence[Path], past: Past, questions: Sequence[Question]
) -> list[Answer | None]:
    """Return what the real engine answers to each question, samples by their labels.

    None is a question that it refuses to answer.
    """
    never = [{"labels": "never", "value": 1}]
    test = {
        "rule_files": [str(path) for path in rules],
        "evaluation_interval": f"{past.evaluation}s",
        # Without it the order is another one each time.
        "group_eval_order": [
            group["name"] for path in rules for group in yaml.safe_load(path.read_text())["groups"]
        ],
        "tests": [
            {
                "interval": f"{past.interval}s",
                "input_series": [
                    {"series": series, "values": " ".join(values)}
                    for series, values in past.series.items()
                ],
                "promql_expr_test": [
                    {"expr": one.expr, "eval_time": f"{one.at:g}s", "exp_samples": never}
                    for one in questions
                ],
            }
        ],
    }
    path = folder / "questions.yml"
    path.write_text(yaml.safe_dump(test, sort_keys=False, width=1000))
    promtool = require_tool("promtool")
    told = subprocess.run([promtool, "test", "rules", path], capture_output=True, text=True)  # noqa: PLW1510
    answers = [_answer(text) for text in _GOT.findall(told.stdout + told.stderr)]
    assert len(answers) == len(questions), (told.stdout + told.stderr)[-3000:]
    return answers


def _answer(text: str) -> Answer | None:
    if not text:
        return None
    if text == "nil":
        return {}
    return {_labels(found[1]): float(found[2]) for found in _SAMPLE.finditer(text)}


def _labels(text: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, json.loads(value)) for name, value in _LABEL.findall(text)))
