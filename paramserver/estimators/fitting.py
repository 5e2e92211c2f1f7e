"""One fit of an estimator: its rows, its place and who watches, and the trainings it is made of.

Rule 1: a fit is one training, or several in a row that go on from each other's weights: the next
        one begins where the one before has nothing more to gain.
Rule 2: what it ends with follows from rows, steps and seed; listeners change but when it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from threadpoolctl import threadpool_limits

from paramserver.estimators.keeping import Last
from paramserver.estimators.places import Place
from paramserver.estimators.sklearn_callbacks import Fitted, Rounds, Telling
from paramserver.estimators.watching import Watching
from paramserver.training import session
from paramserver.training.learner import Batch, Learner
from paramserver.training.modes import AsyncSGD, Averaging, Mode
from paramserver.training.result import History
from paramserver.training.vector import FloatVector

LEAST_RATE: Final = 1e-6
"""From here on an adaptive learning rate falls no more, as in scikit-learn."""


class Steps(NamedTuple):
    """How a training takes its steps.

    Attributes
    ----------
    learner : Learner
    optimizer : str, optional
        Of the parameter server; None averages.
    lr, batch_size
        As of `paramserver.fit`; of learners that do not step by themselves.
    """

    learner: Learner
    optimizer: str | None = None
    lr: float = 1.0
    batch_size: int = 32


@dataclass
class Fitting:
    """What a fit is made with.

    Attributes
    ----------
    rows : Batch
    test : Batch or None
        Rows held out.
    place : Place
    watching : Watching
    seed : int
    rounds : int
        At most so many.
    shuffles : bool
        Deal rows out by chance, or as they come.
    told : Rounds or None
        Callbacks of scikit-learn, which hear of each round.
    kept : Last
        Is shown the weights before anyone asks what is fitted.
    """

    rows: Batch
    test: Batch | None
    place: Place
    watching: Watching
    seed: int
    rounds: int
    shuffles: bool
    told: Rounds | None
    kept: Last

    @property
    def rows_each(self) -> int:
        """How many rows the largest partition has."""
        return -(-self.rows.n // self.place.n_partitions)

    def train(
        self, ways: Sequence[Steps], start: FloatVector | None, fitted: Fitted
    ) -> tuple[FloatVector, History]:
        """Train in each of some ways, one after the other, each until nothing gets better by it.

        Parameters
        ----------
        ways : sequence of Steps
        start : ndarray of shape (d,), optional
            The weights to start from; by default the learner's.
        fitted : callable
            Returns the fitted attributes that weights stand for.

        Returns
        -------
        weights : ndarray of shape (d,)
            After the last round.
        history : History
            Of all trainings together.
        """
        watching, history = self.watching, History()
        for number, steps in enumerate(ways):
            if number:
                watching.begin_anew()
            teller = watching if self.told is None else Telling(self.told, watching, fitted)
            with threadpool_limits(1):  # as workers have: other numbers of threads give other bits
                result = session.fit(
                    steps.learner,
                    tuple(self.rows),
                    mode=self._mode(steps),
                    cluster=self.place.cluster,
                    test=None if self.test is None else tuple(self.test),
                    batch_size=steps.batch_size,
                    lr=steps.lr,
                    seed=self.seed + number,
                    start=start,
                    callbacks=[self.kept, teller],
                    partition="shuffled" if self.shuffles else "contiguous",
                    in_step=True,
                )
            start = result.weights
            _append(history, result.history)
            is_over = watching.n_rounds >= self.rounds or not watching.has_converged
            if is_over or (self.told is not None and self.told.is_asked_to_end):
                break
        assert start is not None, "there is one way at least"
        return start, history

    def _mode(self, steps: Steps) -> Mode:
        rounds, p = self.rounds - self.watching.n_rounds, self.place.n_partitions
        if steps.optimizer is None:
            return Averaging(rounds, n_partitions=p)
        return AsyncSGD(rounds, steps.optimizer, n_partitions=p)


def falling_rates(first: float) -> list[float]:
    """Return the learning rates of "adaptive": a fifth, each time that nothing gets better."""
    rates = [first]
    while rates[-1] > LEAST_RATE:
        rates.append(rates[-1] / 5)
    return rates


def _append(history: History, more: History) -> None:
    """Let a history go on with that of the next training, which has counted from zero."""
    before = history[-1] if history else None
    for told in more:
        if before is not None:
            told = replace(
                told,
                unit=before.unit + told.unit,
                epochs=before.epochs + told.epochs,
                wall_s=before.wall_s + told.wall_s,
            )
        history.add(told)
