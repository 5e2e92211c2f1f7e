"""What all estimators here have in common: a training, and what it leaves on the estimator.

Rule 1: parameters are stored as they were given, and looked at in `fit` alone.
Rule 2: what a fit ends with follows from data, parameters and `random_state` (for `mode="async"` in
        several processes: but for the order in which gradients come).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from copy import deepcopy
from numbers import Integral, Real
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn import get_config
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from paramserver.cluster import Cluster
from paramserver.errors import ConfigError
from paramserver.estimators.fitting import Fitting, Steps
from paramserver.estimators.keeping import Last
from paramserver.estimators.places import Place, choose_place
from paramserver.estimators.sklearn_callbacks import N_WRAPPERS, CallbackSupport, Fitted, Rounds
from paramserver.estimators.watching import Watching
from paramserver.training.learner import Batch
from paramserver.training.result import History
from paramserver.training.vector import FloatVector

AT_LEAST_ONE: Final = Interval(Integral, 1, None, closed="left")
OWN_RULES: Final[dict[str, list[Any]]] = {
    "tol": [Interval(Real, 0, None, closed="left"), None],
    "mode": [StrOptions({"avg", "async"})],
    "n_workers": [AT_LEAST_ONE, None],
    "n_partitions": [AT_LEAST_ONE, None],
    "cluster": [Cluster, None],
}
"""What the parameters that stock estimators do not have may be."""


class DistributedEstimator(CallbackSupport, BaseEstimator):
    """An estimator that trains in partitions. See `DistributedSGDClassifier`."""

    max_iter: int
    tol: float | None
    n_iter_no_change: int
    verbose: int
    random_state: Any
    warm_start: bool
    early_stopping: bool
    validation_fraction: float
    shuffle: bool
    n_workers: int | None
    n_partitions: int | None
    cluster: Any

    n_iter_: int
    history_: History
    loss_curve_: list[float]
    n_features_in_: int

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # --- settings ---------------------------------------------------------------------------------

    def _kind(self) -> Any:
        """Return the class of the stock estimator."""
        raise NotImplementedError

    def _stock(self) -> Any:
        """Return the stock estimator with these parameters, not fitted."""
        own, kind = self.get_params(deep=False), self._kind()
        return kind(**{name: own[name] for name in kind().get_params() if name in own})

    def _stock_for_parts(self) -> Any:
        """Return it as it trains a partition, pass by pass: what is done around it is switched off.

        The weights of classes are in those of the rows, the rest is up to the rounds.
        """
        off = {
            "class_weight": None,
            "early_stopping": False,
            "average": False,
            "verbose": False,
            "n_jobs": None,
        }
        stock = self._stock()
        known = stock.get_params(deep=False)
        return stock.set_params(**{name: value for name, value in off.items() if name in known})

    def _rules(self) -> dict[str, list[Any]]:
        """Return what each parameter may be: as the stock estimator has it, and our own."""
        return dict(self._kind()._parameter_constraints)

    def _check_settings(self) -> None:
        if not get_config()["skip_parameter_validation"]:
            settings = self.get_params(deep=False)
            rules = self._rules() | OWN_RULES
            rules = {name: rule for name, rule in rules.items() if name in settings}
            validate_parameter_constraints(rules, settings, type(self).__name__)

    # --- data -------------------------------------------------------------------------------------

    def _rows(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        reset: bool,
        is_numeric: bool,
        may_have_columns: bool = False,
    ) -> tuple[Any, Any, npt.NDArray[Any] | None]:
        """Return checked X, y and weights; refuse settings first."""
        self._check_settings()
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            order="C",
            y_numeric=is_numeric,
            multi_output=may_have_columns,
            reset=reset,
        )
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, X, dtype=X.dtype, ensure_non_negative=True
            )
            if not sample_weight.any():
                raise ValueError("All sample weights are zero: there is nothing to learn from.")
        return X, y, sample_weight

    def _checked(self, X: Any) -> Any:
        return validate_data(
            self, X, accept_sparse="csr", dtype=[np.float64, np.float32], reset=False
        )

    # --- the stock estimator ----------------------------------------------------------------------

    def to_sklearn(self) -> Any:
        """Return the stock estimator, fitted with these weights; it is yours."""
        check_is_fitted(self)
        return deepcopy(self._as_stock())

    def _as_stock(self) -> Any:
        """Return the stock estimator with these very weights: to be asked, not to be changed."""
        raise NotImplementedError

    def _without_names(self) -> Any:
        """Return it as it is asked with arrays: that rows have their columns was checked before."""
        model = self._as_stock()
        vars(model).pop("feature_names_in_", None)
        return model

    # --- training ---------------------------------------------------------------------------------

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _place(self, n_rows: int) -> Place:
        return choose_place(n_rows, self._most_workers(), self.n_partitions, self.cluster)

    def _most_workers(self) -> int | None:
        """Return how many workers may train; None for all."""
        return self.n_workers

    def _set_out(
        self,
        rows: Batch,
        told: Rounds | None,
        rounds: int,
        patience: int,
        *,
        is_part: bool,
        labels: Any,
        least_held_out: int = 1,
    ) -> Fitting:
        """Return a fit of rows, some of them held out where that is asked for.

        A part of the rows (`is_part`) is trained on for its rounds. Of each of the `labels`, unless
        they are None, the same share is held out.
        """
        seed, test = self._seed(), None
        if self.early_stopping and is_part:
            raise ValueError(
                "early_stopping should be False with partial_fit: no rows of a part are held out."
            )
        if self.early_stopping:
            rows, test = hold_out(rows, self.validation_fraction, seed, labels)
            if test.n < least_held_out:
                raise ValueError(
                    "The validation set is too small. Increase 'validation_fraction' or the size "
                    "of your dataset."
                )
            if test.weight is not None and not test.weight.any():
                raise ValueError(
                    "The sample weights for validation set are all zero, consider using a "
                    "different random state."
                )
        tol, by_score = None if is_part else self.tol, test is not None
        watching = Watching(tol, patience, by_score=by_score, verbose=bool(self.verbose))
        place = self._place(rows.n)
        return Fitting(rows, test, place, watching, seed, rounds, self.shuffle, told, Last())

    def _is_async(self) -> bool:
        """Return whether gradients are pushed; refuse what that cannot be."""
        is_async = bool(getattr(self, "mode", "avg") == "async")
        if is_async and not self.shuffle:
            raise ConfigError(
                "mode='async' takes the rows of a pass by chance; shuffle=False needs mode='avg'.",
                field="shuffle",
                value=False,
            )
        return is_async

    def _train(
        self,
        fitting: Fitting,
        ways: Sequence[Steps],
        start: FloatVector | None,
        fitted: Fitted,
        *,
        losses_before: list[float],
    ) -> FloatVector:
        """Train; leave on the estimator what all of them have, and what `fitted` says."""
        weights, self.history_ = fitting.train(ways, start, fitted)
        watching = fitting.watching
        self.n_iter_ = watching.n_rounds
        for name, value in fitted(weights).items():
            setattr(self, name, value)
        # The last one is known of all rows; before, a sample was looked at.
        losses = [*watching.losses[:-1], self.history_[-1].train_loss]
        self.loss_curve_ = losses_before + losses
        return weights

    def _warn_of_the_end(self, watching: Watching) -> None:
        was_cut_off = watching.n_rounds >= self.max_iter and not watching.has_converged
        if self.tol is not None and was_cut_off:  # and not ended by a callback
            warnings.warn(
                f"Maximum number of iterations ({self.max_iter}) reached before convergence. "
                "Consider increasing max_iter to improve the fit.",
                ConvergenceWarning,
                stacklevel=3 + N_WRAPPERS,
            )


def check_same(what: str, now: Any, before: Any) -> None:
    """Refuse to go on, by a warm start, from weights that are for something else.

    Raises
    ------
    ValueError
    """
    if not np.array_equal(now, before):
        raise ValueError(
            f"warm_start=True needs the same {what} as before: {before}, not {now}. Set "
            "warm_start=False, or clone the estimator, to begin anew."
        )


def hold_out(rows: Batch, fraction: float, seed: int, labels: Any) -> tuple[Batch, Batch]:
    """Return rows to train on, in their order, and rows to validate by.

    Parameters
    ----------
    rows : Batch
    fraction : float
    seed : int
    labels : ndarray of shape (n,) or None
        The same share of each label is held out; None does not look at them.
    """
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(
        np.arange(rows.n),
        test_size=fraction,
        random_state=seed,
        stratify=labels,
    )
    return rows.take(np.sort(train)), rows.take(test)
