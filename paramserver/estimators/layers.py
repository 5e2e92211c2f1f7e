"""What `DistributedMLPClassifier` and `DistributedMLPRegressor` have in common.

Rule 1: with ``mode="avg"`` each partition is trained by the stock estimator itself, and weights and
        moments are averaged after each pass. With ``mode="async"`` gradients are pushed to a
        parameter server, which holds the optimizer.
Rule 2: what is fitted has the names and shapes of the stock estimator, and `to_sklearn` is one.
"""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from paramserver.errors import ConfigError
from paramserver.estimators.base import DistributedEstimator, check_same
from paramserver.estimators.fitting import Steps, falling_rates
from paramserver.estimators.keeping import Best
from paramserver.estimators.learners import StockLayers
from paramserver.estimators.places import Place
from paramserver.estimators.sklearn_callbacks import N_WRAPPERS, Rounds
from paramserver.estimators.watching import Watching
from paramserver.models.mlp import MLP
from paramserver.training.learner import Batch
from paramserver.training.vector import FloatVector

_FITTED = ("coefs_", "intercepts_", "n_layers_", "n_outputs_", "out_activation_")


class Layers(DistributedEstimator):
    """What both have in common."""

    def __init__(
        self,
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
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.mode = mode
        self.n_workers = n_workers
        self.n_partitions = n_partitions
        self.cluster = cluster

    classes_: Any
    validation_scores_: list[float] | None
    best_validation_score_: float | None
    best_loss_: float | None
    coefs_: list[Any]
    intercepts_: list[Any]
    _weights: Any
    _n_steps: int
    """Of the optimizer, since it was made."""

    def _stock(self) -> Any:
        stock = super()._stock()
        if self.tol is None:  # which the stock estimator does not know
            stock.set_params(tol=self._kind()().tol)
        return stock

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
        """Train; leave the fitted attributes. See `LinearSGD._fit`."""
        is_async = self._is_async()
        if self.solver not in ("adam", "sgd"):
            raise ConfigError(
                f"solver is 'adam' or 'sgd', not {self.solver!r}: others do not go by passes.",
                field="solver",
                value=self.solver,
            )
        if counts_on and goes_on:
            self._require_the_layers_there_are()
        labels = rows.y if n_classes == 2 else None  # as there: of more classes any rows will do
        fitting = self._set_out(
            rows, told, rounds, self.n_iter_no_change + 1,
            is_part=counts_on, labels=labels, least_held_out=2,
        )  # fmt: skip
        rows, watching = fitting.rows, fitting.watching
        size = self._size_of_batches(rows.n, fitting.place)
        t_before = self.t_ if goes_on else 0
        steps_before = self._n_steps if goes_on and counts_on else 0
        rates = [self.learning_rate_init]
        if self._schedule() == "adaptive":
            rates = falling_rates(self.learning_rate_init)
        if is_async:
            fitting.rows, ways = self._pushes(rows, n_classes, rates, size)
            start = self._pack_async(n_classes) if goes_on else None
        else:
            counted = t_before, steps_before
            ways = [self._passes(rows, n_classes, rate, size, *counted) for rate in rates]
            start = self._pack(ways[0].learner, keeps_moments=counts_on) if goes_on else None
        losses_before = self.loss_curve_ if goes_on else []
        if fitting.test is not None:
            fitting.kept = self._best_so_far(start)

        def fitted(w: FloatVector) -> dict[str, Any]:
            model = ways[0].learner.to_sklearn(fitting.kept.of(w))  # type: ignore[attr-defined]
            return {name: getattr(model, name) for name in _FITTED} | {
                "t_": t_before + watching.n_rounds * fitting.rows_each,
                "_n_steps": steps_before + watching.n_rounds * -(-fitting.rows_each // size),
                "loss_": watching.losses[-1],
                "loss_curve_": losses_before + watching.losses,
            }

        weights = self._train(fitting, ways, start, fitted, losses_before=losses_before)
        self.loss_ = self.loss_curve_[-1]
        self._note_best(goes_on=goes_on)
        self._weights = None if is_async else fitting.kept.of(weights)
        return watching

    def _schedule(self) -> str:
        """Return how the learning rate falls; of Adam, as there, it does not."""
        return self.learning_rate if self.solver == "sgd" else "constant"

    def _best_so_far(self, start: FloatVector | None) -> Best:
        """Return what keeps the weights with the best score; those of a warm start have theirs."""
        score = getattr(self, "best_validation_score_", None)
        return Best() if start is None or score is None else Best(score, start)

    def _note_best(self, *, goes_on: bool) -> None:
        """Leave the best loss, or with early stopping the best score, as the stock estimator."""
        scores = [told.test_score for told in self.history_ if told.test_score is not None]
        before = (getattr(self, "validation_scores_", None) or []) if goes_on else []
        self.validation_scores_ = [*before, *scores] if scores else None
        self.best_validation_score_ = max(self.validation_scores_ or [], default=None)
        self.best_loss_ = None if scores else min(self.loss_curve_)

    def _size_of_batches(self, n_rows: int, place: Place) -> int:
        """Return how many rows a step takes; no partition has fewer."""
        smallest = n_rows // place.n_partitions
        if self.batch_size == "auto":
            return min(200, smallest)
        if self.batch_size > smallest:
            warnings.warn(
                f"Got `batch_size` larger than sample size ({smallest} rows in a partition). It is "
                "going to be clipped.",
                stacklevel=4 + N_WRAPPERS,
            )
        return min(int(self.batch_size), smallest)

    def _passes(
        self,
        rows: Batch,
        n_classes: int,
        rate: float,
        size: int,
        t_before: int,
        steps_before: int,
    ) -> Steps:
        """Return steps of the stock estimator, in passes over each partition."""
        stock = self._stock_for_parts().set_params(batch_size=size, learning_rate_init=rate)
        if self._schedule() in ("constant", "adaptive"):
            stock.set_params(learning_rate="constant")
        weighs = "sample_weight" in inspect.signature(stock.partial_fit).parameters
        if rows.weight is not None and not weighs:
            raise ValueError("sample_weight of layers needs scikit-learn 1.7 or later.")
        learner = StockLayers(
            stock,
            rows.X.shape[1],
            np.arange(n_classes) if n_classes else None,
            dtype_name=rows.X.dtype.name,
            shuffles=self.shuffle,
            t_before=t_before,
            steps_before=steps_before,
            n_outputs=1 if rows.y.ndim == 1 else rows.y.shape[1],
        )
        return Steps(learner)

    def _pushes(
        self, rows: Batch, n_classes: int, rates: list[float], size: int
    ) -> tuple[Batch, list[Steps]]:
        """Return steps by gradients that are pushed, and the rows with weights that fit them."""
        if self._schedule() == "invscaling":
            raise ConfigError(
                "mode='async' takes steps of one size (learning_rate='constant' or 'adaptive'), "
                "not 'invscaling'.",
                field="learning_rate",
                value=self.learning_rate,
            )
        if rows.y.ndim > 1:
            raise ValueError(
                f"mode='async' predicts one number a row, and y is of shape {rows.y.shape}; "
                "mode='avg' has several."
            )
        hidden = self._hidden()
        if min(hidden, default=1) < 1:
            raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}.")
        # As in the stock estimator: a batch's mean loss is by the sum of its weights.
        mean_weight = 1.0 if rows.weight is None else float(rows.weight.mean())
        if rows.weight is not None:
            rows = rows._replace(weight=rows.weight / rows.weight.dtype.type(mean_weight))
        learner = MLP(
            rows.X.shape[1],
            n_classes,
            tuple(hidden),
            self.activation,
            self.alpha / (size * mean_weight),  # there it is divided by the weights of a batch
            rows.X.dtype.name,
            loss_name=getattr(self, "loss", "squared_error"),
        )
        return rows, [Steps(learner, self._optimizer(), rate, size) for rate in rates]

    def _optimizer(self) -> str:
        """Return what the parameter server steps by."""
        defaults = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8}
        if self.solver == "adam":
            if any(getattr(self, name) != value for name, value in defaults.items()):
                raise ConfigError(
                    f"mode='async' has Adam with {defaults} alone.", field="beta_1", value=None
                )
            return "adam"
        if self.momentum == 0:
            return "sgd"
        if self.momentum != 0.9:
            raise ConfigError(
                f"mode='async' has the momentum 0.9 or 0, not {self.momentum}.",
                field="momentum",
                value=self.momentum,
            )
        return "nesterov" if self.nesterovs_momentum else "momentum"

    def _pack(self, learner: Any, *, keeps_moments: bool) -> FloatVector:
        """Return the weights there are, and the moments, as the learner has them."""
        if keeps_moments and self._weights is not None and self._weights.size == learner.size:
            return np.asarray(self._weights)
        parts = [array.ravel() for array in (*self.coefs_, *self.intercepts_)]
        packed: FloatVector = np.zeros(learner.size, learner.dtype)
        flat = np.concatenate(parts)
        packed[: flat.size] = flat
        return packed

    def _pack_async(self, n_classes: int) -> FloatVector:
        """Return the weights there are, layer by layer; two classes have an output each here."""
        layers = list(zip(self.coefs_, self.intercepts_, strict=True))
        if n_classes == 2:
            coef, intercept = layers[-1]
            layers[-1] = (
                np.hstack([-0.5 * coef, 0.5 * coef]),
                np.hstack([-0.5 * intercept, 0.5 * intercept]),
            )
        packed: FloatVector = np.concatenate([part.ravel() for layer in layers for part in layer])
        return packed

    def _hidden(self) -> list[int]:
        """Return how wide the hidden layers are to be."""
        widths: list[int] = np.atleast_1d(np.asarray(self.hidden_layer_sizes, int)).tolist()
        return widths

    def _require_the_layers_there_are(self) -> None:
        """Refuse to train the weights there are as those of other layers."""
        there, hidden = [coef.shape[1] for coef in self.coefs_[:-1]], self._hidden()
        if hidden != there:
            raise ValueError(
                f"partial_fit goes on with the hidden layers there are, {there}, and "
                f"hidden_layer_sizes says {hidden} now. Clone the estimator to begin anew."
            )

    def _fits(self, X: Any, n_outputs: int) -> bool:
        """Say whether the weights there are are for such layers.

        Raises
        ------
        ValueError
            If they are for rows of another width.
        """
        check_same("number of features", X.shape[1], self.coefs_[0].shape[0])
        widths = [X.shape[1], *self._hidden(), n_outputs]
        there = [self.coefs_[0].shape[0], *(coef.shape[1] for coef in self.coefs_)]
        return there == widths

    def _as_stock(self) -> Any:
        model = self._stock()
        for name in (*_FITTED, "n_iter_", "t_", "loss_", "loss_curve_"):
            setattr(model, name, getattr(self, name))
        model.best_loss_, model._no_improvement_count = min(self.loss_curve_), 0
        # What early stopping there goes on from; as views, so that in a copy they are apart.
        model._best_coefs = [coef.view() for coef in self.coefs_]
        model._best_intercepts = [intercept.view() for intercept in self.intercepts_]
        scores = "validation_scores_", "best_validation_score_"  # not known amid a fit
        for name in (*scores, "n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                setattr(model, name, getattr(self, name))
        return model

    def predict(self, X: Any) -> Any:
        """Return what is predicted for each row: a class, or a number."""
        check_is_fitted(self)
        return self._without_names().predict(self._checked(X))
