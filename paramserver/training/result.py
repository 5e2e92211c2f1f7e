"""What a training tells: `Progress` on the way, a `TrainingResult` at the end. Values only."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from paramserver.training.learner import Learner
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
    """

    unit: int
    epochs: float
    wall_s: float
    train_loss: float
    test_score: float | None


@dataclass
class TrainingResult:
    """What `fit` returns.

    Attributes
    ----------
    weights : ndarray of shape (d,)
    learner : Learner
    mode : str
        "avg" or "async".
    history : list of Progress
    units : int
        Rounds (averaging) or updates (async).
    examples : int
        How many examples' gradients went into the weights.
    wall_s : float
        From the first job to the last result.
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
    """

    weights: FloatVector
    learner: Learner
    mode: str
    history: list[Progress]
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
