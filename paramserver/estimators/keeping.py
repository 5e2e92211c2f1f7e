"""Which weights of a fit are kept: the last ones, the best ones, or a mean.

Rule 1: the training itself does not know: it goes on from its own weights, whichever are kept.
"""

from __future__ import annotations

from math import inf

import numpy.typing as npt

from paramserver.training.aggregation import TailMean
from paramserver.training.result import Progress
from paramserver.training.vector import FloatVector


class Last:
    """Keeps the weights after the last round. A callback of `fit`, as the others here are."""

    def look(self, weights: FloatVector) -> None:
        """Take in the weights after a round."""

    def __call__(self, progress: Progress) -> bool:
        """Take in what has come of that round; never an end."""
        return False

    def of(self, weights: FloatVector) -> FloatVector:
        """Return what is kept by now.

        Parameters
        ----------
        weights : ndarray of shape (d,)
            After the last round so far.
        """
        return weights


class Best(Last):
    """Keeps the weights of the round with the best score on rows held out, as stock layers do.

    Parameters
    ----------
    score : float, default=-inf
        Of the weights that the training starts from.
    start : ndarray of shape (d,), optional
        Those; kept if no round has a better score.
    """

    def __init__(self, score: float = -inf, start: FloatVector | None = None) -> None:
        self._score = score
        self._best = start
        self._seen: FloatVector

    def look(self, weights: FloatVector) -> None:
        """Take in the weights after a round."""
        self._seen = weights

    def __call__(self, progress: Progress) -> bool:
        """Keep them, if they are better."""
        if progress.test_score is not None and progress.test_score > self._score:
            self._score, self._best = progress.test_score, self._seen
        return False

    def of(self, weights: FloatVector) -> FloatVector:
        """Return the best ones."""
        return weights if self._best is None else self._best


class Mean(Last):
    """Keeps the mean of the weights after each round, from one round on (Polyak, Ruppert).

    Parameters
    ----------
    d : int
    dtype : dtype
    first : int
        The first round that counts; this training's first one is number 1.
    before : (int, ndarray of shape (d,)), optional
        How many rounds of earlier trainings have counted, and their mean.

    Attributes
    ----------
    n : int
        How many have counted by now.
    """

    def __init__(
        self,
        d: int,
        dtype: npt.DTypeLike,
        first: int,
        before: tuple[int, FloatVector] | None = None,
    ) -> None:
        self._tail = TailMean(d, dtype, first)
        if before is not None:
            self._tail.restore(*before)
        self._round = 0
        self._seen: FloatVector

    @property
    def n(self) -> int:
        """How many rounds have counted by now."""
        return self._tail.n

    def look(self, weights: FloatVector) -> None:
        """Take in the weights after a round."""
        self._seen = weights

    def __call__(self, progress: Progress) -> bool:
        """Count them in, if it is time."""
        self._round += 1
        self._tail.add(self._round, self._seen)
        return False

    def of(self, weights: FloatVector) -> FloatVector:
        """Return the mean; the last weights, as long as no round has counted."""
        return self._tail.mean(weights)
