"""`SGDClassifier` of scikit-learn, trained in partitions. See `estimators.linear`."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from paramserver.errors import ConfigError
from paramserver.estimators.base import check_same
from paramserver.estimators.classes import classes_of, meet_classes, numbers_of
from paramserver.estimators.linear import LinearSGD
from paramserver.estimators.places import workers_of
from paramserver.estimators.sklearn_callbacks import Rounds, with_callbacks
from paramserver.training.learner import Batch


class DistributedSGDClassifier(ClassifierMixin, LinearSGD):
    """`SGDClassifier` of scikit-learn, trained on all cores or on a cluster.

    Parameters
    ----------
    loss : str, default="hinge"
        As there; ``mode="async"`` has hinge, log_loss, perceptron and modified_huber.
    penalty, alpha, l1_ratio, fit_intercept, epsilon
        As there.
    max_iter : int, default=1000
        Rounds (passes of all partitions, then an average), or epochs of ``mode="async"``.
    shuffle : bool, default=True
        False trains on the rows as they come: in partitions of rows that follow each other, each in
        its order. ``mode="async"`` shuffles.
    tol, n_iter_no_change
        As there, by the mean loss of (a sample of) the rows; ``tol=None`` takes all rounds.
    verbose : int, default=0
        Print a line for each round.
    random_state : int, RandomState or None
        Of the partitions and the order of rows. Averaging then has the same bits each time.
    learning_rate : {"optimal", "constant", "invscaling", "adaptive", "pa1", "pa2"}
        As there, by default "optimal". ``mode="async"`` takes steps of one size: `eta0` for
        "constant" and "adaptive", else what the curvature of the loss allows.
    eta0, power_t
        As there.
    early_stopping, validation_fraction
        As there: watch the score on rows held out.
    class_weight, warm_start
        As there.
    average : bool or int, default=False
        Keep the mean of the weights after each round (there: each step), from the round on in which
        so many rows have been seen.
    batch_size : int, default=32
        Rows behind a gradient of ``mode="async"``.
    mode : {"avg", "async"}, default="avg"
        Average the weights of partitions that were trained apart; or push gradients to a parameter
        server, which is not deterministic where several processes do so.
    n_workers : int, optional
        By default one for each core, or all of the cluster.
    n_jobs : int, optional
        Another word for `n_workers`; as in joblib -1 are all, -2 all but one.
    n_partitions : int, optional
        By default ``max(1, min(n_workers, n_rows // 512))``. It is part of the result.
    cluster : Cluster, optional
        By default all estimators of a process share a local one. Less than 1024 rows, a single
        partition, and what is fitted inside a worker is trained in this process.

    Attributes
    ----------
    coef_, intercept_, classes_, n_iter_, t_, n_features_in_, feature_names_in_
        As there; `t_` counts the rows of one partition.
    loss_curve_ : list of float
        After each round.
    history_ : History
        The same as a table, with times and scores.

    Examples
    --------
    >>> import paramserver as ps
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), ps.DistributedSGDClassifier(random_state=0))
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    def __init__(
        self,
        loss: str = "hinge",
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
        n_jobs: int | None = None,
        random_state: Any = None,
        learning_rate: str = "optimal",
        eta0: float = 0.01,
        power_t: float = 0.5,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        class_weight: Any = None,
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
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
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
        """Train.

        Parameters
        ----------
        X : array-like, sparse matrix or table of shape (n, n_features)
        y : array-like of shape (n,)
        coef_init, intercept_init : array-like, optional
            The weights to start from, of the shapes of `coef_` and `intercept_`.
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        self
        """
        told = Rounds(self, X, y, sample_weight)
        goes_on = self.warm_start and hasattr(self, "coef_")
        X, y, weight = self._rows(X, y, sample_weight, reset=True, is_numeric=False)
        classes = classes_of(y)
        if goes_on:
            check_same("classes", classes, self.classes_)
        n_outputs = len(classes) if len(classes) > 2 else 1
        start = self._start(X, n_outputs, coef_init, intercept_init, is_warm=goes_on)
        self.classes_ = classes
        rows = self._encoded(X, y, weight)
        watching = self._fit(
            rows, len(classes), told,
            rounds=self.max_iter, start=start, goes_on=goes_on, counts_on=False,
        )  # fmt: skip
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
            All labels that may come; needed by the first call.

        Returns
        -------
        self
        """
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' is not supported for partial_fit: it depends on all rows. "
                "Compute it with compute_class_weight, and give it as a dict."
            )
        is_first = not hasattr(self, "coef_")
        X, y, weight = self._rows(X, y, sample_weight, reset=is_first, is_numeric=False)
        meet_classes(self, y, classes)
        rows = self._encoded(X, y, weight)
        self._fit(
            rows, len(self.classes_),
            rounds=1, start=self._go_on(), goes_on=not is_first, counts_on=True,
        )  # fmt: skip
        return self

    def _encoded(self, X: Any, y: Any, weight: Any) -> Batch:
        """Number the classes, and multiply the weights of rows by those of their classes."""
        numbers = numbers_of(y, self.classes_)
        if self.class_weight is not None:
            factors = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
            of_rows = factors[numbers].astype(X.dtype)
            weight = of_rows if weight is None else weight * of_rows
        return Batch(X, numbers, weight)

    def decision_function(self, X: Any) -> Any:
        """Return the outputs for rows: (n,) for two classes, else (n, n_classes)."""
        return self._outputs(X)

    def predict(self, X: Any) -> Any:
        """Return the class of each row."""
        z = self._outputs(X)
        return self.classes_[(z > 0).astype(int) if z.ndim == 1 else z.argmax(axis=1)]

    @available_if(lambda self: self._has_probabilities())  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class: for log_loss and modified_huber, as there."""
        check_is_fitted(self)
        return self._without_names().predict_proba(self._checked(X))

    @available_if(lambda self: self._has_probabilities())  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of `predict_proba`."""
        return np.log(self.predict_proba(X))

    def _has_probabilities(self) -> bool:
        if self.loss not in ("log_loss", "modified_huber"):
            raise AttributeError(f"probability estimates are not available for loss={self.loss!r}")
        return True

    def _most_workers(self) -> int | None:
        if self.n_jobs is None:
            return self.n_workers
        if self.n_workers is not None:
            raise ConfigError(
                "n_jobs and n_workers are two words for one thing: give one of them.",
                field="n_jobs",
                value=self.n_jobs,
            )
        return workers_of(self.n_jobs, self.cluster)

    def _kind(self) -> Any:
        from sklearn.linear_model import SGDClassifier

        return SGDClassifier
