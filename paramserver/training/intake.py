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

from paramserver.errors import ConfigError, NoWorkers, ShapeMismatch
from paramserver.training.arithmetic import one_thread
from paramserver.training.checked import as_csr_array, as_dense, as_numbers, check_finite
from paramserver.training.learner import Batch, Learner
from paramserver.training.modes import AsyncSGD, Averaging, Mode
from paramserver.training.partitioning import cut
from paramserver.training.partitions import SharedRows
from paramserver.training.row_weights import row_weights, weigh_stored
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
        format of scipy. A data set has the attributes `X_train` and `y_train`, and perhaps
        `weight_train`.
    name : str
        What to call it in errors.
    sample_weight : array-like of shape (n,), optional
    class_weight : "balanced" or dict, optional
        See `training.row_weights`.

    Raises
    ------
    ShapeMismatch
        If the parts do not belong together, or hold no numbers.
    DataError
        If there are values that are not finite, weights below 0, or labels that the learner does
        not know; the error names the first row.
    """
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


def take_in(
    learner: Learner,
    data: Any,
    sample_weight: npt.ArrayLike | None,
    class_weight: str | Mapping[Any, float] | None,
) -> tuple[Batch, SharedRows | None]:
    """Return the rows to train on, and where they lie, if they do.

    A data set with `rows` was checked when these were written. Weights that are asked for now are
    written beside them.

    Raises
    ------
    ConfigError
        If rows were written in another dtype than that of the learner.
    ShapeMismatch, DataError
        As `as_rows` says.
    """
    stored: SharedRows | None = getattr(data, "rows", None)
    if stored is None:
        rows = as_rows(
            learner, data, "data", sample_weight=sample_weight, class_weight=class_weight
        )
        return rows, None
    if data.X_train.dtype != learner.dtype:
        raise ConfigError(
            f"The rows of data were written as {data.X_train.dtype}, and the learner is of "
            f"{learner.dtype}: read them with that dtype.",
            field="dtype",
            value=str(learner.dtype),
        )
    if sample_weight is not None or class_weight is not None:
        stored = weigh_stored(stored, sample_weight, class_weight, learner.dtype, "data")
    return Batch(data.X_train, data.y_train, stored.weight()), stored


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


def deal_out(
    data: Any,
    rows: Batch,
    stored: SharedRows | None,
    p: int | None,
    n_workers: int,
    partition: str | npt.ArrayLike,
    seed: int,
) -> list[npt.NDArray[np.intp]]:
    """Cut the rows into partitions; those of a stored data set are cut already.

    Returns
    -------
    parts : list of ndarray of int
        The rows of each partition.

    Raises
    ------
    ConfigError
        If stored rows were cut in another way than they are wanted, or the data have no keys by
        which they should be cut.
    NoWorkers
        If the number of partitions should follow from that of the workers, and there are none.
    """
    if stored is None and not (p or n_workers):
        raise NoWorkers(
            "The cluster has no workers now, and there are as many partitions as workers unless "
            "the mode says how many. Wait with cluster.wait_for_workers(n), or give n_partitions.",
            waited_s=0.0,
        )
    if stored is None:
        return cut(rows.y, p or min(n_workers, rows.n), _scheme(data, partition), seed)
    n_stored = len(stored.n_examples)
    if p not in (None, n_stored):
        raise ConfigError(
            f"This data set was cut into {n_stored} partitions when it was read, not {p}: read it "
            f"again with n_partitions={p}.",
            field="n_partitions",
            value=p,
        )
    how = getattr(data, "partition", "shuffled")
    if not isinstance(partition, str) or partition != how:
        wanted = repr(partition) if isinstance(partition, str) else "an array of keys"
        raise ConfigError(
            f"The partitions of this data set were cut {how} when it was read, and are to be "
            f"{wanted} now. Train with partition={how!r}, or read it again with "
            "read_files(..., partition=..., key=...).",
            field="partition",
            value=partition,
        )
    return [np.arange(start, end) for start, end in pairwise(stored.starts)]


def _scheme(data: Any, partition: str | npt.ArrayLike) -> str | npt.ArrayLike:
    """Return by what rows in memory are cut: the data set's own keys, where they are asked for."""
    if not isinstance(partition, str) or partition != "by-key":
        return partition
    keys: npt.ArrayLike | None = getattr(data, "keys", None)
    if keys is None or callable(keys):  # of a dict, say
        raise ConfigError(
            "These data have no keys: read a file with read_files(path, key=...), or give an array "
            "with the key of each row (partition=keys).",
            field="partition",
            value=partition,
        )
    return keys


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
        own = getattr(data, "weight_train", None)
        if own is not None and sample_weight is not None:
            raise _given_twice(name, "by the data set itself")
        return data.X_train, data.y_train, sample_weight if own is None else own
    if not isinstance(data, (tuple, list)) or len(data) not in (2, 3):
        raise ShapeMismatch(
            f"{name} must be a pair (X, y) or (X, y, sample_weight), not {type(data).__name__}"
            f"{f' of {len(data)}' if isinstance(data, (tuple, list)) else ''}."
        )
    if len(data) == 2:
        return (*data, sample_weight)
    if sample_weight is not None and data[2] is not None:
        raise _given_twice(name, "as its third part")
    return data[0], data[1], sample_weight if data[2] is None else data[2]


def _given_twice(name: str, how: str) -> ConfigError:
    return ConfigError(
        f"The weights of {name} are given twice: {how} and as sample_weight.",
        field="sample_weight",
        value="given twice",
    )


# --- choices from the data -----------------------------------------------------------------------


def choose_lr(learner: Learner, rows: Batch, seed: int, optimizer: str = "sgd") -> float:
    """Return ``1 / L`` from a seeded sample of the rows, or the learner's own default.

    Optimizers that scale each step themselves (see `SELF_SCALED`) take what is usual for them: the
    curvature says nothing of their steps.

    Raises
    ------
    ConfigError
        If the learner cannot tell its curvature, or none of these rows counts.
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
    sample = sample_rows(rows, seed)
    if sample.weight is not None and not sample.weight.any():
        raise ConfigError(
            f"The {sample.n:,} rows by which a learning rate is chosen, taken by chance, all have "
            "the weight 0: give one (lr=...), or leave out the rows that do not count.",
            field="lr",
            value="auto",
        )
    with one_thread():  # so that it follows from the data and the seed, not from the machine
        return 1.0 / float(curvature(sample))


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
