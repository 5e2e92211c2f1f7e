"""scikit-learn's own callbacks: a fit here tells them of each round, as its stock estimators do.

Rule 1: this is the one module that knows their protocol. It came with scikit-learn 1.9; before that
        nothing here does anything, and the estimators have no `set_callbacks`.
Rule 2: whom nobody listens to costs nothing: the tasks of rounds are made, and weights become an
        estimator, only where a callback has been set.
Rule 3: callbacks are called in the process of the fit, between two rounds, never in a worker.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

from paramserver.estimators.watching import Watching
from paramserver.training.result import Progress
from paramserver.training.vector import FloatVector

try:
    from sklearn import callback as _sklearn
except ImportError:  # before 1.9
    _sklearn = None


class _Nothing:
    """In place of what an older scikit-learn does not have."""


CallbackSupport: Any = _Nothing if _sklearn is None else _sklearn.CallbackSupportMixin
"""A base class: gives an estimator `set_callbacks`."""
N_WRAPPERS: Final = 0 if _sklearn is None else 1
"""How many calls lie between a decorated `fit` and whoever has called it."""

Fitted: TypeAlias = Callable[[FloatVector], dict[str, Any]]
"""Takes weights, and returns the attributes that make an estimator with them a fitted one."""


def with_callbacks(fit: Any) -> Any:
    """Decorate `fit`, so that its callbacks are torn down however it ends."""
    return fit if _sklearn is None else _sklearn.with_callbacks(fit)


class Rounds:
    """The tasks of one fit, for whoever listens: the fit itself, and in it round after round.

    Parameters
    ----------
    estimator : DistributedEstimator
        That is being fitted.
    X, y, sample_weight
        As `fit` was given them: scores are computed of rows as users have them.

    Attributes
    ----------
    is_asked_to_end : bool
        Whether a callback said after the latest round that it is enough.

    Notes
    -----
    A callback whose `on_fit_task_end` returns True after a round ends the training there.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any) -> None:
        metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        self._facts = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self.is_asked_to_end = False
        self._most = estimator.max_iter
        self._n = 0
        self._fit: Any = None
        self._round: Any = None
        self._is_heard = bool(getattr(estimator, "_skl_callbacks", ()))
        if _sklearn is not None:
            self._fit = estimator._init_callback_context(max_subtasks=self._most)
            self._fit.call_on_fit_task_begin(**self._facts)

    def begin_round(self) -> None:
        """Tell that the next round begins."""
        if self._is_heard and self._n < self._most:
            self._round = self._fit.subcontext(task_name=f"round {self._n}")
            self._round.call_on_fit_task_begin(**self._facts)
            self._n += 1

    def end_round(self, attributes: Callable[[], dict[str, Any]]) -> bool:
        """Tell that the round has ended; return whether the training should.

        Parameters
        ----------
        attributes : callable
            Returns the fitted attributes after this round; called if a callback wants them.
        """
        current, self._round = self._round, None
        self.is_asked_to_end = current is not None and bool(
            current.call_on_fit_task_end(**self._facts, reconstruction_attributes=attributes)
        )
        return self.is_asked_to_end

    def end(self) -> None:
        """Tell that the fit has ended; the estimator is fitted by now."""
        if self._fit is not None:
            self._fit.call_on_fit_task_end(**self._facts, reconstruction_attributes={})


class Telling:
    """A callback of `paramserver.fit`: it tells of each round, and ends when it is enough.

    Parameters
    ----------
    rounds : Rounds
    watching : Watching
        Asked first.
    fitted : callable
    """

    def __init__(self, rounds: Rounds, watching: Watching, fitted: Fitted) -> None:
        self._rounds = rounds
        self._watching = watching
        self._fitted = fitted
        self._weights: FloatVector

    def begin(self, _: object) -> None:
        """Tell of the first round."""
        self._rounds.begin_round()

    def hear(self, words: str) -> None:
        """Pass on what the training waits for."""
        self._watching.hear(words)

    def look(self, weights: FloatVector) -> None:
        """Take in the weights after a round."""
        self._weights = weights

    def __call__(self, progress: Progress) -> bool:
        """Tell of the end of a round; say whether it is enough."""
        weights, watching = self._weights, self._watching
        is_enough = watching(progress)
        so_far = {"n_iter_": watching.n_rounds, "loss_curve_": list(watching.losses)}
        is_asked_to_end = self._rounds.end_round(lambda: so_far | self._fitted(weights))
        if is_enough or is_asked_to_end:
            return True
        self._rounds.begin_round()
        return False
