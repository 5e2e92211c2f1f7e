"""From the user's data to what is trained on: checked rows with weights, and a learning rate.

Rule 1: what does not fit is refused here, in words, before any worker is asked.
Rule 2: every choice follows from the data and the seed.
Rule 3: nothing of the user's is changed, and nothing is copied that fits as it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from paramserver.errors import ConfigError, DataError, NoWorkers, ShapeMismatch
from paramserver.training.checked import as_csr_array, as_dense, as_numbers, check_finite
from paramserver.training.learner import Batch, Learner
from paramserver.training.modes import AsyncSGD, Averaging, Mode
from paramserver.training.partitioning import cut
from paramserver.training.partitions import SharedRows
from paramserver.training.vector import FloatVector

SAMPLE_ROWS = 2_000
"""Rows from which the learning rate is chosen, and by which the loss is watched on the way."""
SELF_SCALED = {"adagrad": (0.1, 0.01), "adam": (0.01, 0.001)}
"""Learning rates by optimizer, where the loss is convex and elsewhere. The second ones are those of
Duchi et al.'s and Kingma and Ba's common implementations; convex losses bear ten times as much."""
LOSS_ROWS = 1 << 18
"""Rows whose loss is computed in one go."""


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
    data : (X, y) or (X, y, sample_weight), or a data set
        Each may be an array, a list or a column or table of pandas; X may be sparse, of any
        format of scipy. A data set has the attributes `X_train` and `y_train`; one with `rows`
        has been checked when they were written.
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
    if getattr(data, "rows", None) is not None:
        return _as_stored(learner, data, name, sample_weight, class_weight)
    X, y, sample_weight = _parts(data, name, sample_weight)
    X = as_csr_array(X, learner, name) if hasattr(X, "tocsr") else as_dense(X, learner, name)
    y = np.ascontiguousarray(as_numbers(y, f"y of {name}"))
    if y.ndim < 1 or X.shape[0] != len(y) or not len(y):
        raise ShapeMismatch(
            f"{name} must be a pair (X, y) with as many rows in X as in y, and at least one; X has "
            f"the shape {X.shape}, y {y.shape}."
        )
    check_finite(y, f"y of {name}", name)
    weight = row_weights(y, sample_weight, class_weight, learner.dtype, name)
    return Batch(X, y, weight)


def check_rows(learner: Learner, rows: Batch, test: Batch | None) -> None:
    """Ask the learner whether rows fit it; those held out need not be of all classes.

    Raises
    ------
    ShapeMismatch, DataError
        As the learner's own `check_features` and `check_labels` say.
    """
    check_features = getattr(learner, "check_features", None)
    if check_features is not None:
        check_features(rows.X)
    if test is not None and test.X.shape[1:] != rows.X.shape[1:]:
        raise ShapeMismatch(
            f"The rows held out (test) do not fit those to train on: X of test has the shape "
            f"{test.X.shape}, X of data {rows.X.shape}. Give test the same columns as data."
        )
    check = getattr(learner, "check_labels", None)
    if check is None:
        return
    check(rows.y)
    if test is not None:
        check(np.concatenate([rows.y, test.y]))


def check_mode(learner: Learner, mode: Mode) -> None:
    """Refuse what is no learner or mode, and to ask a learner for gradients that has none.

    Raises
    ------
    ConfigError
    """
    if isinstance(learner, type) or not callable(getattr(learner, "start", None)):
        kind = learner if isinstance(learner, type) else type(learner)
        name, what = kind.__name__, "has no method start(rng)"
        if kind is learner:
            what = f"is a class: give an instance of it, {name}(...)"
        raise ConfigError(
            f"The learner {name} {what}. See paramserver.training.learner.Learner, and "
            "ps.SklearnLearner for estimators of scikit-learn.",
            field="learner",
            value=name,
        )
    if not isinstance(mode, Averaging | AsyncSGD):
        raise ConfigError(
            f"mode is ps.Averaging(...) or ps.AsyncSGD(...), not {mode!r:.80}.",
            field="mode",
            value=mode,
        )
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
        given = as_numbers(sample_weight, f"sample_weight of {name}")
        if given.shape != (len(y),):
            raise ShapeMismatch(
                f"sample_weight of {name} must have one number for each of the {len(y)} rows; its "
                f"shape is {given.shape}."
            )
        weight *= given
    if class_weight is not None:
        weight *= _class_factors(y, class_weight)
    weight = weight.astype(dtype)
    check_finite(weight, f"the weight of {name}", name)
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


def deal_out(
    data: Any, rows: Batch, p: int | None, n_workers: int, partition: str | npt.ArrayLike, seed: int
) -> tuple[list[npt.NDArray[np.intp]], SharedRows | None]:
    """Cut the rows into partitions; those of a stored data set are cut already.

    Returns
    -------
    parts : list of ndarray of int
        The rows of each partition.
    stored : SharedRows or None
        Where they lie, if they do.

    Raises
    ------
    ConfigError
        If stored rows were cut in another way than they are wanted.
    NoWorkers
        If the number of partitions should follow from that of the workers, and there are none.
    """
    stored: SharedRows | None = getattr(data, "rows", None)
    if stored is None and not (p or n_workers):
        raise NoWorkers(
            "The cluster has no workers now, and there are as many partitions as workers unless "
            "the mode says how many. Wait with cluster.wait_for_workers(n), or give n_partitions.",
            waited_s=0.0,
        )
    if stored is None:
        return cut(rows.y, p or min(n_workers, rows.n), partition, seed), None
    n_stored = len(stored.n_examples)
    if p not in (None, n_stored):
        raise ConfigError(
            f"This data set was cut into {n_stored} partitions when it was read, not {p}: read it "
            f"again with n_partitions={p}.",
            field="n_partitions",
            value=p,
        )
    if not isinstance(partition, str) or partition != "shuffled":
        raise ConfigError(
            "The partitions of a data set that was read by pieces are shuffled; they cannot be cut "
            "in another way.",
            field="partition",
            value=partition,
        )
    return [np.arange(start, end) for start, end in pairwise(stored.starts)], stored


def _as_stored(
    learner: Learner,
    data: Any,
    name: str,
    sample_weight: npt.ArrayLike | None,
    class_weight: str | Mapping[Any, float] | None,
) -> Batch:
    if data.X_train.dtype != learner.dtype:
        raise ConfigError(
            f"The rows of {name} were written as {data.X_train.dtype}, and the learner is of "
            f"{learner.dtype}: read them with that dtype.",
            field="dtype",
            value=str(learner.dtype),
        )
    if sample_weight is not None or class_weight is not None:
        raise ConfigError(
            f"The rows of {name} were written without weights, and none can be added.",
            field="sample_weight" if class_weight is None else "class_weight",
            value=class_weight,
        )
    return Batch(data.X_train, data.y_train)


def _parts(
    data: Any, name: str, sample_weight: npt.ArrayLike | None
) -> tuple[Any, Any, npt.ArrayLike | None]:
    if isinstance(data, (str, os.PathLike)):
        raise ConfigError(
            f"{name} is the name of a file: read it first, data = "
            f"paramserver.data.readers.read_files({str(data)!r}).",
            field=name,
            value=str(data),
        )
    if hasattr(data, "X_train"):
        return data.X_train, data.y_train, sample_weight
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


# --- choices from the data -----------------------------------------------------------------------


def choose_lr(learner: Learner, rows: Batch, seed: int, optimizer: str = "sgd") -> float:
    """Return ``1 / L`` from a seeded sample of the rows, or the learner's own default.

    Optimizers that scale each step themselves (see `SELF_SCALED`) take what is usual for them: the
    curvature says nothing of their steps.

    Raises
    ------
    ConfigError
        If the learner cannot tell its curvature.
    """
    curvature = getattr(learner, "curvature", None)
    if optimizer in SELF_SCALED:
        convex, other = SELF_SCALED[optimizer]
        return other if curvature is None else convex
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


def mean_loss(learner: Learner, w: FloatVector, rows: Batch) -> float:
    """Return the loss of all rows, looked at in blocks: these may be more than the memory holds."""
    if rows.n <= LOSS_ROWS:
        return learner.loss(w, rows)
    total = 0.0
    for start in range(0, rows.n, LOSS_ROWS):
        block = rows.between(start, min(start + LOSS_ROWS, rows.n))
        total += block.n / rows.n * learner.loss(w, block)  # the penalty is a part of each
    return total


def sample_rows(rows: Batch, seed: int) -> Batch:
    """Take some rows by chance."""
    return rows.take(np.random.default_rng(seed).permutation(rows.n)[:SAMPLE_ROWS])
