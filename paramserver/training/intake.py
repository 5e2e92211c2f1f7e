"""From the user's data to what is trained on: checked rows, a learning rate, partitions.

Rule 1: what does not fit is refused here, in words, before any worker is asked.
Rule 2: every choice follows from the data and the seed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from paramserver.errors import ConfigError, ShapeMismatch
from paramserver.training.learner import Batch, Learner

SAMPLE_ROWS = 2_000
"""Rows from which the learning rate is chosen, and by which the loss is watched on the way."""


def as_rows(learner: Learner, data: tuple[npt.ArrayLike, npt.ArrayLike], name: str) -> Batch:
    """Return rows of the learner's dtype."""
    X, y = np.asarray(data[0]), np.ascontiguousarray(data[1])
    if X.ndim < 1 or y.ndim < 1 or len(X) != len(y) or not len(y):
        raise ShapeMismatch(
            f"{name} must be a pair (X, y) with as many rows in X as in y, and at least one; X has "
            f"the shape {X.shape}, y {y.shape}."
        )
    if X.dtype.kind not in "fiub":
        raise ShapeMismatch(f"X of {name} must hold numbers, not {X.dtype}.")
    return Batch(np.ascontiguousarray(X, learner.dtype), y)


def choose_lr(learner: Learner, rows: Batch, seed: int) -> float:
    """Return ``1 / L`` from a seeded sample of the rows, or the learner's own default.

    Raises
    ------
    ConfigError
        If the learner cannot tell its curvature.
    """
    curvature = getattr(learner, "curvature", None)
    if curvature is None and (default := getattr(learner, "default_lr", None)) is not None:
        return float(default)
    if curvature is None:
        raise ConfigError(
            f"{type(learner).__name__} has neither a method 'curvature' nor a 'default_lr', so no "
            "learning rate can be chosen for it: give one (lr=...).",
            field="lr",
            value="auto",
        )
    return 1.0 / float(curvature(sample_rows(rows, seed)))


def sample_rows(rows: Batch, seed: int) -> Batch:
    chosen = np.random.default_rng(seed).permutation(rows.n)[:SAMPLE_ROWS]
    return Batch(rows.X[chosen], rows.y[chosen])


def split_rows(n: int, p: int, seed: int) -> list[npt.NDArray[np.intp]]:
    """Deal n rows out to p partitions, shuffled, of sizes that differ by one at most.

    Raises
    ------
    ConfigError
        If there are fewer rows than partitions.
    """
    if n < p:
        raise ConfigError(
            f"{n} examples cannot be cut into {p} partitions: use fewer partitions or workers.",
            field="n_partitions",
            value=p,
        )
    return list(np.array_split(np.random.default_rng(seed).permutation(n), p))
