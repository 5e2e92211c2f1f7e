"""`SGDRegressor` of scikit-learn, trained in partitions. See `estimators.linear`."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin

from paramserver.estimators.linear import LinearSGD
from paramserver.estimators.sklearn_callbacks import Rounds, with_callbacks
from paramserver.training.learner import Batch


class DistributedSGDRegressor(RegressorMixin, LinearSGD):
    """`SGDRegressor` of scikit-learn, trained on all cores or on a cluster.

    Parameters
    ----------
    loss : str, default="squared_error"
        As there; ``mode="async"`` has squared_error and huber.
    learning_rate : {"invscaling", "optimal", "constant", "adaptive", "pa1", "pa2"}
        By default "invscaling".
    penalty, alpha, l1_ratio, fit_intercept, max_iter, tol, shuffle, verbose, epsilon, \
random_state, eta0, power_t, early_stopping, validation_fraction, n_iter_no_change, warm_start, \
average, batch_size, mode, n_workers, n_partitions, cluster
        As of `DistributedSGDClassifier`.

    Attributes
    ----------
    coef_, intercept_, n_iter_, t_, n_features_in_, feature_names_in_, loss_curve_, history_
        As of `DistributedSGDClassifier`; `coef_` has the shape (n_features,).

    Examples
    --------
    >>> import numpy as np
    >>> import paramserver as ps
    >>> X = np.random.default_rng(0).standard_normal((400, 2))
    >>> model = ps.DistributedSGDRegressor(random_state=0).fit(X, X @ [1.0, -2.0] + 3)
    >>> model.coef_.round(1), model.intercept_.round(1)
    (array([ 1., -2.]), array([3.]))
    """

    def __init__(
        self,
        loss: str = "squared_error",
        *,
        penalty: str | None = "l2",
        alpha: float = 0.0001,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        shuffle: bool = True,
        verbose: int = 0,
        epsilon: float = 0.1,
        random_state: Any = None,
        learning_rate: str = "invscaling",
        eta0: float = 0.01,
        power_t: float = 0.25,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        average: bool | int = False,
        batch_size: int = 32,
        mode: str = "avg",
        n_workers: int | None = None,
        n_partitions: int | None = None,
        cluster: Any = None,
    ) -> None:
        self.loss = loss
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.verbose = verbose
        self.epsilon = epsilon
        self.random_state = random_state
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.average = average
        self.batch_size = batch_size
        self.mode = mode
        self.n_workers = n_workers
        self.n_partitions = n_partitions
        self.cluster = cluster

    @with_callbacks
    def fit(
        self,
        X: Any,
        y: Any,
        coef_init: Any = None,
        intercept_init: Any = None,
        sample_weight: Any = None,
    ) -> Self:
        """Train; see `DistributedSGDClassifier.fit`."""
        told = Rounds(self, X, y, sample_weight)
        goes_on = self.warm_start and hasattr(self, "coef_")
        X, y, weight = self._rows(X, y, sample_weight, reset=True, is_numeric=True)
        start = self._start(X, 1, coef_init, intercept_init, is_warm=goes_on)
        rows = Batch(X, y.astype(np.float64, copy=False), weight)
        watching = self._fit(
            rows, 0, told, rounds=self.max_iter, start=start, goes_on=goes_on, counts_on=False
        )
        self._warn_of_the_end(watching)
        told.end()
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one round, from the weights there are."""
        is_first = not hasattr(self, "coef_")
        X, y, weight = self._rows(X, y, sample_weight, reset=is_first, is_numeric=True)
        rows = Batch(X, y.astype(np.float64, copy=False), weight)
        start = self._go_on()
        self._fit(rows, 0, rounds=1, start=start, goes_on=not is_first, counts_on=True)
        return self

    def predict(self, X: Any) -> Any:
        """Return the number predicted for each row."""
        return self._outputs(X)

    def _kind(self) -> Any:
        from sklearn.linear_model import SGDRegressor

        return SGDRegressor
