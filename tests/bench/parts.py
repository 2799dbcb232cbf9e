"""The parts of `make bench`, in the order in which RESULTS.md has them."""

from collections.abc import Callable

from tests.bench.backtest import bench_backtest
from tests.bench.commits import bench_commits
from tests.bench.crowded import bench_crowded
from tests.bench.deciding import bench_deciding
from tests.bench.footprints import bench_footprints
from tests.bench.intake import bench_intake
from tests.bench.kept import bench_kept
from tests.bench.mass import bench_mass
from tests.bench.pace import Pace
from tests.bench.reaction import bench_metric, bench_reaction
from tests.bench.report import Result
from tests.bench.restarts import bench_restarts
from tests.bench.rules import bench_rules
from tests.bench.scrapes import bench_churn, bench_scrapes
from tests.bench.storm import bench_storm
from tests.peers.stage import Stage

PARTS: dict[str, Callable[[Stage, Pace], Result]] = {
    "intake": bench_intake,
    "crowded": bench_crowded,
    "commits": bench_commits,
    "footprints": bench_footprints,
    "restarts": bench_restarts,
    "reaction": bench_reaction,
    "metric": bench_metric,
    "mass": bench_mass,
    "scrapes": bench_scrapes,
    "churn": bench_churn,
    "rules": bench_rules,
    "kept": bench_kept,
    "deciding": bench_deciding,
    "storm": bench_storm,
    "backtest": bench_backtest,
}
