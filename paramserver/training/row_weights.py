"""By which factor the loss of each row counts: sample weight times class weight.

Rule 1: factors are taken as they are, as scikit-learn does: twice the weight is twice the step.
Rule 2: those of rows that lie in files are written beside them, block by block; a file is there as
        a whole or not at all, and its name says what is in it, so that it is written once.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paramserver.errors import ConfigError, DataError, ShapeMismatch
from paramserver.training.array_file import ArrayFile
from paramserver.training.checked import as_numbers, first_unfit
from paramserver.training.partitions import SharedRows

BLOCK_ROWS: Final = 1 << 20
"""Rows whose weights are computed in one go."""


def row_weights(
    y: npt.NDArray[Any],
    sample_weight: npt.ArrayLike | None,
    class_weight: str | Mapping[Any, float] | None,
    dtype: np.dtype[Any],
    name: str,
) -> npt.NDArray[Any] | None:
    """Return by which factor the loss of each row counts: both weights multiplied, or None.

    Parameters
    ----------
    y : ndarray of shape (n,)
    sample_weight : array-like of shape (n,), optional
    class_weight : "balanced" or dict, optional
        The factor of each label, by default 1; "balanced" gives each label of all rows the
        factor ``n / (n_classes * its rows)``.
    dtype : dtype
    name : str

    Raises
    ------
    ShapeMismatch, DataError
        If there is not one weight for each row, or one is below 0 or not finite, or all are 0.
    ConfigError
        If there are no classes, or not those that have a factor.
    """
    if sample_weight is None and class_weight is None:
        return None
    given = _as_weights(sample_weight, len(y), name)
    factors = None if class_weight is None else _Factors.of(y, class_weight)
    weight = _multiply(y, given, factors, dtype, name)
    _refuse_nothing(bool(weight.any()), name)
    return weight


def weigh_stored(
    stored: SharedRows,
    sample_weight: npt.ArrayLike | None,
    class_weight: str | Mapping[Any, float] | None,
    dtype: np.dtype[Any],
    name: str,
) -> SharedRows:
    """Return rows in files with these weights, times those they have already.

    Parameters
    ----------
    stored : SharedRows
    sample_weight, class_weight, dtype, name
        As for `row_weights`; the weights are those of the rows as they lie there.

    Raises
    ------
    ShapeMismatch, DataError, ConfigError
        As for `row_weights`, and if there is no room; nothing is left then.
    """
    y = stored.whole().y
    given = _as_weights(sample_weight, len(y), name)
    factors = None if class_weight is None else _Factors.of(y, class_weight)
    before = stored.weight()
    weights = f"weight.{_digest(stored.weights, given, factors)}"
    path = Path(stored.folder) / f"{weights}.npy"
    if path.exists():
        return replace(stored, weights=weights)
    is_any = False
    unfinished = path.with_name(f".{weights}.{secrets.token_hex(4)}")
    try:
        file = ArrayFile.new(unfinished, dtype, (len(y),))
        for start in range(0, len(y), BLOCK_ROWS):
            block = slice(start, start + BLOCK_ROWS)
            some = None if given is None else given[block]
            if before is not None:
                some = before[block] if some is None else some * before[block]
            weight = _multiply(y[block], some, factors, dtype, name, start)
            is_any = is_any or bool(weight.any())
            file.write(start, weight)
        _refuse_nothing(is_any, name)
        unfinished.replace(path)
    except OSError as error:
        raise DataError(
            f"The weights of the rows cannot be written to {stored.folder}: {error.strerror}. Make "
            "room there.",
            path=stored.folder,
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
    return replace(stored, weights=weights)


class _Factors:
    """The factor of each label.

    Parameters
    ----------
    labels : ndarray
        Sorted.
    factors : ndarray of float64
    """

    def __init__(self, labels: npt.NDArray[Any], factors: npt.NDArray[np.float64]) -> None:
        self.labels = labels
        self.factors = factors

    @classmethod
    def of(cls, y: npt.NDArray[Any], class_weight: str | Mapping[Any, float]) -> _Factors:
        """Look at all labels, block by block."""
        counted: dict[Any, int] = {}
        for start in range(0, len(y), BLOCK_ROWS):
            block = y[start : start + BLOCK_ROWS]
            if y.ndim != 1 or not (block == np.rint(block)).all():
                raise ConfigError(
                    "class_weight goes with class labels, whole numbers; y holds numbers to "
                    "predict.",
                    field="class_weight",
                    value=class_weight,
                )
            found, counts = np.unique(block, return_counts=True)
            for label, n in zip(found.tolist(), counts.tolist(), strict=True):
                counted[label] = counted.get(label, 0) + n
        labels = np.array(sorted(counted), y.dtype)
        if isinstance(class_weight, str):
            if class_weight != "balanced":
                raise ConfigError(
                    "class_weight is 'balanced' or a dict of label and factor, not "
                    f"'{class_weight}'.",
                    field="class_weight",
                    value=class_weight,
                )
            counts = np.array([counted[label] for label in labels.tolist()])
            return cls(labels, len(y) / (len(labels) * counts))
        unknown = [label for label in class_weight if label not in counted]
        if unknown:
            raise ConfigError(
                f"class_weight has a factor for the label {unknown[0]!r}, which no row has. The "
                f"labels are: {', '.join(map(str, labels[:20]))}{', ...' * (len(labels) > 20)}.",
                field="class_weight",
                value=class_weight,
            )
        return cls(
            labels, np.array([class_weight.get(each, 1.0) for each in labels.tolist()], float)
        )

    def of_rows(self, y: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return the factor of each row."""
        return self.factors[np.searchsorted(self.labels, y)]


def _as_weights(sample_weight: npt.ArrayLike | None, n: int, name: str) -> npt.NDArray[Any] | None:
    if sample_weight is None:
        return None
    given = as_numbers(sample_weight, f"sample_weight of {name}")
    if given.shape != (n,):
        raise ShapeMismatch(
            f"sample_weight of {name} must have one number for each of the {n} rows; its shape is "
            f"{given.shape}."
        )
    return given


def _multiply(
    y: npt.NDArray[Any],
    given: npt.NDArray[Any] | None,
    factors: _Factors | None,
    dtype: np.dtype[Any],
    name: str,
    first: int = 0,
) -> npt.NDArray[Any]:
    """Return the weights of some rows, of which the first has this number."""
    weight = np.ones(len(y))
    if given is not None:
        weight *= given
    if factors is not None:
        weight *= factors.of_rows(y)
    with np.errstate(over="ignore"):  # said below
        weight = weight.astype(dtype)
    row = first_unfit(weight)
    if row is not None:
        raise DataError(
            f"Row {first + row} of {name} has the weight {weight[row]:g}. Weights must be finite "
            "numbers, 0 or more.",
            path=name,
        )
    return weight


def _refuse_nothing(is_any: bool, name: str) -> None:
    if not is_any:
        raise DataError(f"All rows of {name} have the weight 0: nothing is to learn.", path=name)


def _digest(before: str, given: npt.NDArray[Any] | None, factors: _Factors | None) -> str:
    """Return a name for weights: the same for the same ones."""
    digest = hashlib.sha256(before.encode())
    parts = [given] if given is not None else []
    parts += [] if factors is None else [factors.labels, factors.factors]
    for part in parts:
        digest.update(f"{part.dtype.str} {part.shape}".encode())
        digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()[:16]
