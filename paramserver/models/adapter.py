"""Any scikit-learn estimator with `partial_fit` as a learner: trained in pieces, then averaged.

Rule 1: the weights are the estimator's arrays of numbers, one behind the other; steps are its own
        `partial_fit`. So one partition gives, bit for bit, what a loop of `partial_fit` over the
        same rows in the same order gives.
Rule 2: what an estimator counts (`t_`, by which learning rates fall) follows from the number of the
        pass; its moments (Adam, momentum) are averaged like its weights. Nothing else is kept from
        pass to pass, and what cannot be kept so is refused.
Rule 3: scikit-learn is imported when a method needs it: that takes two seconds.
"""

from __future__ import annotations

import copy
import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np

from paramserver.errors import ConfigError, DataError
from paramserver.models.losses import Array
from paramserver.training.learner import Batch
from paramserver.training.vector import FloatVector

if TYPE_CHECKING:
    from paramserver.training.partitions import Epoch

KNOWN: Final = (("coef_", "intercept_"), ("coefs_", "intercepts_"))
"""Attributes of linear models and of perceptrons with layers: their averages are models again."""
MOMENTS: Final = ("velocities", "ms", "vs")
"""What scikit-learn's optimizers of layers remember, for each array of weights."""
NO_STEP: Final = 1e-300
"""A learning rate so small that no float64 moves: it shows the weights a model starts from."""


@dataclass(frozen=True, eq=False)
class SklearnLearner:
    """A learner that trains an estimator of scikit-learn; for averaging.

    Parameters
    ----------
    estimator : estimator
        With `partial_fit`; it is cloned, never changed, and the clone does not shuffle by itself.
    n_features : int
    classes : array-like, optional
        All labels that may occur; for classifiers.
    attributes : tuple of str, optional
        Names of the arrays (or lists of arrays) to average, by default `coef_` and `intercept_`,
        or `coefs_` and `intercepts_`. Whether a mean of others makes sense is yours to know.
    dtype_name : {"float64", "float32"}
        Of the rows. Some estimators compute in float64 whatever their rows are.
    shuffles : bool, optional
        Take the rows of a pass in the order that its seed gives, or as they lie in the partition;
        by default as `shuffle` of the estimator says, and by the seed if it has none.
    t_before, steps_before : int, default=0
        Rows that it has seen, and steps that its optimizer has taken, before this training: their
        learning rates go on falling.
    n_outputs : int, default=1
        Numbers to predict for each row, for regression: from 2 on, labels are of the shape
        (n, n_outputs).

    Notes
    -----
    `lr` and `batch_size` of `fit` have no effect: the estimator has its own settings. The loss that
    is shown is the rate of errors (classifiers) or half the mean squared error. Linear models start
    from zeros, layers from their own random weights (by `random_state`, if it is set).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import SGDClassifier
    >>> from paramserver.models.adapter import SklearnLearner
    >>> from paramserver.training.learner import Batch
    >>> from paramserver.training.partitions import Epoch
    >>> X = np.random.default_rng(0).standard_normal((200, 2))
    >>> y = np.where(X[:, 0] > X[:, 1], 7, 3)
    >>> learner = SklearnLearner(SGDClassifier(), n_features=2, classes=[3, 7])
    >>> w = learner.start(np.random.default_rng(0))
    >>> learner.local_epoch(w, Epoch(Batch(X, y), 32, 0, 0, 0), lr=1.0)
    >>> model = learner.to_sklearn(w)
    >>> model.predict([[2.0, -2.0], [-2.0, 2.0]])
    array([7, 3])
    """

    estimator: Any
    n_features: int
    classes: Any = None
    attributes: tuple[str, ...] = ()
    dtype_name: str = "float64"
    shuffles: bool | None = None
    t_before: int = 0
    steps_before: int = 0
    n_outputs: int = 1

    default_lr = 1.0
    """Unused, but asked for."""
    averages_only = True
    """It has no gradients to push."""

    def __post_init__(self) -> None:
        from sklearn.base import clone, is_classifier

        own = clone(self.estimator)
        name = type(own).__name__
        if not hasattr(own, "partial_fit"):
            _refuse(
                f"{name} has no partial_fit, so it cannot be trained in pieces. Take one that has "
                "it, such as SGDClassifier or MLPClassifier, or fit this one whole, in a job.",
                name,
            )
        settings = own.get_params(deep=False)
        if settings.get("average"):
            _refuse(
                f"{name}(average=...) averages its own steps; use Averaging(tail=...), or "
                "DistributedSGDClassifier(average=True) and its like.",
                name,
            )
        if settings.get("early_stopping"):
            _refuse(f"{name}(early_stopping=True) and partial_fit do not go together.", name)
        is_adaptive = settings.get("learning_rate") == "adaptive"
        if is_adaptive and settings.get("solver") == "sgd":  # Adam does not look at it
            _refuse(f"{name}(learning_rate='adaptive') depends on what cannot be averaged.", name)
        if is_classifier(own) != (self.classes is not None):
            said = "a classifier: give classes" if self.classes is None else "no classifier"
            _refuse(f"{name} is {said}.", name)
        if self.shuffles is None:
            object.__setattr__(self, "shuffles", bool(settings.get("shuffle", True)))
        if settings.get("shuffle"):
            own.set_params(shuffle=False)
        object.__setattr__(self, "estimator", own)
        if self.classes is not None:
            object.__setattr__(self, "classes", np.unique(self.classes))

    # --- the learner ------------------------------------------------------------------------------

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Of the weights: what the estimator computes in."""
        return np.result_type(*_arrays(self._template, self._paths))

    @cached_property
    def size(self) -> int:
        """Length of the flat weights, moments included."""
        return sum(array.size for array in _arrays(self._template, self._paths))

    def start(self, rng: np.random.Generator) -> FloatVector:
        """Return the weights from which the estimator itself would start."""
        fresh = self._fresh(int(rng.integers(2**31)))
        parts = [
            (array if path[0] in ("coefs_", "intercepts_") else np.zeros_like(array)).ravel()
            for path, array in zip(self._paths, _arrays(fresh, self._paths), strict=True)
        ]
        return np.concatenate(parts).astype(self.dtype, copy=False)

    def local_epoch(self, w: FloatVector, epoch: Epoch, lr: float) -> None:
        """Call `partial_fit` once, with all rows of the pass; `lr` is not used."""
        from sklearn import config_context

        rows = epoch.rows if self.shuffles is False else epoch.rows.take(epoch.order)
        model = self._at(w, epoch.number, rows.n)
        keywords: dict[str, Any] = {} if self.classes is None else {"classes": self.classes}
        if rows.weight is not None:
            if "sample_weight" not in inspect.signature(model.partial_fit).parameters:
                name = type(model).__name__
                _refuse(f"partial_fit of {name} takes no weights of rows.", name)
            keywords["sample_weight"] = rows.weight
        with config_context(assume_finite=True, skip_parameter_validation=True):  # seen before
            # Numbers to predict that are wider than the rows would widen what a model computes.
            y = rows.y if self.classes is not None else rows.y.astype(rows.X.dtype, copy=False)
            model.partial_fit(rows.X, y, **keywords)
        arrays = _arrays(model, self._paths)
        np.concatenate([array.ravel() for array in arrays], out=w, casting="same_kind")

    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> NoReturn:
        """Refuse: an estimator has steps, not gradients.

        Raises
        ------
        ConfigError
        """
        _refuse(
            f"{type(self.estimator).__name__} steps by partial_fit and tells no gradients: use "
            "Averaging with whole passes (local_epochs), not AsyncSGD or local_steps.",
            "gradient",
        )

    def loss(self, w: FloatVector, data: Batch) -> float:
        """Return the weighted rate of errors, or half the weighted mean squared error."""
        found = self.to_sklearn(w).predict(data.X)
        wrong = (found != data.y) if self.classes is not None else 0.5 * (found - data.y) ** 2
        each = wrong.reshape(data.n, -1).mean(axis=1)  # of several numbers, their mean
        return float(np.average(each, weights=data.weight))

    def score(self, w: FloatVector, data: Batch) -> float:
        """Return the estimator's own score."""
        return float(self.to_sklearn(w).score(data.X, data.y, sample_weight=data.weight))

    def check_labels(self, y: Array) -> None:
        """Refuse labels that are not among the classes.

        Raises
        ------
        DataError
        """
        if self.classes is not None:
            bad = np.flatnonzero(~np.isin(y, self.classes))
            if bad.size:
                raise DataError(
                    f"The label of row {bad[0]} is {y[bad[0]]}, which is not among the classes: "
                    f"{', '.join(map(str, self.classes[:20]))}.",
                    path="y",
                )

    def to_sklearn(self, w: FloatVector, n_passes: int = 0, n_rows: int = 0) -> Any:
        """Return the stock estimator, fitted with these weights; it is yours.

        Parameters
        ----------
        w : ndarray of shape (d,)
            Copied.
        n_passes, n_rows : int, default=0
            It goes on as after so many passes over so many rows.
        """
        return self._at(w, n_passes, n_rows)

    def counted(self, n_passes: int, n_rows: int) -> tuple[int, int]:
        """Return how many rows it has seen, and steps its optimizer has taken, after some passes.

        Parameters
        ----------
        n_passes : int
            Of this training.
        n_rows : int
            Of a partition.
        """
        size = getattr(self.estimator, "batch_size", 1)
        size = min(200, n_rows) if size == "auto" else size
        steps = -(-n_rows // max(size, 1))
        return self.t_before + n_passes * n_rows, self.steps_before + n_passes * steps

    # --- inside -----------------------------------------------------------------------------------

    def _fresh(self, seed: int, **settings: Any) -> Any:
        """Return the estimator after `partial_fit` on a few made-up rows, without having moved."""
        from sklearn.base import clone

        model = clone(self.estimator)
        known = model.get_params(deep=False)
        if "random_state" in known and known["random_state"] is None:
            settings["random_state"] = seed
        if "hidden_layer_sizes" in known:
            settings["learning_rate_init"] = NO_STEP
        model.set_params(**settings)
        return self._taste(model, self.dtype.name)

    def _taste(self, model: Any, dtype_name: str) -> Any:
        """Let an estimator see a few made-up rows, so that its arrays are there."""
        n = 2 if self.classes is None else len(self.classes)
        size = model.get_params(deep=False).get("batch_size")
        if isinstance(size, int):  # of fewer rows than that it would warn
            n = max(n, size)
        X = np.random.default_rng(0).standard_normal((n, self.n_features)).astype(dtype_name)
        if self.classes is None:
            y = np.linspace(0.0, 1.0, n, dtype=X.dtype)
            return model.partial_fit(
                X, y if self.n_outputs == 1 else np.tile(y[:, None], self.n_outputs)
            )
        return model.partial_fit(X, np.resize(self.classes, n), classes=self.classes)

    @cached_property
    def _template(self) -> Any:
        """A fitted estimator, whose arrays are overwritten before it is used."""
        from sklearn.base import clone

        model = self._taste(clone(self.estimator), self.dtype_name)
        # Rows come as wide as the weights: a part of these may be wider than the rows were meant.
        dtypes = {array.dtype for array in _arrays(model, self._paths_in(model))}
        if len(dtypes) > 1:
            return self._taste(clone(self.estimator), np.result_type(*dtypes).name)
        return model

    @cached_property
    def _paths(self) -> tuple[tuple[Any, ...], ...]:
        """Where the arrays are: (attribute,), (list, number) or ("_optimizer", moments, number)."""
        return self._paths_in(self._template)

    def _paths_in(self, model: Any) -> tuple[tuple[Any, ...], ...]:
        names = self.attributes
        if not names:
            names = next((pair for pair in KNOWN if hasattr(model, pair[0])), ())
        if not names:
            kind = type(model).__name__
            _refuse(
                f"It is not known which arrays of {kind} may be averaged: name them, as "
                "SklearnLearner(..., attributes=(...)).",
                kind,
            )
        paths: list[tuple[Any, ...]] = []
        for name in names:
            value = getattr(model, name)
            is_list = isinstance(value, list)
            paths += [(name, i) for i in range(len(value))] if is_list else [(name,)]
        optimizer = getattr(model, "_optimizer", None)
        for name in MOMENTS:
            n = len(getattr(optimizer, name, ()))
            paths += [("_optimizer", name, i) for i in range(n)]
        return tuple(paths)

    def _at(self, w: FloatVector, n_passes: int, n_rows: int) -> Any:
        """Return the estimator with these weights, after so many passes over so many rows."""
        model = copy.deepcopy(self._template)
        start = 0
        for array in _arrays(model, self._paths):
            array[...] = w[start : start + array.size].reshape(array.shape)
            start += array.size
        optimizer = getattr(model, "_optimizer", None)
        if hasattr(model, "t_"):  # rows seen; linear models count from 1
            t = self.counted(n_passes, n_rows)[0]
            model.t_ = type(model.t_)(t + (optimizer is None))
        if optimizer is not None:
            optimizer.t = self.counted(n_passes, n_rows)[1]
            optimizer.learning_rate = optimizer.learning_rate_init
            if n_passes or self.steps_before:
                optimizer.iteration_ends(model.t_)
        return model


def _arrays(model: Any, paths: tuple[tuple[Any, ...], ...]) -> list[Array]:
    """Return the arrays themselves, not copies."""
    arrays = []
    for path in paths:
        value = model
        for step in path:
            value = value[step] if isinstance(step, int) else getattr(value, step)
        arrays.append(value)
    return arrays


def _refuse(text: str, value: str) -> NoReturn:
    raise ConfigError(text, field="learner", value=value)
