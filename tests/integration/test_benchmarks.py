"""The benchmarks run, drop nobody, and leave nothing behind. Their figures are not judged here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.rows import load_row


def run_quickly(
    repository: Path, out: Path, *options: str, suite: str = "core"
) -> list[dict[str, Any]]:
    """Run a benchmark with tiny sizes and return its rounds."""
    program = f"tests.benchmarks.bench_{suite}"
    subprocess.run(
        [sys.executable, "-m", program, "--quick", "--out", out, *options],
        cwd=repository,
        check=True,
        capture_output=True,
    )
    [figures] = out.glob(f"{suite}-*.json")
    assert figures.with_suffix(".md").exists()
    rounds: list[dict[str, Any]] = json.loads(figures.read_text(encoding="utf-8"))["rounds"]
    return rounds


@pytest.mark.parametrize(
    "key", ["1", "2", "3", "4", "14", "15", "queue-memory", "stream", "import"]
)
def test_our_own_line_of_a_row_has_every_figure(repository: Path, tmp_path: Path, key: str) -> None:
    for own in run_quickly(repository, tmp_path, "--rows", key, "--contenders", "paramserver"):
        assert own["measured"].get("outcome", "all results") == "all results"
        assert {metric.name for metric in load_row(key).metrics} <= own["measured"].keys()


def test_our_own_lines_of_the_training_rows_have_every_figure(
    repository: Path, tmp_path: Path
) -> None:
    keys = ["7", "9", "16"]
    options = ["--rows", *keys, "--contenders", "paramserver"]
    rounds = run_quickly(repository, tmp_path, *options, suite="training")
    assert [line["row"] for line in rounds] == keys
    for line in rounds:
        assert line["measured"].keys() == {metric.name for metric in load_row(line["row"]).metrics}


def test_a_peer_that_is_not_installed_says_so(repository: Path) -> None:
    program = (
        "import sys; sys.modules['ray'] = None\n"
        "from tests.benchmarks.measure import main; main('2', 'ray', '--quick')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=repository, check=True, capture_output=True
    )
    assert json.loads(done.stdout)["outcome"].startswith("not installed")


def test_a_peer_that_never_comes_back_is_given_up_and_ended(
    repository: Path, tmp_path: Path
) -> None:
    [line] = run_quickly(
        repository, tmp_path, "--rows", "15", "--contenders", "multiprocessing.Pool"
    )
    assert line["measured"]["outcome"] == "no end in 5 s"


def test_the_first_minutes_are_timed_to_the_end_of_each_line(
    repository: Path, tmp_path: Path
) -> None:
    program = [sys.executable, "-m", "tests.benchmarks.first_minutes"]
    subprocess.run(
        [*program, "--repeats", "1", "--out", tmp_path, "--lines", "iris", "Ctrl-C"],
        cwd=repository,
        check=True,
        capture_output=True,
    )
    [kept] = tmp_path.glob("first-minutes-*.json")
    rows = json.loads(kept.read_text(encoding="utf-8"))["figures"]
    assert [row["line"] for row in rows] == ["iris", "Ctrl-C"]
    assert all(0 < row["least_s"] <= row["median_s"] <= row["most_s"] for row in rows)
    assert all(row["cpu_s"] > 0 for row in rows)
    assert kept.with_suffix(".md").read_text(encoding="utf-8").count("| `python -m ") == 2
