"""Data sets from files: CSV, .npz, and pairs that a user names.

Rule 1: what is wrong with a file is said with its line and column, in one paragraph.
Rule 2: what was taken for what (header, label, classes or numbers) is said in the notes.
"""

from __future__ import annotations

import gzip
import re
import zipfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from paramserver.data.datasets import Dataset, split
from paramserver.data.scaling import standardise
from paramserver.errors import DataError

MAX_CLASSES: Final = 100
"""Whole numbers with more different values than this are taken for numbers to predict."""


def read_files(
    path: str,
    test_path: str | None = None,
    *,
    label: str | None = None,
    seed: int = 0,
    dtype: npt.DTypeLike = np.float32,
) -> Dataset:
    """Return the data set in a file, standardised, with held-out rows.

    Parameters
    ----------
    path : str
        ``.csv`` or ``.csv.gz`` (numbers; the label in the last column or the one named), or
        ``.npz`` with the arrays ``X`` and ``y``.
    test_path : str, optional
        A file of the same form with the rows to hold out; by default a fifth of the rows is.
    label : str, optional
        Name of the label's column in the first line of a CSV file.
    seed : int
        Of the split.
    dtype : dtype

    Raises
    ------
    DataError
        If a file is not what it should be.
    """
    X, raw, notes = _read(Path(path), label, dtype)
    y, names = _as_labels(raw, path)
    if test_path is None:
        if len(y) < 5:
            raise DataError(f"{path} has {len(y)} rows; at least 5 are needed.", path=path)
        X_train, y_train, X_test, y_test = split(X, y, seed=seed)
        notes.append("a random fifth of the rows is held out")
    else:
        X_train, y_train = X.copy(), y
        X_test, raw_test, _ = _read(Path(test_path), label, dtype)
        if X_test.shape[1] != X_train.shape[1]:
            raise DataError(
                f"{test_path} has {X_test.shape[1]} features, {path} has {X_train.shape[1]}.",
                path=test_path,
            )
        y_test = _same_labels(raw_test, names, test_path)
    if names is not None and len(np.unique(y_train)) < 2:
        raise DataError(
            f"All rows of {path} have the label '{names[0]}': there is nothing to tell apart. "
            "Name the column of the label with --label.",
            path=path,
        )
    scaling = standardise(X_train, X_test)
    notes.append("each column standardised by its mean and deviation over the training rows")
    if names is None:
        kind = "numbers to predict"
        y_train, y_test = y_train.astype(dtype), y_test.astype(dtype)
    else:
        kind = f"classes ({', '.join(map(str, names[:5]))}{', ...' if len(names) > 5 else ''})"
    notes.append(f"the labels are taken for {kind}")
    n_classes = 0 if names is None else len(names)
    return Dataset(
        Path(path).name,
        X_train,
        y_train,
        X_test,
        y_test,
        n_classes,
        tuple(notes),
        scaling,
        classes=None if names is None else tuple(names.tolist()),
    )


def _read(
    path: Path, label: str | None, dtype: npt.DTypeLike
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], list[str]]:
    if not path.is_file():
        raise DataError(f"There is no file {path}.", path=str(path))
    if path.suffix == ".npz":
        X, y = _read_npz(path)
        notes: list[str] = []
    elif path.name.endswith((".csv", ".csv.gz")):
        X, y, notes = _read_csv(path, label)
    else:
        raise DataError(
            f"{path} is neither .csv, .csv.gz nor .npz; other files cannot be read.", path=str(path)
        )
    X = X.astype(dtype)
    bad = np.argwhere(~np.isfinite(X))
    if len(bad):
        row, column = bad[0]
        raise DataError(
            f"{path}: row {row + 1} of the data has {X[row, column]} in feature {column + 1}. "
            "Fill or remove such values first.",
            path=str(path),
        )
    return X, y, notes


def _read_npz(path: Path) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            X, y = arrays["X"], arrays["y"]
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} is no .npz file with the arrays X and y ({error}). "
            "Write one with numpy.savez(path, X=X, y=y).",
            path=str(path),
        ) from error
    if X.ndim != 2 or y.shape != X.shape[:1] or X.dtype.kind not in "fiub":
        raise DataError(
            f"{path}: X must be numbers of shape (n, features) and y of shape (n,); they are "
            f"{X.dtype} of shape {X.shape} and {y.dtype} of shape {y.shape}.",
            path=str(path),
        )
    return X, y


def _read_csv(
    path: Path, label: str | None
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], list[str]]:
    with _open(path) as file:
        first = next(iter(file), "").rstrip("\r\n").split(",")
    if len(first) < 2:
        raise DataError(
            f"{path}: line 1 has {len(first)} column; a label and at least one feature, separated "
            "by commas, are needed.",
            path=str(path),
        )
    names = [name.strip().strip('"') for name in first]
    has_header = not any(_is_number(name) for name in names[:-1])
    column = len(names) - 1
    if label is not None:
        if not has_header or label not in names:
            known = ", ".join(names) if has_header else "none: line 1 holds numbers"
            raise DataError(
                f"{path} has no column '{label}'. Its columns are: {known}.", path=str(path)
            )
        column = names.index(label)
    features = [i for i in range(len(names)) if i != column]
    skip = int(has_header)
    with _open(path) as file:
        if not any(line.strip() for line in islice(file, skip, None)):
            raise DataError(f"{path} holds no rows.", path=str(path))
    X = _numbers(path, skip, features)
    with _open(path) as file:
        lines = islice(file, skip, None)
        cells = [line.rstrip("\r\n").split(",")[column].strip() for line in lines if line.strip()]
    what = f"column '{names[column]}'" if has_header else f"column {column + 1}"
    return X, np.array(cells), [f"the label is {what}"]


def _numbers(path: Path, skip: int, columns: Sequence[int]) -> npt.NDArray[np.float64]:
    try:
        with _open(path) as file:
            numbers: npt.NDArray[np.float64] = np.loadtxt(
                file, delimiter=",", skiprows=skip, usecols=columns, ndmin=2
            )
    except ValueError as error:
        found = re.search(r"at row (\d+)(?:, column (\d+))?", str(error))
        where = "a line"
        if found is not None:  # numpy counts rows from 0 where it names a column, else from 1
            line = int(found[1]) + skip + (found[2] is not None)
            where = f"line {line}, column {found[2]}" if found[2] else f"line {line}"
        reason = str(error).split(" at row")[0]
        raise DataError(
            f"{path}: {where}: {reason}. Features must be numbers, as many in each line.",
            path=str(path),
        ) from error
    return numbers


def _open(path: Path) -> IO[str]:
    if path.name.endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _as_labels(
    raw: npt.NDArray[Any], path: str
) -> tuple[npt.NDArray[Any], npt.NDArray[Any] | None]:
    """Return class numbers and the names of the classes, or numbers and None."""
    values = _as_numbers(raw)
    if values is not None:
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values)))
            raise DataError(f"{path}: the label of row {row + 1} is {values[row]}.", path=path)
        is_whole = bool((values == np.rint(values)).all())
        if not is_whole or len(np.unique(values)) > MAX_CLASSES:
            return values, None
        values = values.astype(np.int64)
    names, numbers = np.unique(raw if values is None else values, return_inverse=True)
    return numbers.reshape(-1).astype(np.int64), names


def _same_labels(
    raw: npt.NDArray[Any], names: npt.NDArray[Any] | None, path: str
) -> npt.NDArray[Any]:
    values = _as_numbers(raw)
    if names is None:
        if values is None:
            raise DataError(f"{path}: the labels are no numbers.", path=path)
        return values
    keys = raw if values is None or names.dtype.kind not in "iu" else values.astype(np.int64)
    unknown = np.setdiff1d(keys, names)
    if len(unknown):
        raise DataError(
            f"{path} has the label '{unknown[0]}', which no row to train on has.", path=path
        )
    return np.searchsorted(names, keys).astype(np.int64)


def _as_numbers(raw: npt.NDArray[Any]) -> npt.NDArray[np.float64] | None:
    try:
        return raw.astype(np.float64)
    except ValueError:
        return None
