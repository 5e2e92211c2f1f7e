"""What a training tells: a table on the way, figures at the end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramserver.errors import ConfigError
from paramserver.training.result import MAX_ROWS, History, Progress, TrainingResult
from paramserver.training.staleness import summarise
from paramserver.training.timeline import JobSpan


def told(unit: int, score: float | None = None) -> Progress:
    return Progress(unit, unit / 2, unit / 8, 1 / (1 + unit), score)


def test_a_history_is_written_as_a_table(tmp_path: Path) -> None:
    history = History([told(1), told(3, 0.5)])
    history.to_csv(tmp_path / "history.csv")
    assert (tmp_path / "history.csv").read_text() == (
        "unit,epochs,wall_s,train_loss,test_score,staleness,divergence\n"
        "1,0.5,0.125,0.5,,,\n3,1.5,0.375,0.25,0.5,,\n"
    )
    assert History.from_rows(history.to_rows()) == history


def test_a_long_history_is_thinned_out_between_its_ends() -> None:
    history = History()
    for unit in range(5 * MAX_ROWS):
        history.add(told(unit))
        assert len(history) <= MAX_ROWS
    units = [progress.unit for progress in history]
    assert (units[0], units[-1]) == (0, 5 * MAX_ROWS - 1)
    assert units == sorted(set(units))
    assert len(history) > MAX_ROWS / 3


def test_a_percentile_is_the_least_staleness_that_so_many_do_not_pass() -> None:
    values = [0] * 90 + [1] * 5 + [7] * 5
    found = summarise(Counter(values))
    assert found == {
        "mean": 0.4,
        "p50": 0,
        "p95": 1,
        "max": 7,
        "histogram": {"0": 90, "1": 5, "7": 5},
    }
    assert summarise({0: 94, 7: 6})["p95"] == 7
    assert summarise({3: 0}) == {"mean": 0.0, "p50": 0, "p95": 0, "max": 0, "histogram": {}}


@dataclass(frozen=True)
class Named:
    name: str = "x"

    def to_sklearn(self, w: Any) -> tuple[str, list[float]]:
        return self.name, w.tolist()


def result_of(learner: Any) -> TrainingResult:
    return TrainingResult(
        weights=np.ones(2),
        learner=learner,
        mode="async",
        history=History([told(1, 0.5)]),
        units=4,
        examples=30,
        wall_s=2.0,
        compute_s=3.0,
        apply_s=0.5,
        lr=0.1,
        n_partitions=2,
        n_examples=20,
        staleness=Counter({0: 3, 1: 1}),
        staleness_by_worker={"b": Counter({1: 1}), "a": Counter({0: 3})},
        wait_s=0.25,
        wire_s=0.125,
    )


def test_the_figures_of_a_result() -> None:
    result = result_of(Named())
    assert (result.epochs, result.test_score) == (1.5, 0.5)
    assert result.timings == {"compute": 3.0, "wait": 0.25, "wire": 0.125, "apply": 0.5}
    summary = result.staleness_summary
    assert (summary["mean"], summary["max"]) == (0.25, 1)
    assert list(summary["by_worker"]) == ["a", "b"]
    assert summary["by_worker"]["b"] == summarise({1: 1})


def test_a_result_draws_itself() -> None:
    result = result_of(Named())
    result.timeline = [JobSpan("a", 0, 1, 0.0, 0.5)]
    assert [len(figure.axes) for figure in (
        result.plot(), result.plot_staleness(), result.plot_timeline()
    )] == [4, 3, 1]  # fmt: skip


def test_a_stock_estimator_is_made_by_the_learner_or_refused_in_words() -> None:
    assert result_of(Named("ridge")).to_sklearn() == ("ridge", [1.0, 1.0])
    with pytest.raises(ConfigError, match="object has no counterpart in scikit-learn"):
        result_of(object()).to_sklearn()


def test_a_result_is_shown_in_a_line_whatever_it_holds() -> None:
    result = result_of(Named())
    result.units = 1234
    assert repr(result) == (
        "<TrainingResult of Named: 1,234 updates, loss 0.5, held-out 0.5, 2.00 s>"
    )
    result.mode, result.history = "avg", History()
    assert repr(result) == "<TrainingResult of Named: 1,234 rounds, 2.00 s>"
