"""The trainings that a fit is made of, one after the other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from paramserver.estimators import fitting
from paramserver.estimators.fitting import Fitting, Steps
from paramserver.estimators.keeping import Last
from paramserver.estimators.places import Place
from paramserver.estimators.watching import Watching
from paramserver.training.learner import Batch
from paramserver.training.modes import AsyncSGD, Averaging
from paramserver.training.result import History, Progress

ROWS = Batch(np.zeros((10, 2)), np.zeros(10))
LEARNER: Any = object()


def fit_of(rounds: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Fitting, list[dict[str, Any]]]:
    """Return a fit whose trainings get no better, and what each of them is asked for."""
    asked: list[dict[str, Any]] = []

    def train(_: Any, rows: Any, **how: Any) -> Any:
        asked.append(how)
        history = History()
        mode = how["mode"]
        for n in range(mode.rounds if isinstance(mode, Averaging) else mode.epochs):
            history.append(Progress(n + 1, n + 1.0, 0.5 * (n + 1), 1.0, None))
            if how["callbacks"][-1](history[-1]):
                break
        return SimpleNamespace(weights=np.full(3, float(len(asked))), history=history)

    monkeypatch.setattr(fitting.session, "fit", train)
    watching = Watching(0.1, 2, by_score=False, verbose=False)
    fit = Fitting(ROWS, None, Place(None, 3), watching, 7, rounds, True, None, Last())
    return fit, asked


def test_each_training_goes_on_from_the_one_before_with_what_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fit, asked = fit_of(8, monkeypatch)
    ways = [Steps(LEARNER), Steps(LEARNER, "adam", 0.5, 16), Steps(LEARNER, "adam", 0.1, 16)]
    weights, history = fit.train(ways, np.zeros(3), lambda _: {})
    # The first round is better than nothing, two more are not; after that each is given two.
    assert [how["mode"] for how in asked] == [
        Averaging(8, n_partitions=3),
        AsyncSGD(5, "adam", n_partitions=3),
        AsyncSGD(3, "adam", n_partitions=3),
    ]
    assert [how["start"].tolist() for how in asked] == [[0.0] * 3, [1.0] * 3, [2.0] * 3]
    assert [how["seed"] for how in asked] == [7, 8, 9]  # no pass takes rows as another one did
    assert [how["lr"] for how in asked] == [1.0, 0.5, 0.1]
    assert [told.unit for told in history] == [told.epochs for told in history] == list(range(1, 8))
    assert [told.wall_s for told in history] == [0.5 * n for n in range(1, 8)]
    assert weights.tolist() == [3.0] * 3
    assert fit.watching.has_converged
    assert fit.rows_each == 4


def test_no_training_begins_when_the_rounds_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    fit, asked = fit_of(3, monkeypatch)
    fit.train([Steps(LEARNER)] * 4, None, lambda _: {})
    assert len(asked) == 1
    assert (fit.watching.n_rounds, fit.watching.has_converged) == (3, True)


@pytest.mark.parametrize("has_converged", [False, True])
def test_who_ends_a_training_ends_the_fit(
    monkeypatch: pytest.MonkeyPatch, has_converged: bool
) -> None:
    fit, asked = fit_of(8, monkeypatch)
    watching: Any = SimpleNamespace(n_rounds=1, has_converged=has_converged)
    fit.watching = watching
    monkeypatch.setattr(fitting, "Telling", lambda *_: lambda progress: True)
    fit.told = SimpleNamespace(is_asked_to_end=True)  # type: ignore[assignment]
    _, history = fit.train([Steps(LEARNER)] * 4, None, lambda _: {})
    assert (len(asked), len(history)) == (1, 1)
