"""What `DistributedSGDClassifier` and `DistributedSGDRegressor` have in common.

Rule 1: with ``mode="avg"`` each partition is trained by the stock estimator itself, and the weights
        are averaged after each pass: one partition gives the stock estimator's own numbers for rows
        in the same order. With ``mode="async"`` gradients are pushed to a parameter server, which
        takes steps of one size.
Rule 2: what is fitted has the names and shapes of the stock estimator, and `to_sklearn` is one.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from scipy.sparse import csr_matrix, issparse
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_is_fitted

from paramserver.errors import ConfigError
from paramserver.estimators.base import AT_LEAST_ONE, DistributedEstimator
from paramserver.estimators.learners import StockLinear, ThroughOrigin, penalty_of, safe_rate
from paramserver.estimators.sklearn_callbacks import Rounds
from paramserver.estimators.watching import Watching
from paramserver.models.linear import Linear
from paramserver.models.losses import LOSSES
from paramserver.training.intake import sample_rows
from paramserver.training.learner import Batch
from paramserver.training.vector import FloatVector

SHARED = (
    "loss",
    "penalty",
    "alpha",
    "l1_ratio",
    "fit_intercept",
    "epsilon",
    "learning_rate",
    "eta0",
    "power_t",
    "random_state",
)
"""Parameters that the stock estimator is given as they are."""


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
    batch_size: int

    classes_: Any
    coef_: Any
    intercept_: Any
    t_: float

    def _rules(self) -> dict[str, list[Any]]:
        return super()._rules() | {"batch_size": [AT_LEAST_ONE]}

    def _fit(
        self,
        rows: Batch,
        n_classes: int,
        told: Rounds | None = None,
        *,
        rounds: int,
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
        goes_on : bool
            Start from the weights there are.
        counts_on : bool
            The learning rate goes on falling from where it is.
        """
        is_async = self._is_async()
        if self.learning_rate == "adaptive":
            raise ConfigError(
                "learning_rate='adaptive' is not there; take 'optimal', 'constant', 'invscaling', "
                "'pa1' or 'pa2'.",
                field="learning_rate",
                value=self.learning_rate,
            )
        seed, rows, test, place, watching = self._set_out(
            rows, self.n_iter_no_change, is_part=counts_on, stratify=n_classes > 0
        )
        t_before = self.t_ - 1.0 if counts_on and goes_on else 0.0
        how: dict[str, Any] = {}
        learner: Any
        if is_async:
            learner = self._gradients(rows, n_classes)
            sample = sample_rows(rows, seed)
            chosen = self.learning_rate != "constant"
            lr = safe_rate(learner, sample, self.batch_size) if chosen else self.eta0
            how = {"optimizer": "sgd", "lr": lr, "batch_size": self.batch_size}
        else:
            classes = np.arange(n_classes) if n_classes else None
            learner = StockLinear(
                self._stock(), rows.X.shape[1], classes, (), rows.X.dtype.name, t_before
            )
        self._train(
            learner,
            rows,
            place,
            watching,
            lambda w: self._unpacked(w, n_classes, is_async=is_async),
            told,
            rounds=rounds,
            seed=seed,
            start=self._pack(is_async=is_async) if goes_on else None,
            test=test,
            **how,
        )
        self._note_losses(self.loss_curve_ if goes_on else [])
        self.t_ = 1.0 + t_before + watching.n_rounds * -(-rows.n // place.n_partitions)
        return watching

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

    def _pack(self, *, is_async: bool) -> FloatVector:
        """Return the weights as the learner has them."""
        coef = np.atleast_2d(self.coef_.toarray() if issparse(self.coef_) else self.coef_)
        parts = [(coef.T if is_async else coef).ravel(), np.atleast_1d(self.intercept_)]
        packed: FloatVector = np.concatenate(parts)
        return packed

    def _unpacked(self, w: FloatVector, n_classes: int, *, is_async: bool) -> dict[str, Any]:
        """Return `coef_` and `intercept_`."""
        k = n_classes if n_classes > 2 else 1
        cut = w.size - k
        coef = w[:cut].reshape(-1, k).T if is_async else w[:cut].reshape(k, -1)
        coef = np.array(coef if n_classes else coef[0], order="C")
        return {"coef_": coef, "intercept_": w[cut:].copy()}

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

    def to_sklearn(self) -> Any:
        """Return the stock estimator, fitted with these weights; it is yours."""
        check_is_fitted(self)
        model = self._stock()
        names = ("coef_", "intercept_", "classes_", "n_features_in_", "feature_names_in_", "t_")
        for name in (*names, "n_iter_"):
            if hasattr(self, name):
                value = getattr(self, name)
                setattr(model, name, value.copy() if hasattr(value, "copy") else value)
        return model
