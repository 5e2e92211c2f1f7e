"""Data sets that lie on this machine, by name. They never download.

Rule 1: a loader says exactly what to install where a file is missing.
Rule 2: nothing here imports scikit-learn: that takes two seconds, and its small data sets are
        files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paramserver.errors import ConfigError, DataError


@dataclass(frozen=True)
class Dataset:
    """Rows to train on, and rows held out.

    Attributes
    ----------
    name : str
    X_train, X_test : ndarray of shape (n, n_features)
    y_train, y_test : ndarray of shape (n,)
        Class numbers from 0.
    n_classes : int
    notes : tuple of str
        What was done to the data, in words.
    """

    name: str
    X_train: npt.NDArray[Any]
    y_train: npt.NDArray[Any]
    X_test: npt.NDArray[Any]
    y_test: npt.NDArray[Any]
    n_classes: int
    notes: tuple[str, ...] = ()

    @property
    def n_features(self) -> int:
        """Columns of X."""
        return int(self.X_train.shape[1])


def load(name: str, *, seed: int = 0, dtype: npt.DTypeLike = np.float32) -> Dataset:
    """Return a data set by name, standardised, with held-out rows.

    Raises
    ------
    ConfigError
        If there is no such data set; the error lists those there are.
    DataError
        If its file is missing or damaged.
    """
    loader = LOADERS.get(name)
    if loader is None:
        raise ConfigError(
            f"There is no data set '{name}'. There are: {', '.join(sorted(LOADERS))}.",
            field="data",
            value=name,
        )
    return loader(seed, dtype)


def split(
    X: npt.NDArray[Any],
    y: npt.NDArray[Any],
    *,
    seed: int,
    test_fraction: float = 0.2,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Hold out a random part of the rows: ``X_train, y_train, X_test, y_test``."""
    order = np.random.default_rng(seed).permutation(len(y))
    cut = round(len(y) * test_fraction)
    test, train = order[:cut], order[cut:]
    return X[train], y[train], X[test], y[test]


def standardise(
    X_train: npt.NDArray[Any],
    X_test: npt.NDArray[Any],
) -> None:
    """Give each column mean 0 and deviation 1 over the rows to train on, in place.

    A column that is constant there becomes 0.
    """
    mean = X_train.mean(axis=0, dtype=np.float64)
    deviation = X_train.std(axis=0, dtype=np.float64)
    factor = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
    for X in (X_train, X_test):
        X -= mean.astype(X.dtype)
        X *= factor.astype(X.dtype)


def _digits(seed: int, dtype: npt.DTypeLike) -> Dataset:
    rows = _read_sklearn_csv("digits.csv.gz")
    X, y = rows[:, :-1].astype(dtype), rows[:, -1].astype(np.int64)
    X_train, y_train, X_test, y_test = split(X, y, seed=seed)
    standardise(X_train, X_test)
    notes = ("each column standardised by its mean and deviation over the training rows",)
    return Dataset("digits", X_train, y_train, X_test, y_test, 10, notes)


def _read_sklearn_csv(name: str) -> npt.NDArray[np.float64]:
    """Read one of scikit-learn's own csv files."""
    spec = find_spec("sklearn")  # finds the package without running it
    if spec is None or spec.origin is None:
        raise DataError(
            f"{name} comes with scikit-learn, which is not installed here: "
            "python -m pip install scikit-learn",
            path=name,
        )
    path = Path(spec.origin).parent / "datasets" / "data" / name
    if not path.is_file():
        raise DataError(
            f"scikit-learn is installed without {path}. Install it anew: "
            "python -m pip install --force-reinstall scikit-learn",
            path=str(path),
        )
    return np.loadtxt(path, delimiter=",")


LOADERS: dict[str, Callable[[int, npt.DTypeLike], Dataset]] = {"digits": _digits}
"""By name."""
