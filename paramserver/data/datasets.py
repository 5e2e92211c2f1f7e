"""Data sets that lie on this machine, by name. They never download.

Rule 1: a loader says exactly what to install where a file is missing.
Rule 2: nothing here imports scikit-learn: that takes two seconds, and its small data sets are
        files.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from math import prod
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from paramserver.config import nearest
from paramserver.data.dataset import Dataset
from paramserver.data.scaling import Scaling, standardise
from paramserver.errors import ConfigError, DataError

FASHION_MNIST: Final = Path("/usr/share/datasets/fashion-mnist")


Loader: TypeAlias = Callable[[int, npt.DTypeLike], Dataset]
"""(seed of the split, dtype of X) -> data set"""


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
            f"There is no data set '{name}'.{nearest(name, LOADERS)} For a file of yours give its "
            "name with its ending, such as mine.csv.",
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


def _small(
    name: str, X: npt.NDArray[Any], y: npt.NDArray[Any], n_classes: int, seed: int
) -> Dataset:
    """Split and standardise one of the small tables."""
    X_train, y_train, X_test, y_test = split(X, y, seed=seed)
    scaling = standardise(X_train, X_test)
    y_scaling = None
    notes = ["each column standardised by its mean and deviation over the training rows"]
    if not n_classes:
        y_train, y_test = y_train[:, None], y_test[:, None]
        y_scaling = standardise(y_train, y_test)
        y_train, y_test = y_train[:, 0], y_test[:, 0]
        notes.append("the numbers to predict standardised in the same way")
    return Dataset(
        name, X_train, y_train, X_test, y_test, n_classes, tuple(notes), scaling, y_scaling
    )


def _digits(seed: int, dtype: npt.DTypeLike) -> Dataset:
    rows = _read_sklearn_table("digits.csv.gz")
    return _small("digits", rows[:, :-1].astype(dtype), rows[:, -1].astype(np.int64), 10, seed)


def _with_header(name: str, file: str, n_classes: int) -> Loader:
    """Return the loader of a table whose first line says what it holds."""

    def load_it(seed: int, dtype: npt.DTypeLike) -> Dataset:
        rows = _read_sklearn_table(file, skiprows=1)
        X, y = rows[:, :-1].astype(dtype), rows[:, -1].astype(np.int64)
        return _small(name, X, y, n_classes, seed)

    return load_it


def _diabetes(seed: int, dtype: npt.DTypeLike) -> Dataset:
    X = _read_sklearn_table("diabetes_data_raw.csv.gz", delimiter=None).astype(dtype)
    y = _read_sklearn_table("diabetes_target.csv.gz", delimiter=None).astype(dtype)
    return _small("diabetes", X, y, 0, seed)


def _fashion_mnist(seed: int, dtype: npt.DTypeLike) -> Dataset:
    """60,000 + 10,000 images of clothes; the test set is the one that was published."""
    images, labels = (
        [_read_idx(FASHION_MNIST / f"{part}-{kind}-ubyte.gz") for part in ("train", "t10k")]
        for kind in ("images-idx3", "labels-idx1")
    )
    X_train, X_test = (np.multiply(x.reshape(len(x), -1), 1 / 255, dtype=dtype) for x in images)
    y_train, y_test = (y.astype(np.int64) for y in labels)
    notes = ("pixels divided by 255",)
    scaling = Scaling(np.zeros(X_train.shape[1]), np.full(X_train.shape[1], 1 / 255))
    return Dataset("fashion-mnist", X_train, y_train, X_test, y_test, 10, notes, scaling)


def _read_sklearn_table(
    name: str, *, delimiter: str | None = ",", skiprows: int = 0
) -> npt.NDArray[np.float64]:
    """Read one of scikit-learn's own tables."""
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
    return np.loadtxt(path, delimiter=delimiter, skiprows=skiprows)


def _read_idx(path: Path) -> npt.NDArray[np.uint8]:
    """Read a file of bytes in the format of the MNIST family."""
    if not path.is_file():
        raise DataError(
            f"{path} is not there. On Debian and Ubuntu: apt install dataset-fashion-mnist",
            path=str(path),
        )
    try:
        with gzip.open(path) as file:
            data = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is damaged: {error}. Install it anew.", path=str(path)) from error
    n_axes = data[3] if len(data) > 3 else 0
    start = 4 + 4 * n_axes
    shape = tuple(np.frombuffer(data[4:start], ">u4").astype(int))
    if data[:3] != b"\0\0\x08" or len(data) - start != prod(shape):
        raise DataError(
            f"{path} is no IDX file of bytes, or is cut short. Install it anew.", path=str(path)
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def _debian_sections(seed: int, dtype: npt.DTypeLike) -> Dataset:
    from paramserver.data.debian import load_sections

    return load_sections(seed, dtype)


def _synthetic_sparse(seed: int, dtype: npt.DTypeLike) -> Dataset:
    from paramserver.data.synthetic import sparse

    return sparse(seed, dtype)


def _synthetic_dense(seed: int, dtype: npt.DTypeLike) -> Dataset:
    from paramserver.data.synthetic import dense

    return dense(seed, dtype)


LOADERS: dict[str, Loader] = {
    "breast-cancer": _with_header("breast-cancer", "breast_cancer.csv", 2),
    "debian-sections": _debian_sections,
    "diabetes": _diabetes,
    "digits": _digits,
    "fashion-mnist": _fashion_mnist,
    "iris": _with_header("iris", "iris.csv", 3),
    "synthetic-dense": _synthetic_dense,
    "synthetic-sparse": _synthetic_sparse,
    "wine": _with_header("wine", "wine_data.csv", 3),
}
"""By name."""
