"""From the user's data to what is trained on: checked rows with weights, and a learning rate.

Rule 1: what does not fit is refused here, in words, before any worker is asked.
Rule 2: every choice follows from the data and the seed.
Rule 3: nothing of the user's is changed, and nothing is copied that fits as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from paramserver.errors import ConfigError, DataError, ShapeMismatch
from paramserver.training.learner import Batch, Learner, Matrix
from paramserver.training.modes import Averaging, Mode
from paramserver.training.partitions import index_dtype

SAMPLE_ROWS = 2_000
"""Rows from which the learning rate is chosen, and by which the loss is watched on the way."""
CHECKED_AT_A_TIME = 1 << 16
"""Values that are looked at in one go: they stay in the cache."""
NUMBERS = "fiub"
"""Kinds of dtype that are numbers."""


def as_rows(
    learner: Learner,
    data: Any,
    name: str,
    *,
    sample_weight: npt.ArrayLike | None = None,
    class_weight: str | Mapping[Any, float] | None = None,
) -> Batch:
    """Return rows of the learner's dtype.

    Parameters
    ----------
    learner : Learner
    data : (X, y) or (X, y, sample_weight)
        Each may be an array, a list or a column or table of pandas; X may be sparse, of any
        format of scipy.
    name : str
        What to call it in errors.
    sample_weight : array-like of shape (n,), optional
    class_weight : "balanced" or dict, optional
        See `row_weights`.

    Raises
    ------
    ShapeMismatch
        If the parts do not belong together, or hold no numbers.
    DataError
        If there are values that are not finite, weights below 0, or labels that the learner does
        not know; the error names the first row.
    """
    X, y, sample_weight = _parts(data, name, sample_weight)
    X = _as_csr(X, learner, name) if hasattr(X, "tocsr") else _as_dense(X, learner, name)
    y = np.ascontiguousarray(_as_numbers(y, f"y of {name}"))
    if y.ndim < 1 or X.shape[0] != len(y) or not len(y):
        raise ShapeMismatch(
            f"{name} must be a pair (X, y) with as many rows in X as in y, and at least one; X has "
            f"the shape {X.shape}, y {y.shape}."
        )
    _check_finite(y, f"y of {name}", name)
    weight = row_weights(y, sample_weight, class_weight, learner.dtype, name)
    return Batch(X, y, weight)


def check_labels(learner: Learner, rows: Batch, test: Batch | None) -> None:
    """Ask the learner whether it knows the labels; those held out need not be of all classes.

    Raises
    ------
    DataError
        As the learner's own `check_labels` says.
    """
    check = getattr(learner, "check_labels", None)
    if check is None:
        return
    check(rows.y)
    if test is not None:
        check(np.concatenate([rows.y, test.y]))


def check_mode(learner: Learner, mode: Mode) -> None:
    """Refuse to ask a learner for gradients or single steps that has none.

    Raises
    ------
    ConfigError
    """
    is_by_passes = isinstance(mode, Averaging) and mode.local_steps is None
    if getattr(learner, "averages_only", False) and not is_by_passes:
        raise ConfigError(
            f"{type(learner).__name__} has whole passes, and neither gradients nor single steps: "
            "use Averaging with local_epochs, not AsyncSGD or local_steps.",
            field="mode",
            value=type(mode).__name__,
        )


def row_weights(
    y: npt.NDArray[Any],
    sample_weight: npt.ArrayLike | None,
    class_weight: str | Mapping[Any, float] | None,
    dtype: np.dtype[Any],
    name: str,
) -> npt.NDArray[Any] | None:
    """Return by which factor the loss of each row counts: both weights multiplied, or None.

    They are taken as they are, as scikit-learn does: twice the weight is twice the step.

    Parameters
    ----------
    y : ndarray of shape (n,)
    sample_weight : array-like of shape (n,), optional
    class_weight : "balanced" or dict, optional
        The factor of each label, by default 1; "balanced" gives each label of all rows the
        factor ``n / (n_classes * its rows)``.
    dtype : dtype
    name : str
    """
    if sample_weight is None and class_weight is None:
        return None
    weight = np.ones(len(y))
    if sample_weight is not None:
        given = _as_numbers(sample_weight, f"sample_weight of {name}")
        if given.shape != (len(y),):
            raise ShapeMismatch(
                f"sample_weight of {name} must have one number for each of the {len(y)} rows; its "
                f"shape is {given.shape}."
            )
        weight *= given
    if class_weight is not None:
        weight *= _class_factors(y, class_weight)
    weight = weight.astype(dtype)
    _check_finite(weight, f"the weight of {name}", name)
    if (weight < 0).any():
        row = int(np.argmax(weight < 0))
        raise DataError(
            f"Row {row} of {name} has the weight {weight[row]:g}. Weights must be 0 or more.",
            path=name,
        )
    if not weight.any():
        raise DataError(f"All rows of {name} have the weight 0: nothing is to learn.", path=name)
    return weight


def _class_factors(
    y: npt.NDArray[Any], class_weight: str | Mapping[Any, float]
) -> npt.NDArray[np.float64]:
    if y.ndim != 1 or not (y == np.rint(y)).all():
        raise ConfigError(
            "class_weight goes with class labels, whole numbers; y holds numbers to predict.",
            field="class_weight",
            value=class_weight,
        )
    labels, of_row, counts = np.unique(y, return_inverse=True, return_counts=True)
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ConfigError(
                f"class_weight is 'balanced' or a dict of label and factor, not '{class_weight}'.",
                field="class_weight",
                value=class_weight,
            )
        factors = len(y) / (len(labels) * counts)
    else:
        unknown = sorted(set(class_weight) - set(labels.tolist()))
        if unknown:
            raise ConfigError(
                f"class_weight has a factor for the label {unknown[0]!r}, which no row has. The "
                f"labels are: {', '.join(map(str, labels[:20]))}{', ...' * (len(labels) > 20)}.",
                field="class_weight",
                value=class_weight,
            )
        factors = np.array([class_weight.get(label, 1.0) for label in labels.tolist()], float)
    return factors[of_row.reshape(-1)]


# --- one array -----------------------------------------------------------------------------------


def _parts(
    data: Any, name: str, sample_weight: npt.ArrayLike | None
) -> tuple[Any, Any, npt.ArrayLike | None]:
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise ShapeMismatch(
            f"{name} must be a pair (X, y) or (X, y, sample_weight), not {type(data).__name__}"
            f"{f' of {len(data)}' if isinstance(data, (tuple, list)) else ''}."
        )
    if len(data) == 2:
        return (*data, sample_weight)
    if sample_weight is not None and data[2] is not None:
        raise ConfigError(
            f"The weights of {name} are given twice: as its third part and as sample_weight.",
            field="sample_weight",
            value="given twice",
        )
    return data[0], data[1], sample_weight if data[2] is None else data[2]


def _as_dense(X: Any, learner: Learner, name: str) -> npt.NDArray[Any]:
    names = getattr(X, "columns", None)
    given = _as_numbers(X, f"X of {name}")
    if given.ndim < 1:
        raise ShapeMismatch(f"X of {name} must have rows; it is a single number.")
    with np.errstate(over="ignore"):  # said below, with its place
        dense = np.ascontiguousarray(given, learner.dtype)
    _check_finite(dense, f"X of {name}", name, given, names)
    return dense


def _as_csr(X: Any, learner: Learner, name: str) -> Matrix:
    """Return a csr_array with sorted columns, none of them twice in a row."""
    from scipy.sparse import csr_array

    if X.ndim != 2:
        raise ShapeMismatch(f"A sparse X of {name} must have two axes; it has the shape {X.shape}.")
    if X.dtype.kind not in NUMBERS:
        raise ShapeMismatch(f"X of {name} must hold numbers, not {X.dtype}.")
    with np.errstate(over="ignore"):
        csr = csr_array(X, dtype=learner.dtype)
    if not csr.has_canonical_format:
        csr = csr.copy()  # its arrays may be those of the user
        csr.sum_duplicates()
    dtype = index_dtype(csr.shape[1], csr.nnz)
    if csr.indices.dtype != dtype or csr.indptr.dtype != dtype:
        csr.indices, csr.indptr = csr.indices.astype(dtype), csr.indptr.astype(dtype)
    _refuse_sparse(csr, name)
    return csr


def _refuse_sparse(csr: Matrix, name: str) -> None:
    at = _first_bad(csr.data)
    if at is not None:
        row = int(np.searchsorted(csr.indptr, at, side="right")) - 1
        raise _not_finite(csr.data[at], None, f"X of {name}", (row, int(csr.indices[at])), name)


def _as_numbers(values: Any, what: str) -> npt.NDArray[Any]:
    """Return an array of numbers; tables and columns of pandas become one as they are."""
    try:
        array = np.asarray(values)
    except ValueError as error:  # a list of lists of different lengths
        raise ShapeMismatch(f"{what} is no array: {error}") from error
    if array.dtype.kind == "O":
        array = _unboxed(values, array, what)
    if array.dtype.kind not in NUMBERS:
        hint = ""
        if what.startswith("y"):
            hint = " Number the labels: names, y = numpy.unique(y, return_inverse=True)."
        raise ShapeMismatch(f"{what} must hold numbers, not {array.dtype}.{hint}")
    return array


def _unboxed(values: Any, array: npt.NDArray[Any], what: str) -> npt.NDArray[Any]:
    """Return the numbers in an array of objects, such as a table with columns of several types."""
    names = getattr(values, "columns", None)
    columns = array.T if array.ndim == 2 else [array]
    done = []
    for j, column in enumerate(columns):
        numbers = _numbers_or_none(column)
        if numbers is None:
            where = f"column {_column(j, names)} of {what}" if array.ndim == 2 else what
            found = next(v for v in column.flat if _numbers_or_none(np.array([v], object)) is None)
            raise ShapeMismatch(f"{where} must hold numbers; it holds {found!r:.60}.")
        done.append(numbers)
    return np.stack(done, axis=1) if array.ndim == 2 else done[0]


def _numbers_or_none(column: npt.NDArray[Any]) -> npt.NDArray[np.float64] | None:
    if any(isinstance(value, (str, bytes)) for value in column.flat):
        return None  # "1" is text here, even if float() could read it
    try:
        return column.astype(np.float64)
    except (TypeError, ValueError):
        return None


# --- is every value finite? ----------------------------------------------------------------------


def _check_finite(
    array: npt.NDArray[Any],
    what: str,
    name: str,
    given: npt.NDArray[Any] | None = None,
    columns: Any = None,
) -> None:
    """Raise a DataError with the place of the first value that is not finite."""
    at = _first_bad(array)
    if at is None:
        return
    place = tuple(int(i) for i in np.unravel_index(at, array.shape))
    before = None if given is None else given[place]
    raise _not_finite(array[place], before, what, place, name, columns)


def _first_bad(array: npt.NDArray[Any]) -> int | None:
    """Return the flat place of the first value that is not finite, in one cheap pass."""
    if array.dtype.kind != "f":
        return None
    flat = array.reshape(-1)
    for start in range(0, flat.size, CHECKED_AT_A_TIME):
        block = flat[start : start + CHECKED_AT_A_TIME]
        with np.errstate(all="ignore"):
            total = block.sum()
        if not np.isfinite(total):  # large finite numbers can do that, too
            bad = ~np.isfinite(block)
            if bad.any():
                return start + int(bad.argmax())
    return None


def _not_finite(
    value: Any,
    before: Any,
    what: str,
    place: tuple[int, ...],
    name: str,
    columns: Any = None,
) -> DataError:
    where = f"row {place[0]}"
    if len(place) > 1:
        where += f", column {_column(place[1], columns)}"
    if before is not None and np.isfinite(before):
        return DataError(
            f"{what} has {before:g} in {where}, which is too large for {value.dtype}. Scale it, or "
            "use a learner of float64.",
            path=name,
        )
    return DataError(
        f"{what} has {value} in {where} (counted from 0). Fill or remove such values first.",
        path=name,
    )


def _column(number: int, names: Any) -> str:
    return str(number) if names is None else f"'{names[number]}'"


# --- choices from the data -----------------------------------------------------------------------


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
    """Take some rows by chance."""
    return rows.take(np.random.default_rng(seed).permutation(rows.n)[:SAMPLE_ROWS])
