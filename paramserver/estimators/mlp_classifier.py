"""`MLPClassifier` of scikit-learn, trained in partitions. See `estimators.layers`."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from paramserver.estimators.base import check_same
from paramserver.estimators.classes import classes_of, meet_classes, numbers_of, relabel
from paramserver.estimators.layers import Layers
from paramserver.estimators.sklearn_callbacks import Rounds, with_callbacks
from paramserver.training.learner import Batch


class DistributedMLPClassifier(ClassifierMixin, Layers):
    """`MLPClassifier` of scikit-learn, trained on all cores or on a cluster.

    Parameters
    ----------
    hidden_layer_sizes, activation, alpha, learning_rate, learning_rate_init, power_t, tol, \
verbose, warm_start, momentum, nesterovs_momentum, early_stopping, validation_fraction, beta_1, \
beta_2, epsilon, n_iter_no_change
        As there; ``mode="async"`` takes steps of one size. ``tol=None`` takes all rounds.
    solver : {"adam", "sgd"}, default="adam"
    batch_size : int or "auto"
        As there, in each partition.
    max_iter : int, default=200
        Rounds (passes of all partitions, then an average), or epochs of ``mode="async"``.
    max_fun : int, default=15000
        As there: of a solver that is not here, and so without effect.
    shuffle, random_state, mode, n_workers, n_partitions, cluster
        As of `DistributedSGDClassifier`.

    Attributes
    ----------
    coefs_, intercepts_, classes_, n_iter_, t_, n_layers_, n_outputs_, out_activation_, loss_, \
loss_curve_, best_loss_, validation_scores_, best_validation_score_, n_features_in_, \
feature_names_in_
        As there.
    history_ : History
        A table of the rounds, with times and scores.

    Examples
    --------
    >>> import paramserver as ps
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> model = ps.DistributedMLPClassifier((32,), learning_rate_init=0.01, random_state=0)
    >>> model.fit(X[:900] / 16, y[:900]).score(X[900:] / 16, y[900:]) > 0.9
    True
    """

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train; see `DistributedSGDClassifier.fit`."""
        told = Rounds(self, X, y, sample_weight)
        goes_on = self.warm_start and hasattr(self, "coefs_")
        X, y, weight = self._rows(X, y, sample_weight, reset=True, is_numeric=False)
        classes = classes_of(y, self._least_classes())
        if goes_on:
            check_same("classes", classes, self.classes_)
        self.classes_ = classes
        n_outputs = len(classes) if len(classes) > 2 else 1
        goes_on = goes_on and self._fits(X, n_outputs)
        rows = Batch(X, numbers_of(y, classes), weight)
        watching = self._fit(
            rows, len(classes), told, rounds=self.max_iter, goes_on=goes_on, counts_on=False
        )
        self._warn_of_the_end(watching)
        told.end()
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train for one round; see `DistributedSGDClassifier.partial_fit`.

        The order of the arguments is that of `MLPClassifier`.
        """
        is_first = not hasattr(self, "coefs_")
        X, y, weight = self._rows(X, y, sample_weight, reset=is_first, is_numeric=False)
        meet_classes(self, y, classes, self._least_classes())
        rows = Batch(X, numbers_of(y, self.classes_), weight)
        self._fit(rows, len(self.classes_), rounds=1, goes_on=not is_first, counts_on=True)
        return self

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class."""
        check_is_fitted(self)
        return self._without_names().predict_proba(self._checked(X))

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of `predict_proba`."""
        return np.log(self.predict_proba(X))

    def _as_stock(self) -> Any:
        from sklearn.preprocessing import LabelBinarizer

        model = super()._as_stock()
        model._label_binarizer = LabelBinarizer()
        relabel(model, self.classes_)
        return model

    def _least_classes(self) -> int:
        """Return how many there must be: the stock estimator learns one as well."""
        return 2 if self.mode == "async" else 1

    def _kind(self) -> Any:
        from sklearn.neural_network import MLPClassifier

        return MLPClassifier
