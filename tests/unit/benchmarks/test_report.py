"""The benchmark's tables: medians, ratios in the right direction, nobody dropped."""

from tests.benchmarks.report import Round, markdown, median, outcome, ratio
from tests.benchmarks.row import Metric
from tests.benchmarks.rows import PLACES, load_row

SPEED = Metric("map", "jobs/s", goal=50_000, more_is_better=True)
TIME = Metric("p50", "ms", goal=0.2)
ROUNDS = [
    Round("1", "paramserver", 0, {"map": 100.0, "p50": 1.0}),
    Round("1", "paramserver", 1, {"map": 900.0, "p50": 9.0}),
    Round("1", "paramserver", 2, {"map": 200.0, "p50": 2.0}),
    Round("1", "ray", 0, {"map": 50.0, "p50": 8.0}),
    Round("1", "dask.distributed", 0, {"outcome": "not installed (No module named 'distributed')"}),
]


def test_the_median_is_of_the_contenders_own_rounds() -> None:
    assert median(SPEED, ROUNDS, "paramserver") == 200.0
    assert median(SPEED, ROUNDS, "dask.distributed") is None


def test_a_ratio_above_one_says_that_ours_is_better_whichever_way_the_metric_points() -> None:
    assert ratio(SPEED, ROUNDS, "ray") == 4.0
    assert ratio(TIME, ROUNDS, "ray") == 4.0
    assert ratio(TIME, ROUNDS, "dask.distributed") is None


def test_who_is_not_installed_keeps_a_line_that_says_so() -> None:
    assert outcome(ROUNDS, "dask.distributed").startswith("not installed")
    about = {"begun": "2026-01-01", "processor": "p", "cores": 2, "python": "3.11", "commit": "c"}
    lines = markdown(ROUNDS, about).splitlines()
    assert [line for line in lines if line.startswith("| dask.distributed | - | - | not installed")]
    assert [line for line in lines if line.startswith("| ray | 50 (4x) |")]


def test_every_row_has_us_among_its_contenders_and_its_own_key() -> None:
    for key in PLACES:
        row = load_row(key)
        assert row.key == key
        assert "paramserver" in row.contenders
