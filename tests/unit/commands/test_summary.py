"""The figures of a run, and their words."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from paramserver.commands.baseline import Comparison, compare, reached_at
from paramserver.commands.prepare import Prepared, load_data, prepare
from paramserver.commands.settings import TrainSettings
from paramserver.commands.summary import describe, summarise
from paramserver.training.result import History, Progress, TrainingResult

KEYS = {
    "mode", "n_workers", "n_partitions", "n_examples", "n_features", "n_parameters", "rounds",
    "updates", "epochs", "wall_s", "examples_per_s", "train_loss", "test_score", "metric",
    "staleness", "rejected", "workers_lost", "weights_sha256", "baseline", "speedup",
}  # fmt: skip


def prepared(mode: str, data: str = "iris") -> Prepared:
    settings = TrainSettings(mode=mode, data=data, workers=2)
    return prepare(settings, load_data(settings))


def result(run: Prepared, score: float = 0.5) -> TrainingResult:
    is_avg = run.settings.mode == "avg"
    last = Progress(2, 2.0, 2.0, 0.5, score, divergence=0.75 if is_avg else None)
    return TrainingResult(
        weights=np.zeros(run.learner.size, "float32"),
        learner=run.learner,
        mode=run.settings.mode,
        history=History([Progress(1, 1.0, 0.5, 0.7, 0.25), last]),
        units=2,
        examples=240,
        wall_s=2.0,
        compute_s=1.0,
        apply_s=0.5,
        lr=0.1,
        n_partitions=2,
        n_examples=120,
        staleness=Counter() if is_avg else Counter({0: 1, 3: 1}),
        staleness_by_worker={} if is_avg else {"a": Counter({0: 1}), "b": Counter({3: 1})},
        rejected={"nonfinite": 2, "stale": 0},
        workers_lost=1,
        wait_s=0.5,
        wire_s=1.5,
        setup_s=0.25,
        pushed_bytes=3_000,
        pulled_bytes=12,
    )


def test_the_summary_has_every_figure() -> None:
    run = prepared("avg")
    found = summarise(run, result(run))
    assert set(found) >= KEYS
    assert {k: found[k] for k in ("n_workers", "n_features", "n_parameters", "n_examples")} == {
        "n_workers": 2, "n_features": 4, "n_parameters": 15, "n_examples": 120
    }  # fmt: skip
    assert (found["rounds"], found["updates"], found["staleness"]) == (2, None, None)
    assert found["divergence"] == 0.75
    assert (found["epochs"], found["examples_per_s"]) == (2.0, 120.0)
    assert found["rejected"] == {"nonfinite": 2}
    asynchronous = prepared("async")
    found = summarise(asynchronous, result(asynchronous))
    assert (found["rounds"], found["updates"]) == (None, 2)
    assert found["staleness"]["histogram"] == {"0": 1, "3": 1}
    by_worker = found["staleness"]["by_worker"]
    assert {name: by_worker[name]["histogram"] for name in by_worker} == {
        "a": {"0": 1}, "b": {"3": 1}
    }  # fmt: skip


def test_the_words_of_a_run_that_has_diverged_stay_short() -> None:
    run = prepared("avg")
    done = dict(describe(run, result(run, -1.5e30)))["done"]
    assert done.startswith("held-out accuracy -1.50e+30, loss 0.5000 after 2.0 epochs in 2.00 s")


def test_the_words_say_what_it_brought_and_where_the_time_went() -> None:
    run = prepared("async")
    assert dict(describe(run, result(run))) == {
        "done": "held-out accuracy 0.5000, loss 0.5000 after 2.0 epochs in 2.00 s (120 examples/s)",
        "time": "2 workers: 25% computing, 38% wire, 12% waiting, 25% idle; the master applied for "
        "25%",
        "": "0.25 s before that to make the workers ready",
        "moved": "3.0 kB to the master, 12 B from it",
        "staleness": "mean 1.50, median 0, p95 3, max 3 of 2 updates",
        "refused": "2 nonfinite",
        "lost": "1 worker; what they held was done again by others",
    }


def test_every_choice_is_written_down() -> None:
    made = prepared("avg").settings
    assert (made.model, made.workers, made.partitions) == ("softmax", 2, 2)
    assert made.lr is not None
    again = prepare(made, load_data(made))
    assert again.settings == made


def test_a_score_counts_when_two_evaluations_in_a_row_are_at_it() -> None:
    scores = [0.2, 0.9, 0.5, 0.8, 0.9, 0.7]
    history = [Progress(i, i, float(i), 0.0, score) for i, score in enumerate(scores)]
    assert reached_at(history, 0.8) == 3.0
    assert reached_at(history, 0.95) == 5.0  # never: the end


def test_one_process_is_trained_until_it_is_as_good() -> None:
    run = prepared("avg")
    found = compare(run, result(run, score=0.6))
    assert found.is_reached
    assert found.name == "SGDClassifier(loss='log_loss')"
    assert found.speedup == found.wall_s / 2.0
    never = compare(run, replace(result(run), history=History([Progress(1, 1.0, 0.01, 0.1, 1.5)])))
    assert (never.is_reached, never.speedup) == (False, None)
    assert never.score <= 1.0


def test_the_comparison_is_said_as_it_is() -> None:
    faster = Comparison("SGD", 4.0, 5, 0.9, 0.9, 2.0)
    slower = Comparison("SGD", 1.0, 5, 0.9, 0.9, 2.0)
    never = Comparison("SGD", 1.0, 5, 0.8, 0.9, 2.0)
    assert faster.speedup == 2.0
    assert "2.0 times faster" in faster.describe()[1]
    assert "2.0 times SLOWER" in slower.describe()[1]
    assert never.describe() == ["SGD came to 0.8000 at best in 1.00 s (5 epochs), not to 0.9000"]
    assert never.as_summary() == {
        "baseline": {"name": "SGD", "wall_s": 1.0, "score": 0.8}, "speedup": None
    }  # fmt: skip
