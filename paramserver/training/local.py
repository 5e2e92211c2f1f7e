"""What a learner does by itself between two averages. Arithmetic only.

Rule 1: steps are counted through the whole training: step s of a partition is batch ``s % n`` of
        its pass ``s // n``, whatever the rounds are. So one learner with any cut into rounds is the
        same as one that was never interrupted.
"""

from __future__ import annotations

from collections.abc import Callable

from paramserver.training.learner import Learner
from paramserver.training.optimizers import Optimizer
from paramserver.training.partitions import Epoch
from paramserver.training.vector import FloatVector


def take_steps(
    learner: Learner,
    w: FloatVector,
    g: FloatVector,
    optimizer: Optimizer,
    epoch: Callable[[int], Epoch],
    steps: range,
    goes_on: Callable[[], bool],
) -> bool:
    """Train `w` in place.

    Parameters
    ----------
    learner : Learner
    w : ndarray of shape (d,)
        Overwritten.
    g : ndarray of shape (d,)
        Room for gradients.
    optimizer : Optimizer
        Started.
    epoch : callable
        Returns a pass over the partition by its number.
    steps : range
        Numbers of the steps to take.
    goes_on : callable
        Asked before each step.

    Returns
    -------
    bool
        Whether all steps were taken.
    """
    if not steps:
        return True
    n_batches = len(epoch(0))
    for step in steps:
        if not goes_on():
            return False
        number, batch = divmod(step, n_batches)
        learner.gradient(w, epoch(number).batch(batch), g)
        optimizer.step(w, g, w)
    return True
