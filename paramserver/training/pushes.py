"""What a push is, what can become of it, and by which rules. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from paramserver.errors import ConfigError
from paramserver.training.vector import FloatVector


class Push(NamedTuple):
    """One gradient, but for its numbers."""

    incarnation: int
    """The life of the worker that sends it."""
    seq: int
    """Position among the pushes of that life, from 1."""
    epoch: int
    partition: int
    batch: int
    seen: int
    """Version of the weights the gradient was computed from."""
    examples: int | None = None
    """How many examples the sender says are behind it; None if it says nothing. Only compared:
    what counts is what the master knows."""


class RowGradient(NamedTuple):
    """A gradient that is zero but for some rows of the weights."""

    rows: npt.NDArray[np.int64]
    """Of shape (k,): sorted, no row twice."""
    values: npt.NDArray[Any]
    """Of shape (k, width), of the dtype of the weights."""


Gradient: TypeAlias = FloatVector | RowGradient
"""Of all weights, or of some rows of them."""


class Verdict(IntEnum):
    """What became of a push."""

    APPLIED = 0
    STOP = 1
    """Training is over; the push was not applied, and no further one will be."""
    DUPLICATE = 2
    """That batch was applied before."""
    GAP = 3
    """A batch, or a push of this worker, before this one is missing."""
    STALE = 4
    """It is of another epoch than the current one, or of somebody who has not joined."""
    NONFINITE = 5
    MISMATCHED = 6
    """It is malformed, or its numbers cannot be."""
    DIVERGED = 7
    """The gradient is finite, and the weights would not be."""
    HELD = 8
    """It counts, and waits for those of the others. Not said to workers."""
    MISSHAPEN = 9
    """The gradient has another shape than the weights, or is not contiguous."""
    MISTYPED = 10
    """The gradient has another dtype than the weights (the byte order is a part of it)."""
    MISCOUNTED = 11
    """Its sender has other examples in the batch than the master knows of."""
    MISPLACED = 12
    """The rows of a sparse gradient are not sorted, not unique, or not there."""


@dataclass(frozen=True)
class PushPullRules:
    """How a parameter server treats pushes.

    Parameters
    ----------
    staleness_bound : int or None
        See above.
    staleness_aware : bool
        Divide the learning rate of a push by its staleness, where that is above 1 [1]_.
    clip_norm : float or None
        Shrink gradients whose Euclidean norm is larger, to this norm.

    References
    ----------
    .. [1] Zhang, Gupta, Lian, Liu (2016), "Staleness-aware async-SGD for distributed deep
       learning".
    """

    staleness_bound: int | None = None
    staleness_aware: bool = False
    clip_norm: float | None = None

    def __post_init__(self) -> None:
        if self.staleness_bound is not None and self.staleness_bound < 0:
            raise ConfigError(
                f"staleness_bound must be 0 or more, or None, not {self.staleness_bound}.",
                field="staleness_bound",
                value=self.staleness_bound,
            )
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ConfigError(
                f"clip_norm must be above 0, not {self.clip_norm}.",
                field="clip_norm",
                value=self.clip_norm,
            )


class Seat:
    """A partition that is being worked on."""

    __slots__ = ("clock", "incarnation", "pending", "waits")

    def __init__(self, incarnation: int, clock: int) -> None:
        self.incarnation = incarnation
        self.clock = clock
        """Steps completed; one who joins late starts at the least of the others."""
        self.pending: tuple[Push, Gradient] | None = None
        """A gradient that waits for the others (bound 0)."""
        self.waits = False
        """An answer is due, and held back."""
