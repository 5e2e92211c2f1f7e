"""What all workers of one training are told, once. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from paramserver.training.learner import Learner
from paramserver.training.partitions import Rows, n_batches


@dataclass(frozen=True)
class TrainingPlan:
    """Everything a worker needs to train a partition, but for the weights.

    Parameters
    ----------
    service : str
        Name of the master's service for this training.
    folder : str
        Where the shared vectors lie.
    learner : Learner
    rows : Rows
    batch_size : int
        Rows of one step; a partition with fewer makes one batch of all it has.
    seed : int
    local_lr : float
        Learning rate of the steps a learner takes by itself.
    local_steps : int or None
        Averaging: steps of one round; by default `local_epochs` passes over the partition. Async:
        steps behind one push; by default one.
    local_epochs : int
    """

    service: str
    folder: str
    learner: Learner
    rows: Rows
    batch_size: int
    seed: int
    local_lr: float
    local_steps: int | None = None
    local_epochs: int = 1

    @cached_property
    def n_batches(self) -> tuple[int, ...]:
        """Batches of one epoch, by partition."""
        return tuple(n_batches(n, self.batch_size) for n in self.rows.n_examples)

    @property
    def push_size(self) -> int:
        """Rows behind one push."""
        return self.batch_size * (self.local_steps or 1)

    def steps_a_round(self, partition: int) -> int:
        """How many steps a learner takes in one averaging round."""
        if self.local_steps is not None:
            return self.local_steps
        return self.local_epochs * self.n_batches[partition]
