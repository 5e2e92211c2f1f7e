"""Any estimator of scikit-learn that has `partial_fit`, trained in partitions and averaged.

Rule 1: the estimator that was given is cloned, never changed; `estimator_` is the fitted one.
"""

from __future__ import annotations

from copy import copy
from typing import Any, Self

import numpy as np
from sklearn.base import MetaEstimatorMixin, is_classifier
from sklearn.utils import get_tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from paramserver.estimators.base import AT_LEAST_ONE, DistributedEstimator, check_same
from paramserver.estimators.classes import classes_of, meet_classes, numbers_of, relabel
from paramserver.estimators.fitting import Fitting, Steps
from paramserver.estimators.keeping import Last
from paramserver.estimators.sklearn_callbacks import Rounds, with_callbacks
from paramserver.estimators.watching import Watching
from paramserver.models.adapter import SklearnLearner
from paramserver.training.learner import Batch
from paramserver.training.vector import FloatVector


def _own_has(name: str) -> Any:
    def check(self: AveragedEstimator) -> bool:
        getattr(getattr(self, "estimator_", self.estimator), name)
        return True

    return available_if(check)


class AveragedEstimator(MetaEstimatorMixin, DistributedEstimator):
    """Train an estimator on partitions of the rows, and average what it has learnt, round by round.

    Parameters
    ----------
    estimator : estimator
        With `partial_fit`, and with arrays whose average is a model again: `coef_` and
        `intercept_`, `coefs_` and `intercepts_`, or those named. ``shuffle=False`` is heeded.
    max_iter : int, default=20
        Rounds.
    tol : float, optional
        End when the loss (rate of errors, or half the mean squared error) has not fallen by so much
        in `n_iter_no_change` rounds; by default all rounds are taken.
    n_iter_no_change : int, default=5
    attributes : tuple of str, optional
        Names of the arrays to average.
    random_state, verbose, warm_start, n_workers, n_partitions, cluster
        As of `DistributedSGDClassifier`.

    Attributes
    ----------
    estimator_ : estimator
        Fitted; `to_sklearn` returns a copy.
    classes_, n_iter_, loss_curve_, history_, n_features_in_, feature_names_in_
        As of `DistributedSGDClassifier`.

    Examples
    --------
    >>> import paramserver as ps
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import Perceptron
    >>> X, y = load_digits(return_X_y=True)
    >>> model = ps.AveragedEstimator(Perceptron(), n_partitions=2, max_iter=5, random_state=0)
    >>> model.fit(X[:500], y[:500]).score(X[:500], y[:500]) > 0.9
    True
    """

    classes_: Any
    estimator_: Any
    _weights: Any
    _counted: tuple[int, int]
    """Rows that a partition has seen, and steps that it has taken."""
    _required_parameters = ("estimator",)

    def __init__(
        self,
        estimator: Any,
        *,
        max_iter: int = 20,
        tol: float | None = None,
        n_iter_no_change: int = 5,
        attributes: Any = None,
        random_state: Any = None,
        verbose: int = 0,
        warm_start: bool = False,
        n_workers: int | None = None,
        n_partitions: int | None = None,
        cluster: Any = None,
    ) -> None:
        self.estimator = estimator
        self.max_iter = max_iter
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.attributes = attributes
        self.random_state = random_state
        self.verbose = verbose
        self.warm_start = warm_start
        self.n_workers = n_workers
        self.n_partitions = n_partitions
        self.cluster = cluster

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        own = get_tags(self.estimator)
        tags.estimator_type = own.estimator_type
        tags.classifier_tags, tags.regressor_tags = own.classifier_tags, own.regressor_tags
        tags.target_tags.required = True
        tags.input_tags.sparse = own.input_tags.sparse
        return tags

    def _rules(self) -> dict[str, list[Any]]:
        return {
            "max_iter": [AT_LEAST_ONE],
            "n_iter_no_change": [AT_LEAST_ONE],
            "random_state": ["random_state"],
            "verbose": ["verbose"],
            "warm_start": ["boolean"],
        }

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train.

        Parameters
        ----------
        X : array-like, sparse matrix or table of shape (n, n_features)
        y : array-like of shape (n,)
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        self
        """
        told = Rounds(self, X, y, sample_weight)
        goes_on = self.warm_start and hasattr(self, "estimator_")
        watching = self._fit(X, y, sample_weight, self.max_iter, told, goes_on=goes_on)
        self._warn_of_the_end(watching)
        told.end()
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train for one round, from the weights there are.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        classes : array-like, optional
            All labels that may come; needed by the first call of a classifier.

        Returns
        -------
        self
        """
        goes_on = hasattr(self, "estimator_")
        self._fit(X, y, sample_weight, 1, goes_on=goes_on, classes=classes, is_part=True)
        return self

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        rounds: int,
        told: Rounds | None = None,
        *,
        goes_on: bool,
        classes: Any = None,
        is_part: bool = False,
    ) -> Watching:
        has_classes = is_classifier(self.estimator)
        reset = not (is_part and goes_on)
        X, y, weight = self._rows(X, y, sample_weight, reset=reset, is_numeric=not has_classes)
        if has_classes:
            if is_part:
                meet_classes(self, y, classes)
            else:
                found = classes_of(y)
                if goes_on:
                    check_same("classes", found, self.classes_)
                self.classes_ = found
            y = numbers_of(y, self.classes_)
        numbers = np.arange(len(self.classes_)) if has_classes else None
        t_before, steps_before = self._counted if is_part and goes_on else (0, 0)
        learner = SklearnLearner(
            self.estimator,
            X.shape[1],
            numbers,
            tuple(self.attributes or ()),
            X.dtype.name,
            t_before=t_before,
            steps_before=steps_before,
        )
        tol = None if is_part else self.tol
        watching = Watching(tol, self.n_iter_no_change, by_score=False, verbose=bool(self.verbose))
        if goes_on:
            check_same("number of weights", learner.size, self._weights.size)
        start = self._weights if goes_on else None
        rows, place, shuffles = Batch(X, y, weight), self._place(X.shape[0]), learner.shuffles
        fitting = Fitting(
            rows, None, place, watching, self._seed(), rounds, shuffles is not False, told, Last()
        )

        def fitted(w: FloatVector) -> dict[str, Any]:
            model = learner.to_sklearn(w, watching.n_rounds, fitting.rows_each)
            if has_classes:
                relabel(model, self.classes_)
            return {"estimator_": model}

        losses_before = self.loss_curve_ if goes_on else []
        self._weights = self._train(
            fitting, [Steps(learner)], start, fitted, losses_before=losses_before
        )
        self._counted = learner.counted(watching.n_rounds, fitting.rows_each)
        return watching

    @property
    def coef_(self) -> Any:
        """Those of the fitted estimator, if it has any."""
        return self.estimator_.coef_

    @property
    def intercept_(self) -> Any:
        """Those of the fitted estimator, if it has any."""
        return self.estimator_.intercept_

    def _as_stock(self) -> Any:
        model = copy(self.estimator_)
        if hasattr(self, "feature_names_in_"):
            model.feature_names_in_ = self.feature_names_in_
        return model

    def predict(self, X: Any) -> Any:
        """Return what the fitted estimator predicts for rows."""
        check_is_fitted(self)
        return self.estimator_.predict(self._checked(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the fitted estimator's own score."""
        check_is_fitted(self)
        return float(self.estimator_.score(self._checked(X), y, sample_weight=sample_weight))

    @_own_has("decision_function")  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> Any:
        """Return the fitted estimator's outputs for rows."""
        check_is_fitted(self)
        return self.estimator_.decision_function(self._checked(X))

    @_own_has("predict_proba")  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Any:
        """Return the fitted estimator's probability of each class."""
        check_is_fitted(self)
        return self.estimator_.predict_proba(self._checked(X))

    @_own_has("predict_log_proba")  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of `predict_proba`."""
        check_is_fitted(self)
        return self.estimator_.predict_log_proba(self._checked(X))
