"""What is evaluated for a backtest is what Prometheus' own engine makes of the same samples."""

import math
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.backtest_site import plan_of, replay, values_of
from tests.peers.rule_engine import Past, Question, ask

pytestmark = pytest.mark.integration

_INTERVAL = 15
_COUNT = 60
_SECONDS = (0, 37, 300, 450, 615, 840)
_EXPRESSIONS = """
m
m{a=~"x|y",b!="1"}
m offset 40s
timestamp(m)
m > 2
m > bool 2
2 < m
2 <= bool m
m * 2 + 1
-m
10 % (m + 1)
m / 0
2 ^ m
m + on (a) group_left () max by (a) (n)
m * on (a) group_left (z) n
max by (a) (n) * on (a) group_right () m
m - on (a, b) m{b="1"}
m == on (a) group_left () max by (a) (n)
m > bool on (a) group_left () max by (a) (n)
m * on (a) n
n * on (a) m
m + ignoring (b) group_left () sum by (a) (m)
m and on (a) n > 1
m or n
m or on (a) n
n or on (a) m
m unless on (a) n
m and m > 1 unless on (b) n
max by (a) (m)
min without (b) (m)
sum (m)
avg by (b) (m)
count by (a) (m > 1)
group by (b) (m)
count_values by (a) ("v", m)
sum by (a) (topk by (a) (1, m))
sum by (a) (bottomk by (a) (1, m))
count (topk (2, m))
rate(c[1m])
rate(c[2m] offset 30s)
increase(c[5m])
irate(c[1m])
delta(m[2m])
idelta(m[2m])
changes(m[5m])
resets(c[5m])
last_over_time(m[1m])
max_over_time(m[3m])
min_over_time(m[3m])
avg_over_time(m[3m])
sum_over_time(m[3m])
count_over_time(m[3m])
present_over_time(m[1m])
count_over_time(present_over_time(m[1m])[5m:1m])
max_over_time((m * 2)[3m:30s] offset 1m)
absent(m{a="x"})
absent(nothing{a="x",b=~".+"})
absent_over_time(m{a="y"}[1m])
clamp_min(m, 2)
clamp_max(m, 2)
clamp(m, 1, 3)
round(m * 0.3, 0.5)
abs(m - 2)
floor(m / 2)
ceil(m / 2)
sgn(m - 2)
sqrt(m)
ln(m)
label_replace(m, "c", "$2-$1", "a", "(.)(.*)")
label_replace(m, "b", "", "b", ".*")
label_replace(m, "a", "same", "b", "(.*)")
label_join(m, "c", "+", "a", "b")
vector(time())
m + scalar(sum(n))
scalar(m) + 1
hour(vector(4000)) + minute(vector(4000)) + day_of_week(vector(4000))
{__name__="m"} + 0
sort(m)
""".strip().splitlines()

_value = st.sampled_from(["0", "1", "2", "3", "5", "0.5", "_", "_", "stale", "NaN", "-1"])
_rises = st.sampled_from(["0", "0", "1", "2.5", "7", "reset", "_", "stale"])


@st.composite
def _gauges(draw: st.DrawFn) -> str:
    runs = draw(st.lists(st.tuples(_value, st.integers(1, 25)), min_size=1, max_size=12))
    values = [value for value, count in runs for _ in range(1 if value == "stale" else count)]
    return " ".join((values * _COUNT)[:_COUNT])


@st.composite
def _counters(draw: st.DrawFn) -> str:
    total, values = draw(st.sampled_from([0.0, 3.0, 1000.0])), []
    for rise in draw(st.lists(_rises, min_size=_COUNT, max_size=_COUNT)):
        if rise in {"_", "stale"}:
            values.append(rise)
            continue
        total = 0.5 if rise == "reset" else total + float(rise)
        values.append(repr(total))
    return " ".join(values)


_NAMES = ['m{a="x",b="1"}', 'm{a="x",b="2"}', 'm{a="y",b="1"}', 'n{a="x",z="q"}', 'n{a="y",z="r"}']
_samples = st.fixed_dictionaries(
    {
        **{name: _gauges() for name in [*_NAMES, 'n{a="y",z="s"}']},
        'c{a="x"}': _counters(),
        'c{a="y"}': _counters(),
    }
)
_few = settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))


@given(_samples)
# At first one side is empty, and the other ambiguous: no error where nothing can match.
@example({'n{a="x",z="q"}': "_ _ 1 1", 'm{a="x",b="1"}': "1", 'm{a="x",b="2"}': "1"})
@_few
def test_every_kind_of_expression_yields_what_prometheus_says(
    samples: dict[str, str],
) -> None:
    series = {name: values.split() for name, values in samples.items()}
    questions = [Question(expr, at) for expr in _EXPRESSIONS for at in _SECONDS]
    with tempfile.TemporaryDirectory() as folder:
        answers = iter(ask(Path(folder), [], Past(series, _INTERVAL, 60), questions))

    for expr in _EXPRESSIONS:
        ours = values_of(expr, series, _INTERVAL, _SECONDS)
        for at, mine in zip(_SECONDS, ours, strict=True):
            _same(next(answers), mine, f"{expr} at {at} s")


def _same(
    theirs: dict[tuple[tuple[str, str], ...], float] | None,
    mine: dict[tuple[tuple[str, str], ...], float] | None,
    what: str,
) -> None:
    if theirs is None or mine is None:
        assert theirs is mine, what
        return
    assert theirs.keys() == mine.keys(), what
    for labels, value in theirs.items():
        # The order in which floats are added up may differ.
        close = math.isclose(value, mine[labels], rel_tol=1e-12, abs_tol=1e-12)
        assert close or (math.isnan(value) and math.isnan(mine[labels])), (what, labels)


_RULES = {
    "groups": [
        {
            "name": "first",
            "rules": [
                {"alert": "Late", "expr": "later > 1", "for": "1m"},
                {"record": "total", "expr": "m + last_over_time(total[2m]) or m"},
                {
                    "record": "clock",
                    "expr": "0 * (m > 1) or last_over_time(clock[3m]) "
                    "+ (time() - last_over_time(seen[3m])) and m or 0 * m",
                },
                {"record": "seen", "expr": "clock * 0 + time()", "labels": {"of": "clock"}},
                {"record": "later", "expr": "max by (a) (m)"},
            ],
        },
        {
            "name": "second",
            "rules": [
                {"alert": "Now", "expr": "m > 1"},
                {"alert": "Soon", "expr": "m > 1", "for": "1m30s"},
                {"alert": "Kept", "expr": "m > 1", "for": "30s", "keep_firing_for": "1m"},
                {
                    "alert": "Clock",
                    "expr": "clock > 60",
                    "labels": {"a": "", "from": "{{ $labels.a }}"},
                },
                {"alert": "Total", "expr": "total > 20"},
                {"alert": "Gone", "expr": 'absent(m{a="x"})', "for": "30s"},
                {"alert": "Merged", "expr": "max by (a) (m) > 0", "labels": {"b": "same"}},
            ],
        },
    ]
}


@given(_samples, st.sampled_from([30, 90, 210, 10**6]))
@_few
def test_alerts_fire_and_end_at_the_evaluations_at_which_prometheus_has_them(
    samples: dict[str, str], chunk: int
) -> None:
    series = {name: values.split() for name, values in samples.items()}
    moments = range(0, _COUNT * _INTERVAL, 30)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rules.yml"
        path.write_text(yaml.safe_dump(_RULES, sort_keys=False))
        questions = [Question('ALERTS{alertstate="firing"}', at) for at in moments]
        theirs = ask(Path(folder), [path], Past(series, _INTERVAL, 30), questions)
        fired = replay(plan_of(path, 30), series, _INTERVAL, chunk)

    for at, answer in zip(moments, theirs, strict=True):
        mine = {
            one.labels
            for one in fired
            if one.fired_at <= at * 1000
            and (one.resolved_at is None or at * 1000 < one.resolved_at)
        }
        own = {"__name__", "alertstate"}
        assert mine == {
            tuple(pair for pair in labels if pair[0] not in own) for labels in answer or ()
        }, at
