"""``python -m paramserver.train``, as users type it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def train(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "paramserver.train", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def summary(*arguments: str) -> dict[str, Any]:
    done = train("--json", "--no-baseline", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("mode", ["avg", "async"])
def test_with_nothing_but_a_mode_it_learns_the_digits(mode: str) -> None:
    found = summary("--mode", mode)
    assert found["mode"] == mode
    assert found["test_score"] > 0.95
    assert found["n_parameters"] == 650
    assert found["epochs"] == pytest.approx(20)
    assert len(found["weights_sha256"]) == 64
    if mode == "async":
        assert sum(found["staleness"]["histogram"].values()) == found["updates"]
    else:
        assert found["rounds"] == 20


def test_averaging_is_reproducible_and_the_seed_counts() -> None:
    runs = [summary("--mode", "avg", "--rounds", "3", "--seed", s, "--quiet") for s in "114"]
    one, same, other = (run["weights_sha256"] for run in runs)
    assert one == same != other


def test_a_quiet_run_prints_the_summary_alone() -> None:
    done = train("--mode", "avg", "--rounds", "2", "--quiet", "--json", "--no-baseline")
    assert len(done.stdout.splitlines()) == 1
    assert train("--mode", "avg", "--rounds", "2", "--quiet", "--no-baseline").stdout == ""


def test_a_table_of_the_users_own_is_trained_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 3))
    kinds = np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")
    lines = [",".join([*map(str, row), kind]) for row, kind in zip(X, kinds, strict=True)]
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(["a,b,c,answer", *lines]))
    for model in ("softmax", "logistic", "hinge", "mlp"):
        found = summary("--mode", "avg", "--data", str(path), "--model", model)
        assert found["test_score"] > 0.9, model


def test_training_ends_when_the_score_is_reached() -> None:
    found = summary("--mode", "async", "--epochs", "100000", "--target-score", "0.9")
    assert found["epochs"] < 100000
    assert found["test_score"] >= 0.85


def test_it_is_compared_with_scikit_learn_on_the_same_data() -> None:
    done = train("--mode", "avg", "--data", "iris", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["baseline"]["name"].startswith("SGDClassifier")
    assert "compared with one scikit-learn process" in done.stdout
    assert ("SLOWER" in done.stdout) == (found["speedup"] is not None and found["speedup"] < 1)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--mode", "both"), 77, "both"),
        ((), 77, "--mode"),
        (("--mode", "avg", "--data", "mnsit"), 77, "There are: breast-cancer"),
        (("--mode", "avg", "--data", "nowhere.csv"), 1, "no file nowhere.csv"),
        (("--mode", "avg", "--model", "forest"), 77, "There are: softmax"),
        (("--mode", "avg", "--rounds", "0"), 77, "rounds must be 1 or more"),
        (("--mode", "avg", "--lr", "-1"), 77, "learning rate"),
        (("--mode", "avg", "--workers", "0"), 77, "n_workers"),
        (("--mode", "avg", "--partitions", "5000"), 77, "cannot be cut into 5000 partitions"),
        (("--mode", "avg", "--batch-size", "0"), 77, "batch_size"),
        (("--mode", "avg", "--wait-for", "9"), 77, "wait_for"),
        (("--mode", "avg", "--label", "x"), 77, "--label goes with a file"),
        (("--mode", "avg", "--epochs", "3"), 77, "--epochs goes with --mode async"),
        (("--mode", "avg", "--l2", "-1"), 77, "--l2 must be 0 or more"),
        (("--mode", "async", "--optimizer", "sdg"), 77, "adagrad, adam"),
        (("--mode", "async", "--staleness-bound", "-1"), 77, "staleness-bound"),
        (("--mode", "avg", "--lr", "1e30", "--rounds", "50"), 1, "learning rate is too large"),
    ],
)
def test_what_cannot_be_is_one_paragraph_and_an_exit_code(
    arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = train("--no-baseline", *arguments)
    assert done.returncode == code, done.stderr
    assert words in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
