"""Which weights of a fit are kept."""

from __future__ import annotations

from math import nan
from typing import Any

import numpy as np
import pytest

from paramserver.estimators.keeping import Best, Last, Mean
from paramserver.training.result import Progress


def show(kept: Last, *scores: float | None) -> Any:
    """Show it a round for each score; return what it keeps then. Weights are round numbers."""
    w = np.zeros(2)
    for number, score in enumerate(scores, 1):
        w = np.full(2, float(number))
        kept.look(w)
        assert kept(Progress(number, number, 0.0, 1.0, score)) is False
    return kept.of(w)[0]


@pytest.mark.parametrize(
    ("kept", "scores", "expected"),
    [
        (Last(), (0.5, 0.9, 0.7), 3),
        (Best(), (0.5, 0.9, 0.7), 2),
        (Best(), (0.9, 0.9), 1),  # the first of those that are as good, as there
        (Best(), (nan, 0.1, nan), 2),
        (Best(), (None, None), 2),
        (Best(0.8, np.array([-1.0, -1.0])), (0.5, 0.8), -1),
        (Best(0.8, np.array([-1.0, -1.0])), (0.5, 0.9), 2),
        (Mean(2, "float64", 1), (None, None, None), 2),
        (Mean(2, "float64", 3), (None, None, None, None), 3.5),
        (Mean(2, "float64", 9), (None, None), 2),
        (Mean(2, "float64", 1, (3, np.array([5.0, 5.0]))), (None,), 4),
    ],
)
def test_it_keeps_the_last_the_best_or_the_mean(kept: Last, scores: Any, expected: float) -> None:
    assert show(kept, *scores) == expected
