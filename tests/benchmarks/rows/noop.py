"""Row 1: how many jobs a second, when the jobs do nothing."""

from __future__ import annotations

from tests.benchmarks.jobs import noop
from tests.benchmarks.peers import CONTENDERS
from tests.benchmarks.row import Measured, Metric, Row, median_time

N_WORKERS = 2


def measure(contender: str, quick: bool) -> Measured:
    """Time 10,000 no-op jobs, batched by the library and one by one, on a warm cluster."""
    n_jobs = 200 if quick else 10_000
    cluster = CONTENDERS[contender]()
    cluster.load()
    cluster.start(N_WORKERS)
    cluster.meet(N_WORKERS)
    items = list(range(n_jobs))
    cluster.map(noop, items[: n_jobs // 10])
    cluster.submit_all(noop, items[: n_jobs // 10])
    by_map = median_time(lambda: cluster.map(noop, items))
    by_submit = median_time(lambda: cluster.submit_all(noop, items))
    cluster.stop()
    return {"map": n_jobs / by_map, "submit": n_jobs / by_submit}


ROW = Row(
    key="1",
    title="10,000 no-op jobs, 2 workers",
    contenders=tuple(CONTENDERS),
    metrics=(
        Metric("map", "jobs/s", goal=50_000, more_is_better=True),
        Metric("submit", "jobs/s", goal=10_000, more_is_better=True),
    ),
    measure=measure,
)
