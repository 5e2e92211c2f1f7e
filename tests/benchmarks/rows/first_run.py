"""Row 16: the first command of a new user, cold, from the shell."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time

from tests.benchmarks.row import Measured, Metric, Row

FLOWER = "Flower's tutorial, as it prints"
FLOWER_S = 17.87
"""From the page of its scikit-learn tutorial (logistic regression, iris, 10 learners, 3 rounds);
quoted, not measured here."""
COMMAND = [
    "--mode", "avg", "--data", "iris", "--model", "logistic", "--partitions", "10",
    "--rounds", "3", "--no-baseline", "--json",
]  # fmt: skip


def measure(contender: str, _quick: bool) -> Measured:
    """Time the command from its start to its end."""
    if contender == FLOWER:
        return {"whole": FLOWER_S, "outcome": "quoted"}
    with tempfile.TemporaryDirectory() as folder:  # where it leaves its report
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "paramserver.train", *COMMAND],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        took = time.perf_counter() - began
    if done.returncode != 0:
        return {"outcome": f"failed ({done.returncode}): {done.stderr.strip()[-200:]}"}
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["rounds"] == 3, summary
    assert summary["n_partitions"] == 10, summary
    return {"whole": took, "training": summary["wall_s"], "score": summary["test_score"]}


ROW = Row(
    key="16",
    title="first run: logistic regression on iris, 10 learners, 3 rounds, cold, from the shell",
    contenders=("paramserver", FLOWER),
    metrics=(
        Metric("whole", "s", goal=2.0),
        Metric("training", "s of it"),
        Metric("score", "held out", more_is_better=True),
    ),
    measure=measure,
    limit_s=60.0,
    n_repeats=5,
    note="`python -m paramserver.train " + " ".join(COMMAND) + "`",
)
