"""The word count with real processes: exact counts, also while workers die, and a tidy end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import paramserver as ps
from paramserver.errors import DataError

KEYS = [
    "total_words", "distinct_words", "seconds", "mb_per_s", "map_jobs", "reduce_jobs", "workers",
    "workers_lost", "attempts",
]  # fmt: skip


def count_words(block: bytes) -> Counter[bytes]:
    return Counter(block.lower().split())


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python's own sources: some megabytes that are there on every machine."""
    path = tmp_path_factory.mktemp("text") / "stdlib.txt"
    sources = sorted(Path(os.__file__).parent.glob("*.py"))
    path.write_bytes(b"".join(source.read_bytes() for source in sources) * 4)
    return path


@pytest.fixture(scope="module")
def wanted(text: Path) -> Counter[bytes]:
    return Counter(text.read_bytes().lower().split())


@pytest.fixture
def cluster() -> Iterator[ps.LocalCluster]:
    with ps.LocalCluster(3) as cluster:
        yield cluster
        assert not list(Path(cluster.scratch_folder).glob("mapreduce-*"))


class Killer:
    """Kills a worker the first times that a phase has come as far as told."""

    def __init__(self, cluster: ps.LocalCluster, at: list[tuple[str, int]]) -> None:
        self.cluster = cluster
        self.at = at

    def __call__(self, phase: str, n_done: int, n_total: int) -> None:
        while self.at and (phase, n_done) >= self.at[0]:
            self.at.pop(0)
            os.kill(self.cluster.status().workers[0].pid, signal.SIGKILL)


def test_counts_are_exact(
    cluster: ps.LocalCluster, text: Path, wanted: Counter[bytes], tmp_path: Path
) -> None:
    program = ps.MapReduce(count_words, sum, unit="words")
    result = program.run(text, cluster)
    assert result == wanted
    assert result.counters["map_jobs"] == 30
    assert result.counters["reduce_jobs"] == 60
    assert result.counters["attempts"] >= 90
    assert result.counters["workers_lost"] == 0
    files = program.run(text, cluster, out_dir=tmp_path / "out")
    lines = [line.split(b"\t") for path in files.paths for line in path.read_bytes().splitlines()]
    assert len(lines) == len(wanted)
    assert {word: int(n) for word, n in lines} == wanted


def test_counts_are_exact_while_workers_are_killed(
    cluster: ps.LocalCluster, text: Path, wanted: Counter[bytes]
) -> None:
    killer = Killer(cluster, [("map", 1), ("map", 10), ("reduce", 1), ("reduce", 20)])
    result = ps.MapReduce(count_words, sum).run(text, cluster, on_progress=killer)
    assert result == wanted
    assert not killer.at
    assert result.counters["workers_lost"] >= 1


def test_a_lost_map_output_is_made_again(
    cluster: ps.LocalCluster, text: Path, wanted: Counter[bytes]
) -> None:
    removed: list[Path] = []

    def remove_an_output(phase: str, n_done: int, n_total: int) -> None:
        outputs = sorted(Path(cluster.scratch_folder).glob("mapreduce-*/map-*"))
        if phase == "reduce" and outputs and not removed:
            removed.append(outputs[0])
            outputs[0].unlink()

    result = ps.MapReduce(slow_count, slow_sum).run(
        text, cluster, n_map=6, n_reduce=12, on_progress=remove_an_output
    )
    assert removed
    assert result == wanted
    assert result.counters["attempts"] > 18


def slow_count(block: bytes) -> Counter[bytes]:
    return Counter(block.lower().split())


def slow_sum(key: bytes, values: Any) -> int:
    """Takes long enough that not all reduce jobs are done at the first report."""
    total = 0
    for value in values:
        for _ in range(20):
            total += value
    return total // 20


def test_an_error_in_a_worker_comes_back_and_leaves_nothing(
    cluster: ps.LocalCluster, text: Path, tmp_path: Path
) -> None:
    def fail(block: bytes) -> Any:
        raise ZeroDivisionError("by design")

    out = tmp_path / "out"
    with pytest.raises(ZeroDivisionError, match="by design"):
        ps.MapReduce(fail, sum).run(text, cluster, n_map=2, n_reduce=2, out_dir=out)
    assert not out.exists()
    with pytest.raises(DataError, match="cannot be a key"):
        ps.MapReduce(lambda block: [([1], 1)], sum).run(text, cluster, n_map=2, n_reduce=2)


# --- the example ----------------------------------------------------------------------------------


def wordcount(repository: Path, *args: object) -> subprocess.CompletedProcess[bytes]:
    program = repository / "examples" / "wordcount.py"
    command = [sys.executable, str(program), *map(str, args)]
    return subprocess.run(command, capture_output=True, timeout=100, check=False)


def figures(done: subprocess.CompletedProcess[bytes]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert list(found) == KEYS
    return found


def test_the_example_writes_every_word_into_one_part(
    repository: Path, text: Path, wanted: Counter[bytes], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = wordcount(repository, text, "--workers", 2, "--out", out, "--json", "--top", 3)
    found = figures(done)
    assert found["total_words"] == wanted.total()
    assert found["distinct_words"] == len(wanted)
    assert (found["map_jobs"], found["reduce_jobs"], found["workers"]) == (30, 60, 2)
    parts = sorted(path.name for path in out.glob("part-*"))
    assert parts == [f"part-{n:05d}" for n in range(60)]
    lines = [line.split(b"\t") for part in parts for line in (out / part).read_bytes().splitlines()]
    assert {word: int(n) for word, n in lines} == wanted
    assert len(lines) == len(wanted)
    for word, n in wanted.most_common(3):
        assert f"{n:,}" in done.stdout.decode(), word


def test_the_example_kills_a_worker_and_counts_right(
    repository: Path, text: Path, wanted: Counter[bytes]
) -> None:
    done = wordcount(repository, *[text] * 4, "--workers", 4, "--kill-worker", "--json")
    found = figures(done)
    assert found["total_words"] == 4 * wanted.total()
    assert found["distinct_words"] == len(wanted)
    assert b"killed worker" in done.stderr
    assert found["workers_lost"] == 1


def test_the_example_counts_runs_of_letters(repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"Don't stop, don't-stop: \xc3\xa9t\xc3\xa9 x1y\n")
    out = tmp_path / "out"
    found = figures(
        wordcount(repository, path, "--workers", 1, "--letters", "--out", out, "--json")
    )
    lines = b"".join(part.read_bytes() for part in out.glob("part-*")).splitlines()
    assert dict(line.split(b"\t") for line in lines) == {
        b"don": b"2", b"t": b"3", b"stop": b"2", b"x": b"1", b"y": b"1",
    }  # fmt: skip
    assert found["total_words"] == 9


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["no-such-file.txt"], b"There is no file no-such-file.txt"),
        (["."], b". is a directory"),
        (["/dev/null"], b"is no regular file"),
        ([], b"required: FILE"),
        (["{text}", "--workers", "0"], b"n_workers must be"),
        (["{text}", "--map-jobs", "0"], b"n_map must be an integer of at least 1"),
        (["{text}", "--out", "/proc/nothing/out"], b"cannot be written"),
        (["{text}", "--out", "."], b"is not empty"),
    ],
)
def test_the_example_says_in_a_paragraph_what_is_wrong(
    repository: Path, text: Path, args: list[str], words: bytes
) -> None:
    done = wordcount(repository, "--workers", "1", *(arg.format(text=text) for arg in args))
    assert done.returncode == 77
    assert words in done.stderr
    assert b"Traceback" not in done.stderr
    has_started = b"1 worker is ready" in done.stderr
    assert has_started is (b"/proc/nothing" in done.stderr)  # that one is known when it is tried


def test_the_example_says_what_a_full_disk_lacks(
    repository: Path, text: Path, tmp_path: Path
) -> None:
    """A limit on the size of files stands for the disk: no job can write its output."""
    command = (
        f"ulimit -f 100; exec {sys.executable} {repository}/examples/wordcount.py {text} "
        f"--workers 1 --map-jobs 2 --out {tmp_path}/out"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=100, check=False)
    assert done.returncode == 77
    assert b"No space left for" in done.stderr
    assert b"bytes more were needed there" in done.stderr
    assert b"Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
