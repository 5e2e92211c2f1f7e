"""`MLPRegressor` of scikit-learn, trained in partitions. See `estimators.layers`."""

from __future__ import annotations

from typing import Any, Self

from sklearn.base import RegressorMixin

from paramserver.estimators.layers import SHARED, Layers
from paramserver.estimators.sklearn_callbacks import Rounds, with_callbacks
from paramserver.training.learner import Batch


class DistributedMLPRegressor(RegressorMixin, Layers):
    """`MLPRegressor` of scikit-learn, trained on all cores or on a cluster.

    Parameters and attributes are those of `DistributedMLPClassifier`.

    Examples
    --------
    >>> import numpy as np
    >>> import paramserver as ps
    >>> X = np.random.default_rng(0).standard_normal((400, 2))
    >>> model = ps.DistributedMLPRegressor((16,), learning_rate_init=0.01, random_state=0)
    >>> model.fit(X, X[:, 0] * X[:, 1]).score(X, X[:, 0] * X[:, 1]) > 0.9
    True
    """

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train; see `DistributedSGDClassifier.fit`."""
        told = Rounds(self, X, y, sample_weight)
        goes_on = self.warm_start and hasattr(self, "coefs_")
        X, y, weight = self._rows(X, y, sample_weight, reset=True, is_numeric=True)
        rows = Batch(X, y.astype(X.dtype, copy=False), weight)
        goes_on = goes_on and self._fits(X, 1)
        watching = self._fit(rows, 0, told, rounds=self.max_iter, goes_on=goes_on, counts_on=False)
        self._warn_of_the_end(watching)
        told.end()
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one round, from the weights there are."""
        is_first = not hasattr(self, "coefs_")
        X, y, weight = self._rows(X, y, sample_weight, reset=is_first, is_numeric=True)
        rows = Batch(X, y.astype(X.dtype, copy=False), weight)
        self._fit(rows, 0, rounds=1, goes_on=not is_first, counts_on=True)
        return self

    def _stock(self) -> Any:
        from sklearn.neural_network import MLPRegressor

        return MLPRegressor(**{name: getattr(self, name) for name in SHARED})
