"""What all workers of one training are told, once. Values only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from paramserver.errors import ConfigError, RemoteProtocolError
from paramserver.protocol import calls
from paramserver.protocol.messages import Payload, PayloadKind
from paramserver.runtime.context import JobContext
from paramserver.training.batching import n_batches
from paramserver.training.learner import Batch, Learner, SparseLearner
from paramserver.training.modes import AsyncSGD, Mode
from paramserver.training.optimizers import make_optimizer
from paramserver.training.partitions import Rows
from paramserver.training.travel import describe, restore
from paramserver.training.vector import FloatVector


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
    width : int or None
        Async: push and pull rows of so many weights, only those that a batch touches; None pushes
        and pulls all weights.
    here : str
        What only a process of this user on the master's machine can read in `folder`.
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
    width: int | None = None
    here: str = ""

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

    def examples_a_round(self, partition: int) -> int:
        """How many examples a learner looks at in one averaging round."""
        steps = self.steps_a_round(partition)
        n_epochs = steps / self.n_batches[partition]
        whole = round(n_epochs * self.rows.n_examples[partition])
        return min(steps * self.batch_size, whole)

    def start_weights(self) -> FloatVector:
        """Return the weights to start from: the same for the same seed."""
        w = self.learner.start(np.random.default_rng(np.random.SeedSequence(self.seed)))
        return np.ascontiguousarray(w, self.learner.dtype)

    def describe(self) -> dict[str, Any]:
        """Return the plan as plain data, for workers outside of the local trust domain.

        Rows travel as the way to open them where they are; who cannot open them there asks the
        master for them.

        Raises
        ------
        ConfigError
            If the learner cannot travel.
        """
        told = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("learner", "rows"):
            told[name] = describe(told[name], name)
        return told

    def payload(self, *, trusted: bool, ship_code: bool) -> Payload:
        """Return the plan as workers are told it; see `read`.

        Parameters
        ----------
        trusted : bool
            Whether the workers are inside the local trust domain.
        ship_code : bool
            Send a learner that cannot be described as code, to workers that accept it.

        Raises
        ------
        ConfigError
            If the learner cannot travel.
        """
        if trusted:
            return calls.encode_value(self, trusted=True)
        try:
            told = self.describe()
        except ConfigError:
            if not ship_code:
                raise
            return calls.encode_code(self, "the learner")
        return calls.encode_value(told, trusted=False)

    @classmethod
    def read(cls, told: Payload, context: JobContext) -> TrainingPlan:
        """Undo `payload`, on a worker.

        Raises
        ------
        RemoteProtocolError
            If it is no plan.
        JobFailed
            If this worker may not use the learner's class, does not have it, or accepts no code.
        """
        if context.trusted or told.kind is PayloadKind.CODE:
            plan = calls.decode_code(
                told, trusted=context.trusted, accept_code=context.accepts_code
            )
            if not isinstance(plan, cls):
                raise RemoteProtocolError("what the master sent is no plan", peer="master")
            return plan
        return cls.restore(calls.decode_value(told, trusted=False), context.function)

    def with_rows(self, rows: Rows) -> TrainingPlan:
        """Return the same plan for rows that are found elsewhere."""
        return replace(self, rows=rows)

    @classmethod
    def restore(cls, told: Any, find: Callable[[str], Any]) -> TrainingPlan:
        """Undo `describe`; see `travel.restore`.

        Raises
        ------
        RemoteProtocolError
            If it is no plan.
        JobFailed
            If this worker may not use the learner's class, or does not have it.
        """
        if type(told) is not dict or told.keys() != {f.name for f in fields(cls)}:
            raise RemoteProtocolError(
                "what the master sent is no plan of a training", peer="master"
            )
        return cls(**{name: restore(value, find) for name, value in told.items()})


def row_width(learner: Learner, rows: Batch, mode: Mode) -> int | None:
    """Return how long a row of the weights is, where only touched rows are pushed and pulled.

    Raises
    ------
    ConfigError
        If the mode asks for that where it cannot be.
    """
    if not isinstance(mode, AsyncSGD) or mode.sparse is False:
        return None
    why = ""
    if isinstance(rows.X, np.ndarray):
        why = "the rows are dense"
    elif not isinstance(learner, SparseLearner):
        why = f"{type(learner).__name__} cannot compute the gradient of some rows"
    elif mode.local_steps > 1:
        why = "several local steps change more rows than one batch touches"
    elif mode.sparse or make_optimizer(mode.optimizer, 1.0).IS_SPARSE:
        make_optimizer(mode.optimizer, 1.0).require_sparse()
        return learner.width
    if mode.sparse and why:
        raise ConfigError(
            f"Only touched rows cannot be pushed here: {why}.", field="sparse", value=True
        )
    return None


def kernel_of(learner: Learner, rows: Batch, mode: Mode, batch_size: int) -> str:
    """Return which kernel computes, as the learner tells it; '' where it does not.

    Parameters
    ----------
    learner : Learner
    rows : Batch
        Of one partition; those of all show whether numba may compute any of them, for a pass over
        fewer rows has fewer steps.
    mode : Mode
    batch_size : int
    """
    name = "kernel_for"
    if isinstance(mode, AsyncSGD) and mode.local_steps == 1:
        if row_width(learner, rows, mode) is None:
            return "numpy" if hasattr(learner, name) else ""  # whole gradients are BLAS's
        name = "pass_kernel_for"
    kernel_for = getattr(learner, name, None)
    return "" if kernel_for is None else str(kernel_for(rows, batch_size))
