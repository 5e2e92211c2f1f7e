"""The honest comparison: one scikit-learn process on the same data, to the same score.

Rule 1: a score counts as reached when two evaluations in a row are at it, on both sides.
Rule 2: time is that of training alone, on both sides: imports, the start of processes and
        evaluations are not counted.
Rule 3: the answer is given as it is, also where one process is faster.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from paramserver.commands.prepare import Prepared, class_weight
from paramserver.training.intake import take_in
from paramserver.training.result import Progress, TrainingResult

PATIENCE: Final = 20
"""One process may take so many times as long as the run ..."""
LEAST_S: Final = 3.0
"""... but at least so long, ..."""
MOST_S: Final = 60.0
"""... and no longer than this."""
MOST_EPOCHS: Final = 200


@dataclass(frozen=True)
class Comparison:
    """How one process did.

    Attributes
    ----------
    name : str
        What was trained.
    wall_s : float
        Training time to the target, or all that was spent where it was not reached.
    epochs : int
    score : float
        The best it had.
    target : float
        The score of the run.
    ours_s : float
        When the run had it.
    """

    name: str
    wall_s: float
    epochs: int
    score: float
    target: float
    ours_s: float

    @property
    def is_reached(self) -> bool:
        """Whether the one process came to the score of the run."""
        return self.score >= self.target

    @property
    def speedup(self) -> float | None:
        """How many times faster the run was; None where the target was not reached."""
        return self.wall_s / self.ours_s if self.is_reached else None

    def as_summary(self) -> dict[str, Any]:
        """Return what ``summary.json`` says of it."""
        baseline = {"name": self.name, "wall_s": self.wall_s, "score": self.score}
        return {"baseline": baseline, "speedup": self.speedup}

    def describe(self) -> list[str]:
        """Say it in words, in lines."""
        if not self.is_reached:
            return [
                f"{self.name} came to {self.score:.4f} at best in {self.wall_s:.2f} s "
                f"({self.epochs} epochs), not to {self.target:.4f}"
            ]
        ratio = self.wall_s / self.ours_s
        times = f"{ratio:.1f} times faster" if ratio >= 1 else f"{1 / ratio:.1f} times SLOWER"
        return [
            f"{self.name} reaches {self.target:.4f} in {self.wall_s:.2f} s ({self.epochs} epochs)",
            f"this run, in {self.ours_s:.2f} s, is {times} (training time alone on both sides)",
        ]


def compare(prepared: Prepared, result: TrainingResult) -> Comparison | None:
    """Train scikit-learn's own model in this process until it is as good as the result.

    It is given the same rows with the same weights. None if it does not know any.
    """
    dataset, target = prepared.dataset, result.test_score
    assert target is not None
    name, model = _counterpart(prepared)
    rows, _ = take_in(prepared.learner, dataset, None, class_weight(prepared.settings))
    extra: dict[str, Any] = {}
    if dataset.n_classes:
        extra["classes"] = list(range(dataset.n_classes))
    if rows.weight is not None:
        if "sample_weight" not in inspect.signature(model.partial_fit).parameters:
            return None
        extra["sample_weight"] = rows.weight
    limit_s = min(MOST_S, max(LEAST_S, PATIENCE * result.wall_s))
    spent_s, reached_s, reached_epoch = 0.0, 0.0, 0
    best = float("-inf")
    was_there = False
    epoch = 0
    while epoch < 2 or (spent_s < limit_s and epoch < MOST_EPOCHS):
        began = time.perf_counter()
        model.partial_fit(rows.X, rows.y, **extra)
        spent_s += time.perf_counter() - began
        epoch += 1
        score = float(model.score(dataset.X_test, dataset.y_test, dataset.weight_test))
        is_there = score >= target
        if is_there and was_there:
            ours_s = reached_at(result.history, target)
            return Comparison(name, reached_s, reached_epoch, score, target, ours_s)
        if is_there:
            reached_s, reached_epoch = spent_s, epoch
        else:
            best = max(best, score)  # a lucky moment that did not last is not reached either
        was_there = is_there
    ours_s = reached_at(result.history, target)
    return Comparison(name, spent_s, epoch, best, target, ours_s)


def reached_at(history: Sequence[Progress], target: float) -> float:
    """Return when a run came to a score: two evaluations in a row, or the last one.

    Examples
    --------
    >>> moments = [Progress(i, i, i / 10, 0.0, score) for i, score in enumerate([0.1, 0.9, 0.8])]
    >>> reached_at(moments, 0.8)
    0.1
    """
    for here, after in pairwise(history):
        if min(here.test_score or 0.0, after.test_score or 0.0) >= target:
            return here.wall_s
    return history[-1].wall_s


def _counterpart(prepared: Prepared) -> tuple[str, Any]:
    """Return scikit-learn's model of the same kind, and what to call it."""
    settings, n_classes = prepared.settings, prepared.dataset.n_classes
    l2, seed = settings.l2, settings.seed
    if settings.model == "mlp":
        from sklearn.neural_network import MLPClassifier, MLPRegressor

        kind = MLPClassifier if n_classes else MLPRegressor
        units = settings.units
        model = kind(units, activation=settings.activation, alpha=l2, random_state=seed)
        return f"{kind.__name__}({units})", model
    from sklearn.linear_model import SGDClassifier, SGDRegressor

    if not n_classes:
        return "SGDRegressor()", SGDRegressor(alpha=l2, random_state=seed)
    loss = "hinge" if settings.model == "hinge" else "log_loss"
    return f"SGDClassifier(loss='{loss}')", SGDClassifier(loss=loss, alpha=l2, random_state=seed)
