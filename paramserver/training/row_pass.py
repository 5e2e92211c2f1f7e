"""One pass over sparse rows by the rows of the weights that each batch touches.

Rule 1: a learner's own way (`PassingLearner`) gives the numbers of its `touched` and
        `sparse_gradient`, to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from paramserver.training.learner import Batch, PassingLearner, RowPass, SparseLearner

if TYPE_CHECKING:
    from paramserver.training.partitions import Epoch


class PlainPass:
    """Asks the learner batch by batch; see `learner.RowPass`.

    Parameters
    ----------
    learner : SparseLearner
    epoch : Epoch
    """

    def __init__(self, learner: SparseLearner, epoch: Epoch) -> None:
        self._learner = learner
        self._epoch = epoch
        self._latest: tuple[int, Batch] | None = None

    def touched(self, number: int) -> npt.NDArray[np.int64]:
        """Return the rows of the weights that a batch touches."""
        return self._learner.touched(self._batch(number))

    def gradient(
        self, number: int, w_rows: npt.NDArray[Any], rows: npt.NDArray[np.int64], out: Any
    ) -> None:
        """Write these rows of its gradient to `out`."""
        self._learner.sparse_gradient(w_rows, rows, self._batch(number), out)

    def _batch(self, number: int) -> Batch:
        """Gather a batch: once, when it is asked for twice in a row."""
        if self._latest is None or self._latest[0] != number:
            self._latest = (number, self._epoch.batch(number))
        return self._latest[1]


def pass_over(learner: SparseLearner, epoch: Epoch) -> RowPass:
    """Return the way of a learner through a pass: its own, if it has one."""
    if isinstance(learner, PassingLearner):
        return learner.row_pass(epoch)
    return PlainPass(learner, epoch)
