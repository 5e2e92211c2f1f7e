"""What a training tells of itself: weights at a moment, where its time went. Values only."""

from __future__ import annotations

from typing import NamedTuple

from paramserver.training.vector import FloatVector


class Snapshot(NamedTuple):
    """The weights at one moment.

    Attributes
    ----------
    w : ndarray
        A copy.
    unit : int
        Rounds (averaging) or updates (async) that led to it.
    examples : int
        Gradients of how many examples are in it.
    at : float
        When, on the master's clock.
    divergence : float or None
        How far the learners of the latest round were from each other (averaging).
    """

    w: FloatVector
    unit: int
    examples: int
    at: float
    divergence: float | None = None


class Measures(NamedTuple):
    """Where the time of a training went, and how much went round.

    Attributes
    ----------
    compute_s : float
        Seconds that learners computed, all workers together.
    wait_s : float
        Seconds that results or gradients waited for those of others, or for their turn.
    wire_s : float
        Seconds that jobs, weights, results and gradients were on their way.
    apply_s : float
        Seconds that the master averaged, or applied gradients.
    pushed_bytes, pulled_bytes : int
        Of results or gradients to the master, and of weights from it, by whatever way they went.
    rows_bytes : int
        Of rows that were sent to workers which cannot open them.
    """

    compute_s: float
    wait_s: float
    wire_s: float
    apply_s: float
    pushed_bytes: int
    pulled_bytes: int
    rows_bytes: int

    def plus(self, other: Measures) -> Measures:
        """Return those of two parts of a training together."""
        added = {name: value + getattr(other, name) for name, value in self._asdict().items()}
        return Measures(**added)
