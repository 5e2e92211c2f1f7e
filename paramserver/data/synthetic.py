"""Made-up data of any size, for measurements. It says "synthetic" wherever it is named.

Rule 1: the same arguments give the same rows.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paramserver.data.dataset import Dataset
from paramserver.training.csr import as_csr
from paramserver.training.learner import Matrix

HELD_OUT: Final = 0.1
"""The last part of the rows, which are all alike."""
DRAWN_TWICE: Final = 1.052
"""So many columns are drawn for each that a row has, since frequent ones are drawn twice."""


def sparse(
    seed: int = 0,
    dtype: npt.DTypeLike = np.float32,
    *,
    n: int = 900_000,
    n_columns: int = 1 << 18,
    n_entries: int = 16_500_000,
    n_telling: int = 1 << 14,
) -> Dataset:
    """Return rows like those of texts, in two classes.

    Column number r (in an order by chance) comes with a probability near 1 / r, as words do
    (Zipf's law). Rows have length 1. Labels are drawn from a logistic model.

    Parameters
    ----------
    seed : int
    dtype : dtype
    n, n_columns : int
    n_entries : int
        About so many are stored in all.
    n_telling : int
        So many of the commonest columns decide the class; the others say nothing, as rare words.
    """
    rng = np.random.default_rng(seed)
    drawn = 1 + rng.poisson(max(0.0, n_entries * DRAWN_TWICE / n - 1), n)
    rank = np.exp(rng.random(int(drawn.sum()), np.float32) * np.float32(np.log(n_columns)))
    column_of = rng.permutation(n_columns)
    columns = column_of[np.minimum(rank.astype(np.int64) - 1, n_columns - 1)]
    keys = np.repeat(np.arange(n) * n_columns, drawn) + columns
    keys.sort()
    keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
    rows, columns = np.divmod(keys, n_columns)
    lengths = np.bincount(rows, minlength=n)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    data = np.repeat(1 / np.sqrt(lengths), lengths)
    w = rng.standard_normal(n_columns) * 24
    w[column_of[n_telling:]] = 0
    y = _labels(rng, np.add.reduceat(data * w[columns], indptr[:-1]))
    data, columns = data.astype(dtype), columns.astype(np.int32)
    cut = n - round(n * HELD_OUT)
    X_train, X_test = (
        _rows(data, columns, indptr, a, b, n_columns) for a, b in ((0, cut), (cut, n))
    )
    notes = (f"synthetic: drawn by chance, {len(data):,} entries, columns by Zipf's law",)
    return Dataset("synthetic-sparse", X_train, y[:cut], X_test, y[cut:], 2, notes)


def dense(
    seed: int = 0,
    dtype: npt.DTypeLike = np.float32,
    *,
    n: int = 400_000,
    n_columns: int = 100,
) -> Dataset:
    """Return independent normal columns, in two classes drawn from a logistic model."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, n_columns), np.float32).astype(dtype, copy=False)
    w = rng.standard_normal(n_columns).astype(dtype) * (4 / n_columns**0.5)
    y = _labels(rng, X @ w)
    cut = n - round(n * HELD_OUT)
    notes = ("synthetic: drawn by chance, independent normal columns",)
    return Dataset("synthetic-dense", X[:cut], y[:cut], X[cut:], y[cut:], 2, notes)


def _labels(rng: np.random.Generator, z: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Draw 1 with the probability ``1 / (1 + exp(-z))``, else 0."""
    noise = rng.logistic(size=len(z))
    return (z + noise > 0).astype(np.int64)


def _rows(
    data: npt.NDArray[Any],
    columns: npt.NDArray[np.int32],
    indptr: npt.NDArray[np.int64],
    start: int,
    stop: int,
    n_columns: int,
) -> Matrix:
    entries = slice(indptr[start], indptr[stop])
    ends = (indptr[start : stop + 1] - indptr[start]).astype(np.int32)
    return as_csr(data[entries], columns[entries], ends, (stop - start, n_columns))
