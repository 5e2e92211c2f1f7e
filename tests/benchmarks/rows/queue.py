"""What a long queue costs on the master: memory of a queued job, time of a job, streaming."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from tests.benchmarks.jobs import noop
from tests.benchmarks.ours import Ours
from tests.benchmarks.row import Measured, Metric, Row

N_WORKERS = 2
N_BLOCKERS = 20
"""More jobs than the workers may hold ahead, so that what comes after them is queued."""


def wait_for_file(path: str) -> None:
    """Keep a worker busy until a file is there."""
    while not Path(path).exists():
        time.sleep(0.01)


def measure_memory(_contender: str, quick: bool) -> Measured:
    """Fill the queue of blocked workers; take off what the same number of futures costs."""
    n_jobs = 2_000 if quick else 100_000
    with TemporaryDirectory() as folder, _cluster() as cluster:
        release = str(Path(folder, "release"))
        blockers = [cluster.submit(wait_for_file, release) for _ in range(N_BLOCKERS)]
        futures: list[Future[None]] = []
        both = _growth(lambda: futures.extend(cluster.submit(noop) for _ in range(n_jobs)))
        # After, not before: what is freed in between would be used again and not be seen.
        bare: list[Future[None]] = []
        futures_only = _growth(lambda: bare.extend(Future() for _ in range(n_jobs)))
        Path(release).touch()
        for future in blockers + futures:
            future.result()
    return {
        "besides the future": (both - futures_only) / n_jobs,
        "future": futures_only / n_jobs,
    }


def measure_scaling(_contender: str, quick: bool) -> Measured:
    """Time a job when 1,000 to 1,000,000 are submitted at once."""
    sizes = (100, 1_000) if quick else (1_000, 10_000, 100_000, 1_000_000)
    measured: Measured = {}
    with _cluster() as cluster:
        for future in [cluster.submit(noop) for _ in range(sizes[0])]:
            future.result()
        for n_jobs in sizes:
            start = time.perf_counter()
            futures = [cluster.submit(noop) for _ in range(n_jobs)]
            while futures:
                futures.pop().result()
            measured[f"{n_jobs:,} jobs"] = (time.perf_counter() - start) / n_jobs * 1e6
    return measured


def measure_stream(_contender: str, quick: bool) -> Measured:
    """Send a million items through `map` with a buffer; memory must not follow their number."""
    n_items = 10_000 if quick else 1_000_000
    with _cluster() as cluster:
        executor = cluster.with_options(buffersize=10_000)
        for _ in executor.map(noop, range(n_items // 10)):
            pass
        gc.collect()
        process = psutil.Process()
        before = process.memory_info().rss
        start = time.perf_counter()
        peak = before
        for number, _ in enumerate(executor.map(noop, range(n_items))):
            if number % 10_000 == 0:
                peak = max(peak, process.memory_info().rss)
        took = time.perf_counter() - start
    return {"growth": (peak - before) / 1e6, "items": n_items / took}


def _cluster() -> Any:
    ours = Ours()
    ours.load()
    ours.start(N_WORKERS)
    ours.meet(N_WORKERS)
    return ours._cluster


def _growth(action: Callable[[], object]) -> int:
    """By how many bytes this process grows, as the operating system sees it."""
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    action()
    _settle(process)
    return process.memory_info().rss - before


def _settle(process: psutil.Process) -> None:
    """Wait until the I/O thread has taken everything in: its processor time stands still."""
    ticks = -1.0
    while (now := sum(process.cpu_times()[:2])) > ticks + 0.02:
        ticks = now
        time.sleep(0.2)


MEMORY = Row(
    key="queue-memory",
    title="100,000 queued jobs: bytes each on the master",
    contenders=("paramserver",),
    metrics=(Metric("besides the future", "bytes", goal=500), Metric("future", "bytes")),
    measure=measure_memory,
    n_repeats=3,
)
SCALING = Row(
    key="queue-length",
    title="time of a no-op job by `submit`, by the number submitted at once",
    contenders=("paramserver",),
    metrics=tuple(
        Metric(f"{n:,} jobs", "us", goal=100) for n in (1_000, 10_000, 100_000, 1_000_000)
    ),
    measure=measure_scaling,
    limit_s=600.0,
    n_repeats=2,
)
STREAM = Row(
    key="stream",
    title="a million items through `map` with buffersize=10,000",
    contenders=("paramserver",),
    metrics=(Metric("growth", "MB"), Metric("items", "items/s", more_is_better=True)),
    measure=measure_stream,
    n_repeats=2,
)
