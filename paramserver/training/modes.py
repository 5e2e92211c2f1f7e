"""How to train: the settings of the two modes. Values only; checked when they are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from paramserver.errors import ConfigError
from paramserver.training.optimizers import Optimizer, make_optimizer
from paramserver.training.push_pull import PushPullRules


@dataclass(frozen=True)
class Averaging:
    """Train by rounds: each partition trains from the same weights, and the results are averaged.

    Parameters
    ----------
    rounds : int, default=20
    local_epochs : int, default=1
        Passes of each learner over its partition in a round.
    local_steps : int, optional
        Mini-batch steps in a round, instead of whole passes.
    n_partitions : int, optional
        Learners; by default one for each worker. It is part of the result: other numbers of
        partitions give other weights, other numbers of workers do not.
    wait_for : int, optional
        Average as soon as so many learners are done; the late ones are told to stop.
    outer : Optimizer, optional
        Applied on the master to the averaged change of a round, as if it were a gradient:
        ``Momentum(0.7, nesterov=True)`` is DiLoCo's. By default the average itself is taken.
    tail : float, default=0
        Return the mean of the weights of this last part of the rounds (0.5: the second half)
        instead of the last weights (Polyak averaging).
    """

    rounds: int = 20
    local_epochs: int = 1
    local_steps: int | None = None
    n_partitions: int | None = None
    wait_for: int | None = None
    outer: Optimizer | None = None
    tail: float = 0.0

    def __post_init__(self) -> None:
        _require_positive(self, "rounds", "local_epochs", "local_steps", "n_partitions")
        if not 0 <= self.tail <= 1:
            raise ConfigError(
                f"tail is a part of the rounds, from 0 to 1, not {self.tail}.",
                field="tail",
                value=self.tail,
            )


@dataclass(frozen=True)
class AsyncSGD:
    """Train by pushes: workers send gradients to a parameter server when they have them.

    Parameters
    ----------
    epochs : int, default=10
        Passes over all partitions.
    optimizer : {"sgd", "momentum", "nesterov", "adagrad", "adam"}
        How the parameter server applies a gradient.
    staleness_bound : int, optional
        None (the default) applies each gradient when it comes. 0 waits for one of each partition
        and takes one step by their mean (synchronous); s > 0 lets a partition be at most s steps
        ahead of the slowest one that is being worked on.
    staleness_aware : bool, default=False
        Divide the learning rate of a gradient by its staleness.
    clip_norm : float, optional
        Shrink gradients whose norm is larger.
    local_steps : int, default=1
        Steps a worker takes by itself before it pushes: what they have changed together, divided
        by the learning rate, is pushed as one gradient.
    n_partitions : int, optional
        By default one for each worker.
    sparse : bool, optional
        Push and pull only the rows of the weights that a batch touches: for learners that can
        (`SparseLearner`), sparse data, and the optimizers "sgd" and "adagrad". By default wherever
        that is possible; True complains where it is not; False never does it.
    """

    epochs: int = 10
    optimizer: str = "sgd"
    staleness_bound: int | None = None
    staleness_aware: bool = False
    clip_norm: float | None = None
    local_steps: int = 1
    n_partitions: int | None = None
    sparse: bool | None = None

    def __post_init__(self) -> None:
        _require_positive(self, "epochs", "local_steps", "n_partitions")
        make_optimizer(self.optimizer, 1.0)
        self.rules()

    def rules(self) -> PushPullRules:
        """Return how the parameter server treats pushes."""
        return PushPullRules(self.staleness_bound, self.staleness_aware, self.clip_norm)


Mode: TypeAlias = Averaging | AsyncSGD
"""Either of them."""


def _require_positive(settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be 1 or more, not {value}.", field=name, value=value)
