"""Rows 5, 6 and 7: averaging rounds, when the learners compute nothing."""

from __future__ import annotations

from functools import partial

import numpy as np

from tests.benchmarks.averaging_peers import PEERS, bare_sum_rate, gloo_rate, peer_rate
from tests.benchmarks.resources import Meter
from tests.benchmarks.row import Measured, Metric, Row
from tests.benchmarks.vectors import Marks, require_marks
from tests.benchmarks.wire import counted_bytes

OURS = "paramserver"
SUM = "bare sum of the vectors"
GLOO = "torch gloo all-reduce"
BUDGET_S = 1.5


def measure(p: int, d: int, contender: str, quick: bool) -> Measured:
    """Count rounds in a second on warm workers; the final vector is checked."""
    if quick:
        d = min(d, 10_000)
    budget_s = 0.2 if quick else BUDGET_S
    if contender == OURS:
        return _measure_ours(p, d, budget_s)
    with Meter() as meter:
        if contender == SUM:
            rate = bare_sum_rate(p, d, budget_s / 3)
        elif contender == GLOO:
            rate = gloo_rate(p, d, 20 if quick else 1000 if d < 10_000 else 300 // p)
        else:
            rate = peer_rate(contender, p, d, budget_s)
    return {"rounds": rate, "memory": meter.peak_mb}


def _measure_ours(p: int, d: int, budget_s: float) -> Measured:
    import paramserver as ps

    data = (np.zeros((p, 1), np.float32), np.zeros(p, np.float32))
    with ps.LocalCluster(p) as cluster:

        def rounds_in(n: int) -> tuple[float, float]:
            mode = ps.Averaging(rounds=n, n_partitions=p)
            with Meter() as meter:
                result = ps.fit(Marks(d), data, mode=mode, cluster=cluster, lr=1.0, batch_size=1)
            require_marks(result.weights, n)
            return result.wall_s, meter.cpu_s

        warm_s, _ = rounds_in(50)
        n = max(20, round(50 * budget_s / warm_s))
        with Meter() as whole:
            wall_s, cpu_s = rounds_in(n)
        with counted_bytes() as total:
            rounds_in(50)
    return {
        "rounds": n / wall_s,
        "CPU": cpu_s / n * 1e3,
        "wire": total[0] / 50,
        "memory": whole.peak_mb,
    }


def _row(key: str, p: int, d: int, goal: float) -> Row:
    return Row(
        key=key,
        title=f"averaging rounds, {p} learners, {d:,} float32, nothing computed",
        contenders=(OURS, SUM, GLOO, *PEERS),
        metrics=(
            Metric("rounds", "1/s", goal=goal, more_is_better=True),
            Metric("CPU", "ms a round"),
            Metric("wire", "bytes a round"),
            Metric("memory", "MB"),
        ),
        measure=partial(measure, p, d),
        limit_s=60.0,
        n_repeats=3,
        note="The sum alone, on one core and without processes, is the limit. gloo has no master: "
        "its processes reduce among themselves. CPU is of all processes, memory the master's peak, "
        "and on the wire is what goes over sockets, the start of the training included.",
    )


TWO = _row("5", 2, 1_000_000, 400)
FOUR = _row("6", 4, 1_000_000, 200)
SMALL = _row("7", 2, 1_000, 2_000)
