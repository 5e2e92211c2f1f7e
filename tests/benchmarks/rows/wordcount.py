"""Row 4: count the words of 90 MB of English-like text, 30 map and 60 reduce jobs, 2 workers.

Everyone reads the same file and leaves ``word<TAB>count`` lines in files; what is in them is
checked. The engines run when the clock starts. Memory is the peak of the resident sizes of all
processes of a contender, added up (what they share counts in each).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks import wordcount_jobs as jobs
from tests.benchmarks.peers import Dask, Ray
from tests.benchmarks.row import Measured, Metric, Row

N_WORKERS = 2
REPOSITORY = Path(__file__).resolve().parents[3]
SORT_UNIQ = """tr -s '[:space:]' '\\n' < "$1" | tr A-Z a-z | grep . | sort | uniq -c |
awk '{print $2 "\\t" $1}' > "$2"/part-00000"""


def measure(contender: str, quick: bool) -> Measured:
    """Count the words of the text, and check how many there were."""
    from tests.benchmarks.corpus import cached_corpus

    n_bytes = 200_000 if quick else 90_000_000
    text = str(cached_corpus(n_bytes))
    with tempfile.TemporaryDirectory() as out:
        with _peak_memory() as peak:
            seconds = COUNTERS[contender](text, out)
        found = jobs.read_totals(out)
    right = jobs.right_totals(text)
    if found != right:
        return {"outcome": f"wrong: {found} words in all and distinct, not {right}"}
    return {"speed": n_bytes / 1e6 / seconds, "memory": peak[0] / 1e6}


def _count_with_ours(text: str, out: str) -> float:
    command = [sys.executable, str(REPOSITORY / "examples/wordcount.py"), text, "--json"]
    options = {"--workers": N_WORKERS, "--map-jobs": jobs.N_MAP, "--reduce-jobs": jobs.N_REDUCE}
    command += [str(word) for option in options.items() for word in option]
    command += ["--out", str(Path(out, "counts"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"examples/wordcount.py: {done.stderr.strip().splitlines()[-1:]}")
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def _count_with_own_mapper(text: str, out: str) -> float:
    import paramserver as ps

    with ps.LocalCluster(N_WORKERS) as cluster:
        start = time.perf_counter()
        program = ps.MapReduce(jobs.count_block, sum, unit="words")
        program.run(
            text, cluster, n_map=jobs.N_MAP, n_reduce=jobs.N_REDUCE, out_dir=Path(out, "counts")
        )
        return time.perf_counter() - start


def _count_in_one_process(text: str, out: str) -> float:
    start = time.perf_counter()
    with open(text, "rb") as file:
        counts = jobs.merge(())
        for line in file:
            counts.update(line.lower().split())
    jobs.write(counts, f"{out}/part-00000")
    return time.perf_counter() - start


def _count_with_sort(text: str, out: str) -> float:
    start = time.perf_counter()
    subprocess.run(
        ["bash", "-c", SORT_UNIQ, "bash", text, out], check=True, env={**os.environ, "LC_ALL": "C"}
    )
    return time.perf_counter() - start


def _count_with_pool(text: str, out: str) -> float:
    import multiprocessing

    with multiprocessing.Pool(N_WORKERS) as pool:
        start = time.perf_counter()
        ranges = jobs.line_ranges(text, jobs.N_MAP)
        counts = jobs.merge(pool.imap_unordered(jobs.count_range, ranges))
        jobs.write(counts, f"{out}/part-00000")
        return time.perf_counter() - start


def _count_with_ray(text: str, out: str) -> float:
    cluster = _started(Ray())
    ray = cluster._ray
    count = ray.remote(num_returns=jobs.N_REDUCE)(jobs.count_range_split)

    @ray.remote
    def reduce(path: str, *parts: dict[bytes, int]) -> tuple[int, int]:
        return jobs.merge_and_write(parts, path)

    start = time.perf_counter()
    pieces = [count.remote(piece) for piece in jobs.line_ranges(text, jobs.N_MAP)]
    ray.get(
        [
            reduce.remote(f"{out}/part-{i:05d}", *(piece[i] for piece in pieces))
            for i in range(jobs.N_REDUCE)
        ]
    )
    took = time.perf_counter() - start
    cluster.stop()
    return took


def _count_with_dask_futures(text: str, out: str) -> float:
    cluster = _started(Dask())
    client = cluster._client
    start = time.perf_counter()
    maps = client.map(jobs.count_range_split, jobs.line_ranges(text, jobs.N_MAP), pure=False)
    client.gather(
        [
            client.submit(_reduce_column, i, f"{out}/part-{i:05d}", maps, pure=False)
            for i in range(jobs.N_REDUCE)
        ]
    )
    took = time.perf_counter() - start
    cluster.stop()
    return took


def _reduce_column(i: int, path: str, maps: list[list[dict[bytes, int]]]) -> tuple[int, int]:
    return jobs.merge_and_write([parts[i] for parts in maps], path)


def _count_with_dask_bag(text: str, out: str) -> float:
    import dask.bag

    cluster = _started(Dask())
    start = time.perf_counter()
    lines = dask.bag.read_text(text, blocksize=os.path.getsize(text) // jobs.N_MAP + 1)
    counts = lines.map(str.lower).map(str.split).flatten().frequencies()
    counts.map(lambda item: f"{item[0]}\t{item[1]}").to_textfiles(f"{out}/part-*")
    took = time.perf_counter() - start
    cluster.stop()
    return took


def _count_with_spark(text: str, out: str) -> float:
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as f

    if shutil.which("java") is None:
        raise ModuleNotFoundError("pyspark needs java")
    spark = (
        SparkSession.builder.master(f"local[{N_WORKERS}]")
        .config("spark.sql.shuffle.partitions", jobs.N_REDUCE)
        .config("spark.ui.enabled", False)
        .config("spark.driver.bindAddress", "127.0.0.1")
        .getOrCreate()
    )
    spark.sparkContext.setLogLevel("OFF")
    spark.range(1000).groupBy((f.col("id") % 7).alias("k")).count().collect()  # warm
    start = time.perf_counter()
    words = spark.read.text(text).select(f.explode(f.split(f.lower("value"), r"\s+")).alias("word"))
    counts = words.where("word != ''").groupBy("word").count()
    counts.write.csv(f"{out}/counts", sep="\t", header=False, quote="", escape="")
    took = time.perf_counter() - start
    spark.stop()
    return took


def _started(cluster: Any) -> Any:
    cluster.load()
    cluster.start(N_WORKERS)
    cluster.meet(N_WORKERS)
    return cluster


@contextmanager
def _peak_memory() -> Iterator[list[int]]:
    """Watch this process and all that descend from it; the peak is in the list at the end."""
    peak = [0]
    end = threading.Event()

    def watch() -> None:
        own = psutil.Process()
        while not end.wait(0.1):
            total = 0
            for process in [own, *own.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            peak[0] = max(peak[0], total)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        end.set()
        thread.join()


COUNTERS: dict[str, Callable[[str, str], float]] = {
    "paramserver": _count_with_ours,
    "paramserver, a Counter as mapper": _count_with_own_mapper,
    "one process, Counter": _count_in_one_process,
    "tr | sort | uniq -c": _count_with_sort,
    "multiprocessing.Pool": _count_with_pool,
    "ray": _count_with_ray,
    "Spark DataFrame local[2]": _count_with_spark,
    "dask.distributed futures": _count_with_dask_futures,
    "dask.bag": _count_with_dask_bag,
}
ROW = Row(
    key="4",
    title="word count, 90 MB of English-like text, 30 map + 60 reduce jobs, 2 workers",
    contenders=tuple(COUNTERS),
    metrics=(Metric("speed", "MB/s", goal=50, more_is_better=True), Metric("memory", "MB")),
    measure=measure,
    n_repeats=3,
)
