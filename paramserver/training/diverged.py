"""Where a training has stopped being finite, in words. Pure.

Rule 1: the last finite weights go with the error, as a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from paramserver.errors import Diverged
from paramserver.training.pushes import Push
from paramserver.training.vector import FloatVector

_ADVICE: Final = (
    "The learning rate is too large, or the data hold NaN; try a tenth of it. The weights before "
    "it are kept (`weights` of this error)."
)


def round_diverged(
    number: int, partitions: Sequence[int], workers: Sequence[str], w: FloatVector
) -> Diverged:
    """Return the error of a round of averaging.

    Parameters
    ----------
    number : int
        Of the round.
    partitions : sequence of int
        Those whose results are not finite; none where the outer step made them so.
    workers : sequence of str
        Who computed these results; none where that was this process.
    w : ndarray
        The weights before that round.
    """
    names = [f"partition {k}" for k in partitions]
    if workers:
        names = [f"{name} ({who})" for name, who in zip(names, workers, strict=True)]
    whose = ", ".join(names) or "the outer step"
    return Diverged(
        f"Round {number}: the weights from {whose} are not finite. {_ADVICE}",
        round=number,
        partitions=tuple(partitions),
        workers=tuple(workers),
        weights=w.copy(),
    )


def update_diverged(
    version: int, push: Push | None, worker: str, w: FloatVector, *, is_gradient: bool
) -> Diverged:
    """Return the error of an update by pushes.

    Parameters
    ----------
    version : int
        Updates that were applied before.
    push : Push or None
        The one that came last; None where none came, but a worker went.
    worker : str
        Who pushed it; "" where that was this process, or is not known.
    w : ndarray
        The weights before that update.
    is_gradient : bool
        Whether the gradient itself is not finite, rather than what it would make of the weights.
    """
    where = ""
    if push is not None:
        who = f"{worker}, " if worker else ""
        where = f" ({who}epoch {push.epoch}, partition {push.partition})"
    what = "has a gradient that is not finite" if is_gradient else "would make the weights overflow"
    return Diverged(
        f"Update {version}{where} {what}; it was not applied. {_ADVICE}",
        round=version,
        partitions=() if push is None else (push.partition,),
        workers=(worker,) if worker else (),
        weights=w.copy(),
    )
