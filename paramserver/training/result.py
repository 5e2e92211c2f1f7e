"""What a training tells: `Progress` on the way, a `TrainingResult` at the end. Values only."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Self

from paramserver.errors import ConfigError
from paramserver.training.learner import Learner
from paramserver.training.staleness import summarise
from paramserver.training.timeline import JobSpan
from paramserver.training.vector import FloatVector, fingerprint


@dataclass(frozen=True)
class Progress:
    """How far a training was at one moment.

    Attributes
    ----------
    unit : int
        Rounds (averaging) or updates (async).
    epochs : float
        Passes over all examples.
    wall_s : float
        Since the training began; evaluation runs beside it.
    train_loss : float
        On a sample of the rows; at the end, on all of them.
    test_score : float or None
    staleness : float or None
        Mean over all updates so far (async).
    divergence : float or None
        Of the learners of the round that led to these weights (averaging): the Euclidean distance
        of what each of them has come to from the mean of it, averaged with the weights of the mean.
    """

    unit: int
    epochs: float
    wall_s: float
    train_loss: float
    test_score: float | None
    staleness: float | None = None
    divergence: float | None = None


MAX_ROWS: Final = 10_000
"""A longer history is thinned out: what the master holds must not grow with time."""


class History(list[Progress]):
    """What a training has told on the way, as a table: a row for each `Progress`.

    Examples
    --------
    >>> from paramserver.training.result import History, Progress
    >>> history = History([Progress(1, 0.5, 0.1, 2.25, None), Progress(2, 1.0, 0.2, 2.0, 0.75)])
    >>> history.columns
    ('unit', 'epochs', 'wall_s', 'train_loss', 'test_score', 'staleness', 'divergence')
    >>> history.to_rows()
    [[1, 0.5, 0.1, 2.25, None, None, None], [2, 1.0, 0.2, 2.0, 0.75, None, None]]
    """

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns: the fields of `Progress`."""
        return tuple(each.name for each in fields(Progress))

    def add(self, progress: Progress) -> None:
        """Append a row; of more than `MAX_ROWS` every second one between the ends goes."""
        self.append(progress)
        if len(self) > MAX_ROWS:
            del self[1:-1:2]

    def to_rows(self) -> list[list[Any]]:
        """Return the numbers alone, row by row."""
        names = self.columns
        return [[getattr(progress, name) for name in names] for progress in self]

    @classmethod
    def from_rows(cls, rows: Iterable[Sequence[Any]]) -> Self:
        """Return the history that `to_rows` was called on."""
        return cls(Progress(*row) for row in rows)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write the table to a file, with a line of names; an absent score is an empty field."""
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self.columns)
            writer.writerows(self.to_rows())


@dataclass(repr=False)
class TrainingResult:
    """What `fit` returns. Its `repr` is a line, whatever it holds.

    Attributes
    ----------
    weights : ndarray of shape (d,)
    learner : Learner
    mode : str
        "avg" or "async".
    history : History
        A table with a row for each `Progress`.
    units : int
        Rounds (averaging) or updates (async).
    examples : int
        How many examples' gradients went into the weights.
    wall_s : float
        From the first step to the last result.
    compute_s : float
        In learners, all workers together.
    apply_s : float
        On the master: averaging, or applying gradients.
    lr : float
    n_partitions : int
    n_examples : int
    staleness : Counter
        How many updates had which staleness (async).
    rejected : dict of str to int
        What was not applied, by reason.
    workers_lost : int
        While it ran.
    wait_s : float
        Results and gradients waited so long for those of others, or for their turn; all workers
        together.
    wire_s : float
        Jobs, weights, results and gradients were on their way for so long; all workers together.
    pushed_bytes, pulled_bytes : int
        Of results or gradients to the master, and of weights from it, through shared memory or by
        the network.
    staleness_by_worker : dict of str to Counter
        How many updates of each worker had which staleness (async).
    timeline : list of JobSpan
        Which worker had which job, and when: the latest 10,000 jobs of this session, in the order
        of their ends.
    counters : dict of str to int
        What became of checkpoints: ``checkpoints_saved``, ``checkpoints_failed``, ...
    setup_s : float
        Before `wall_s`: workers imported, opened or fetched what they train on, and compiled.
    kernel : str
        What has computed, as the learner tells it: "numpy" or "numba"; '' where it does not.
    """

    weights: FloatVector
    learner: Learner
    mode: str
    history: History
    units: int
    examples: int
    wall_s: float
    compute_s: float
    apply_s: float
    lr: float
    n_partitions: int
    n_examples: int
    staleness: Counter[int] = field(default_factory=Counter)
    rejected: dict[str, int] = field(default_factory=dict)
    workers_lost: int = 0
    wait_s: float = 0.0
    wire_s: float = 0.0
    pushed_bytes: int = 0
    pulled_bytes: int = 0
    staleness_by_worker: dict[str, Counter[int]] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    timeline: list[JobSpan] = field(default_factory=list)
    setup_s: float = 0.0
    kernel: str = ""

    def __repr__(self) -> str:
        said = [f"{self.units:,} {'rounds' if self.mode == 'avg' else 'updates'}"]
        if self.history:
            said.append(f"loss {self.history[-1].train_loss:.4g}")
        if self.test_score is not None:
            said.append(f"held-out {self.test_score:.4g}")
        name = type(self).__name__
        return f"<{name} of {type(self.learner).__name__}: {', '.join(said)}, {self.wall_s:.2f} s>"

    @property
    def sha256(self) -> str:
        """Fingerprint of the bytes of the weights."""
        return fingerprint(self.weights)

    @property
    def epochs(self) -> float:
        """Passes over all examples."""
        return self.examples / self.n_examples

    @property
    def test_score(self) -> float | None:
        """Score of the weights on the held-out rows."""
        return self.history[-1].test_score if self.history else None

    @property
    def divergence(self) -> float | None:
        """How far the learners of the last round were from each other (averaging)."""
        return self.history[-1].divergence if self.history else None

    @property
    def timings(self) -> dict[str, float]:
        """Where the time went, in seconds: all workers together, but for `apply` (the master's)."""
        return {
            "compute": self.compute_s,
            "wait": self.wait_s,
            "wire": self.wire_s,
            "apply": self.apply_s,
        }

    @property
    def staleness_summary(self) -> dict[str, Any]:
        """Mean, p50, p95, max and histogram of the staleness, and `by_worker` the same of each."""
        by_worker = {
            name: summarise(staleness)
            for name, staleness in sorted(self.staleness_by_worker.items())
        }
        return summarise(self.staleness) | {"by_worker": by_worker}

    def plot(self) -> Any:
        """Draw loss and held-out score against time and against updates, with matplotlib.

        Returns
        -------
        matplotlib.figure.Figure
            A notebook shows it; ``figure.savefig("run.png")`` keeps it.

        Raises
        ------
        ConfigError
            If matplotlib is not installed, or there is nothing to draw.
        """
        from paramserver.training.plots import plot_convergence

        return plot_convergence(self.history, self.mode)

    def plot_staleness(self) -> Any:
        """Draw how many updates had which staleness, all together and by worker (async).

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ConfigError
            If matplotlib is not installed, or there is nothing to draw.
        """
        from paramserver.training.plots import plot_staleness

        return plot_staleness(self.staleness, self.staleness_by_worker)

    def plot_timeline(self) -> Any:
        """Draw which worker had which job, and when: a row for each worker.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ConfigError
            If matplotlib is not installed, or there is nothing to draw.
        """
        from paramserver.training.plots import plot_timeline

        return plot_timeline(self.timeline, self.mode)

    def to_sklearn(self) -> Any:
        """Return a stock scikit-learn estimator that predicts as these weights do.

        Raises
        ------
        ConfigError
            If the learner knows none (it has no method ``to_sklearn(w)``).
        """
        make = getattr(self.learner, "to_sklearn", None)
        if make is None:
            name = type(self.learner).__name__
            raise ConfigError(
                f"{name} has no counterpart in scikit-learn. Use the weights themselves "
                f"(result.weights), or give {name} a method to_sklearn(w) that returns one.",
                field="learner",
                value=name,
            )
        return make(self.weights)
