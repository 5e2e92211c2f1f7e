"""What a learner does by itself between two averages. Arithmetic only.

Rule 1: steps are counted through the whole training: step s of a partition is batch ``s % n`` of
        its pass ``s // n``, whatever the rounds are. So one learner with any cut into rounds is the
        same as one that was never interrupted (to the last bit, where the learner steps by
        gradients; to rounding, where it has a way of its own that settles penalties late).
Rule 2: plain steps are the learner's own where it has them (`SteppingLearner`): they may be
        faster, and proximal.
"""

from __future__ import annotations

from collections.abc import Callable

from paramserver.training.learner import Learner, SteppingLearner
from paramserver.training.optimizers import SGD, Optimizer
from paramserver.training.partitions import Epoch
from paramserver.training.vector import FloatVector


def take_steps(
    learner: Learner,
    w: FloatVector,
    g: FloatVector,
    optimizer: Optimizer,
    epoch: Callable[[int], Epoch],
    n_batches: int,
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
    n_batches : int
        Of each pass.
    steps : range
        Numbers of the steps to take.
    goes_on : callable
        Asked before each step; where steps are the learner's own, before each pass.

    Returns
    -------
    bool
        Whether all steps were taken.
    """
    is_plain = type(optimizer) is SGD
    own = learner if is_plain and isinstance(learner, SteppingLearner) else None
    step = steps.start
    while step < steps.stop:
        if not goes_on():
            return False
        number, batch = divmod(step, n_batches)
        if own is not None:
            last = min(n_batches, batch + steps.stop - step)
            own.local_steps(w, epoch(number), range(batch, last), optimizer.lr)
            step += last - batch
        else:
            learner.gradient(w, epoch(number).batch(batch), g)
            optimizer.step(w, g, w)
            step += 1
    return True
