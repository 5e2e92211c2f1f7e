"""Folders of runs, as they are left behind."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from paramserver.observe.events import (
    Event,
    Progressed,
    RunEnded,
    RunStarted,
    WorkerChanged,
    WorkersCounted,
    to_line,
)
from paramserver.training.result import History

BEGAN = 1_795_672_672.0

STARTED = RunStarted(
    version="1.2.3", mode="async", model="softmax", data="digits", n_workers=2, n_partitions=2,
    n_examples=1000, n_features=64, n_parameters=650, total=20.0, host="here", pid=7,
)  # fmt: skip

SUMMARY: dict[str, Any] = {
    "mode": "async", "n_workers": 2, "n_partitions": 2, "n_examples": 1000, "n_features": 64,
    "n_parameters": 650, "kernel": "numpy", "rounds": None, "updates": 3, "epochs": 3.0,
    "wall_s": 2.0, "compute_s": 1.0, "wire_s": 1.0, "wait_s": 0.5, "apply_s": 0.1,
    "pushed_bytes": 3_000, "pulled_bytes": 4_000, "examples_per_s": 1500.0, "train_loss": 0.25,
    "test_score": 0.9375, "metric": "accuracy",
    "staleness": {
        "mean": 1.0, "p50": 1, "p95": 2, "max": 2, "histogram": {"0": 1, "1": 1, "2": 1},
        "by_worker": {
            "local1-0": {"mean": 0.5, "p50": 0, "p95": 1, "max": 1, "histogram": {"0": 1, "1": 1}},
            "local1-1": {"mean": 2.0, "p50": 2, "p95": 2, "max": 2, "histogram": {"2": 1}},
        },
    },
    "rejected": {"nonfinite": 2}, "workers_lost": 1, "weights_sha256": "c0ffee",
    "baseline": {"name": "SGDClassifier(loss='log_loss')", "wall_s": 4.0, "score": 0.9375},
    "speedup": 2.0,
}  # fmt: skip


def progressed(unit: int, wall_s: float, loss: float = 0.5) -> Progressed:
    return Progressed(
        unit=unit, epochs=float(unit), wall_s=wall_s, train_loss=loss, test_score=0.875,
        n_workers=2, staleness=1.0,
    )  # fmt: skip


def counted(n_ended: int) -> WorkersCounted:
    return WorkersCounted(
        workers=[
            {"worker_id": f"local1-{i}", "incarnation": 1 + i, "host": "here", "pid": 70 + i,
             "n_ended": n_ended} for i in range(2)
        ]
    )  # fmt: skip


LOST = WorkerChanged(worker_id="local1-1", incarnation=2, change="lost", reason="killed by SIGKILL")
CAME = WorkerChanged(worker_id="local1-1", incarnation=3, change="joined")

STORY: list[tuple[float, Event]] = [
    (0.0, STARTED),
    (0.1, counted(0)),
    (0.5, progressed(1, 0.4)),
    (1.0, LOST),
    (1.25, CAME),
    (1.5, progressed(2, 1.4)),
    (2.1, counted(9)),
    (2.5, RunEnded(outcome="done", summary=SUMMARY)),
]


def resumed() -> RunStarted:
    return replace(STARTED, resumed=True)


def write_run(
    folder: Path,
    story: list[tuple[float, Event]],
    *,
    summary: dict[str, Any] | None = None,
    history: list[list[Any]] | None = None,
    timeline: str | None = None,
) -> Path:
    """Write the files of a run; return its folder."""
    folder.mkdir()
    (folder / "config.toml").write_text('mode = "async"\ndata = "digits"\nworkers = 2\n')
    lines = [to_line(event, BEGAN + at) for at, event in story]
    (folder / "events.jsonl").write_text("".join(lines))
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary))
    if timeline is not None:
        (folder / "timeline.csv").write_text(timeline)
    if history is not None:
        with (folder / "history.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(History().columns)
            table.writerows(history)
    return folder
