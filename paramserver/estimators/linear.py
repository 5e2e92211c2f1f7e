"""What `DistributedSGDClassifier` and `DistributedSGDRegressor` have in common.

Rule 1: with ``mode="avg"`` each partition is trained by the stock estimator itself, and the weights
        are averaged after each pass: one partition gives the stock estimator's own numbers for rows
        in the same order. With ``mode="async"`` gradients are pushed to a parameter server, which
        takes steps of one size.
Rule 2: what is fitted has the names and shapes of the stock estimator, and `to_sklearn` is one.
"""

from __future__ import annotations

from typing import Any, Self, TypeAlias

import numpy as np
from scipy.sparse import csr_matrix, issparse
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_is_fitted

from paramserver.errors import ConfigError
from paramserver.estimators.base import AT_LEAST_ONE, DistributedEstimator, check_same
from paramserver.estimators.fitting import Steps, falling_rates
from paramserver.estimators.keeping import Last, Mean
from paramserver.estimators.learners import StockLinear, ThroughOrigin, penalty_of, safe_rate
from paramserver.estimators.sklearn_callbacks import Rounds
from paramserver.estimators.watching import Watching
from paramserver.models.linear import Linear
from paramserver.models.losses import LOSSES
from paramserver.training.intake import sample_rows
from paramserver.training.learner import Batch
from paramserver.training.vector import FloatVector

Start: TypeAlias = tuple[Any, Any]
"""`coef_` and `intercept_` to begin with."""


class LinearSGD(DistributedEstimator):
    """What both have in common."""

    loss: str
    penalty: str | None
    alpha: float
    l1_ratio: float
    fit_intercept: bool
    epsilon: float
    learning_rate: str
    eta0: float
    average: bool | int
    batch_size: int

    classes_: Any
    coef_: Any
    intercept_: Any
    t_: float
    _running: Start | None = None
    """With `average`: the weights that the steps go on from."""
    _n_averaged: int = 0
    """How many rounds their mean is of."""

    def _rules(self) -> dict[str, list[Any]]:
        return super()._rules() | {"batch_size": [AT_LEAST_ONE]}

    def _fit(
        self,
        rows: Batch,
        n_classes: int,
        told: Rounds | None = None,
        *,
        rounds: int,
        start: Start | None,
        goes_on: bool,
        counts_on: bool,
    ) -> Watching:
        """Train; leave `coef_` and `intercept_`.

        Parameters
        ----------
        rows : Batch
            Classes are numbers from 0 on.
        n_classes : int
            0 for regression.
        told : Rounds, optional
            Of callbacks of scikit-learn.
        rounds : int
        start : (ndarray, ndarray) or None
            The weights to start from; None for zeros.
        goes_on : bool
            After an earlier training: the curve of losses goes on.
        counts_on : bool
            It is the same training: the learning rate goes on falling, a mean goes on, too.
        """
        is_async = self._is_async()
        labels = self.classes_[rows.y] if n_classes else None
        fitting = self._set_out(
            rows, told, rounds, self.n_iter_no_change, is_part=counts_on, labels=labels
        )
        rows, watching = fitting.rows, fitting.watching
        t_before = int(self.t_) - 1 if counts_on and goes_on else 0
        rates = falling_rates(self.eta0) if self.learning_rate == "adaptive" else [self.eta0]
        if is_async:
            ways = self._pushes(rows, n_classes, rates, fitting.seed)
        else:
            ways = [self._passes(rows, n_classes, rate, t_before) for rate in rates]
        learner: Any = ways[0].learner
        seen = t_before * fitting.place.n_partitions
        kept = self._keeping(learner, rows.n, seen, counts_on=counts_on, is_async=is_async)
        fitting.kept = kept

        def fitted(w: FloatVector) -> dict[str, Any]:
            coef, intercept = _unpack(kept.of(w), n_classes, is_async=is_async)
            coef = coef.astype(rows.X.dtype, copy=False)  # it may have been trained wider
            found = {"coef_": coef, "intercept_": intercept, "_running": None, "_n_averaged": 0}
            if isinstance(kept, Mean):
                found["_running"] = _unpack(w, n_classes, is_async=is_async)
                found["_n_averaged"] = kept.n
            return found

        first = None if start is None else _pack(start, learner.dtype, is_async=is_async)
        losses_before = self.loss_curve_ if goes_on else []
        self._train(fitting, ways, first, fitted, losses_before=losses_before)
        self.t_ = 1.0 + t_before + watching.n_rounds * fitting.rows_each
        return watching

    def _passes(self, rows: Batch, n_classes: int, rate: float, t_before: int) -> Steps:
        """Return steps of the stock estimator, in passes over each partition."""
        learner = StockLinear(
            self._stock_for_parts().set_params(eta0=rate),
            rows.X.shape[1],
            np.arange(n_classes) if n_classes else None,
            dtype_name=rows.X.dtype.name,
            shuffles=self.shuffle,
            t_before=t_before,
        )
        return Steps(learner)

    def _pushes(self, rows: Batch, n_classes: int, rates: list[float], seed: int) -> list[Steps]:
        """Return steps by gradients that are pushed, of one size at a time."""
        learner = self._gradients(rows, n_classes)
        if self.learning_rate not in ("constant", "adaptive"):
            rates = [safe_rate(learner, sample_rows(rows, seed), self.batch_size)]
        return [Steps(learner, "sgd", rate, self.batch_size) for rate in rates]

    def _keeping(
        self, learner: Any, n_rows: int, seen: int, *, counts_on: bool, is_async: bool
    ) -> Last:
        """Return what keeps the weights: the last ones, or with `average` their mean.

        Parameters
        ----------
        learner : Learner
        n_rows : int
            That each round takes.
        seen : int
            Rows that the training has seen in earlier parts.
        """
        if not self.average:
            return Last()
        first = max(1, -(-(int(self.average) - seen) // n_rows))
        before = None
        if counts_on and self._n_averaged:
            mean = _pack((self.coef_, self.intercept_), learner.dtype, is_async=is_async)
            before = self._n_averaged, mean
        return Mean(learner.size, learner.dtype, first, before)

    def _start(
        self, X: Any, n_outputs: int, coef_init: Any, intercept_init: Any, *, is_warm: bool
    ) -> Start | None:
        """Return the weights that a `fit` starts from.

        Raises
        ------
        ValueError
            If they do not fit the rows and their classes.
        """
        if is_warm:
            if coef_init is None:
                check_same("number of features", X.shape[1], self.coef_.shape[-1])
                coef_init = self.coef_
            intercept_init = self.intercept_ if intercept_init is None else intercept_init
        elif coef_init is None and intercept_init is None:
            return None
        shape = n_outputs, X.shape[1]
        coef = np.zeros(shape, X.dtype) if coef_init is None else _dense(coef_init)
        intercept = np.zeros(n_outputs, X.dtype) if intercept_init is None else intercept_init
        coef, intercept = np.asarray(coef, X.dtype), np.asarray(intercept, X.dtype)
        if n_outputs == 1:  # then any form will do, as in the stock estimator
            coef, intercept = coef.reshape(1, -1), intercept.reshape(-1)
        if coef.shape != shape:
            raise ValueError(
                f"Provided coef_init does not match dataset: {coef.shape}, not {shape}."
            )
        if intercept.shape != (n_outputs,):
            raise ValueError(
                f"Provided intercept_init does not match dataset: {intercept.shape}, "
                f"not ({n_outputs},)."
            )
        return coef, intercept

    def _go_on(self) -> Start | None:
        """Return the weights that a `partial_fit` starts from."""
        if not hasattr(self, "coef_"):
            return None
        if self.average and self._running is not None:
            return self._running
        return self.coef_, self.intercept_

    def _gradients(self, rows: Batch, n_classes: int) -> Linear:
        """Return a learner that has gradients."""
        known = [name for name, loss in LOSSES.items() if loss.is_for_classes == bool(n_classes)]
        if self.loss not in known or (self.loss == "huber" and self.epsilon != 0.1):
            raise ConfigError(
                f"mode='async' has the losses {', '.join(known)} (huber with epsilon=0.1), not "
                f"{self.loss!r}. mode='avg' has all of scikit-learn.",
                field="loss",
                value=self.loss,
            )
        penalty = penalty_of(self)
        kind = Linear if self.fit_intercept else ThroughOrigin
        n_outputs = n_classes if n_classes > 2 else 1
        return kind(
            rows.X.shape[1], n_outputs, self.loss, penalty.l2, rows.X.dtype.name, penalty.l1
        )

    def _outputs(self, X: Any) -> Any:
        check_is_fitted(self)
        X = self._checked(X)
        coef = self.coef_ if issparse(self.coef_) else np.atleast_2d(self.coef_)
        z = safe_sparse_dot(X, coef.T, dense_output=True) + self.intercept_
        return z.ravel() if z.shape[1] == 1 else z

    def sparsify(self) -> Self:
        """Keep `coef_` as a sparse matrix: less memory where most of it is 0, as with L1."""
        check_is_fitted(self)
        self.coef_ = csr_matrix(self.coef_)
        return self

    def densify(self) -> Self:
        """Keep `coef_` as an array again."""
        check_is_fitted(self)
        if issparse(self.coef_):
            coef = self.coef_.toarray()
            self.coef_ = coef if hasattr(self, "classes_") else coef[0]
        return self

    def _as_stock(self) -> Any:
        model = self._stock()
        names = ("coef_", "intercept_", "classes_", "n_features_in_", "feature_names_in_", "t_")
        for name in (*names, "n_iter_"):
            if hasattr(self, name):
                setattr(model, name, getattr(self, name))
        if self.average:  # what its own partial_fit goes on from
            coef, intercept = self._running or (_dense(model.coef_), model.intercept_)
            shape = model.coef_.shape if len(model.intercept_) > 1 else (-1,)
            model._standard_coef = coef.reshape(shape)
            model._standard_intercept = intercept
            share = min(1, self._n_averaged)
            model._average_coef = share * _dense(model.coef_).reshape(shape)
            model._average_intercept = share * model.intercept_
        return model


def _dense(coef: Any) -> Any:
    return coef.toarray() if issparse(coef) else coef


def _pack(start: Start, dtype: Any, *, is_async: bool) -> FloatVector:
    """Return `coef_` and `intercept_` as the learner has them."""
    coef = np.atleast_2d(_dense(start[0]))
    parts = [(coef.T if is_async else coef).ravel(), np.atleast_1d(start[1])]
    packed: FloatVector = np.concatenate(parts).astype(dtype, copy=False)
    return packed


def _unpack(w: FloatVector, n_classes: int, *, is_async: bool) -> Start:
    """Return `coef_` and `intercept_`."""
    k = n_classes if n_classes > 2 else 1
    cut = w.size - k
    coef = w[:cut].reshape(-1, k).T if is_async else w[:cut].reshape(k, -1)
    return np.array(coef if n_classes else coef[0], order="C"), w[cut:].copy()
