"""`MLPRegressor` of scikit-learn, trained in partitions. See `estimators.layers`."""

from __future__ import annotations

from typing import Any, Self

from sklearn.base import RegressorMixin
from sklearn.utils import column_or_1d
from sklearn.utils._param_validation import StrOptions

from paramserver.estimators.layers import Layers
from paramserver.estimators.sklearn_callbacks import Rounds, with_callbacks
from paramserver.training.learner import Batch


class DistributedMLPRegressor(RegressorMixin, Layers):
    """`MLPRegressor` of scikit-learn, trained on all cores or on a cluster.

    Parameters
    ----------
    loss : {"squared_error", "poisson"}, default="squared_error"
        As there; "poisson" (scikit-learn 1.7 and later) is for counts, 0 or more.
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, \
power_t, max_iter, shuffle, random_state, tol, verbose, warm_start, momentum, \
nesterovs_momentum, early_stopping, validation_fraction, beta_1, beta_2, epsilon, \
n_iter_no_change, max_fun, mode, n_workers, n_partitions, cluster
        As of `DistributedMLPClassifier`, which has its attributes as well.

    Examples
    --------
    >>> import numpy as np
    >>> import paramserver as ps
    >>> X = np.random.default_rng(0).standard_normal((400, 2))
    >>> model = ps.DistributedMLPRegressor(
    ...     hidden_layer_sizes=(16,), learning_rate_init=0.01, random_state=0
    ... )
    >>> model.fit(X, X[:, 0] * X[:, 1]).score(X, X[:, 0] * X[:, 1]) > 0.9
    True
    """

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float | None = 1e-4,
        verbose: int = 0,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
        max_fun: int = 15000,
        mode: str = "avg",
        n_workers: int | None = None,
        n_partitions: int | None = None,
        cluster: Any = None,
    ) -> None:
        self.loss = loss
        super().__init__(
            hidden_layer_sizes,
            activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
            mode=mode,
            n_workers=n_workers,
            n_partitions=n_partitions,
            cluster=cluster,
        )

    def _rules(self) -> dict[str, list[Any]]:
        # Before 1.7 the stock estimator has one loss, and no rule for it.
        return {"loss": [StrOptions({"squared_error"})]} | super()._rules()

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train; see `DistributedSGDClassifier.fit`."""
        told = Rounds(self, X, y, sample_weight)
        goes_on = self.warm_start and hasattr(self, "coefs_")
        rows = self._rows_of_numbers(X, y, sample_weight, reset=True)
        n_outputs = 1 if rows.y.ndim == 1 else rows.y.shape[1]
        goes_on = goes_on and self._fits(rows.X, n_outputs)
        watching = self._fit(rows, 0, told, rounds=self.max_iter, goes_on=goes_on, counts_on=False)
        self._warn_of_the_end(watching)
        told.end()
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one round, from the weights there are."""
        is_first = not hasattr(self, "coefs_")
        rows = self._rows_of_numbers(X, y, sample_weight, reset=is_first)
        if not is_first:
            check_outputs(rows.y, self.n_outputs_)
        self._fit(rows, 0, rounds=1, goes_on=not is_first, counts_on=True)
        return self

    def _rows_of_numbers(self, X: Any, y: Any, sample_weight: Any, *, reset: bool) -> Batch:
        """Return checked rows, y as wide as X; refuse what the loss is not for."""
        X, y, weight = self._rows(
            X, y, sample_weight, reset=reset, is_numeric=True, may_have_columns=True
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if self.loss == "poisson" and (y < 0).any():
            raise ValueError(
                f"loss='poisson' is for counts and rates, and y has {int((y < 0).sum())} values "
                "below 0."
            )
        return Batch(X, y.astype(X.dtype, copy=False), weight)

    def _kind(self) -> Any:
        from sklearn.neural_network import MLPRegressor

        return MLPRegressor


def check_outputs(y: Any, n_outputs: int) -> None:
    """Refuse a part that has another number of columns to predict than the parts before.

    Raises
    ------
    ValueError
    """
    n = 1 if y.ndim == 1 else y.shape[1]
    if n != n_outputs:
        raise ValueError(f"y has {n} numbers a row, and the parts before had {n_outputs}.")
