"""Memory that a worker and the master share for gradients of some rows. Arithmetic only.

::

    rows: int64 x capacity | want: int64 x capacity | values | reply: capacity x width numbers each

Rule 1: the worker writes rows, want and values, and then rings; the master reads them, writes the
        reply, and answers. Each waits for the other, so nobody reads what is being written.
Rule 2: a slot belongs to one life of one worker.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from paramserver.training.vector import FloatVector


class RowSlot:
    """Views of one slot.

    Parameters
    ----------
    memory : ndarray of uint8, of `n_bytes`
    owner : int
        The worker's incarnation.
    capacity : int
        Rows that fit.
    width : int
        Numbers in a row.
    dtype : dtype
    """

    __slots__ = ("_reply", "_rows", "_values", "_want", "capacity", "owner")

    def __init__(
        self, memory: FloatVector, owner: int, capacity: int, width: int, dtype: npt.DTypeLike
    ) -> None:
        self.owner = owner
        self.capacity = capacity
        cut = 8 * capacity
        room = capacity * width * np.dtype(dtype).itemsize
        self._rows = memory[:cut].view(np.int64)
        self._want = memory[cut : 2 * cut].view(np.int64)
        self._values = memory[2 * cut : 2 * cut + room].view(dtype).reshape(capacity, width)
        self._reply = memory[2 * cut + room :].view(dtype).reshape(capacity, width)

    @staticmethod
    def n_bytes(capacity: int, width: int, dtype: npt.DTypeLike) -> int:
        """Return how much memory a slot takes."""
        return 2 * capacity * (8 + width * np.dtype(dtype).itemsize)

    @staticmethod
    def name(owner: int, capacity: int) -> str:
        """Return the name under which both sides find a slot."""
        return f"rows{owner}.{capacity}"

    def rows(self, n: int) -> npt.NDArray[np.int64]:
        """Which rows the gradient is of."""
        return self._rows[:n]

    def want(self, n: int) -> npt.NDArray[np.int64]:
        """Which rows of the weights are wanted."""
        return self._want[:n]

    def values(self, n: int) -> npt.NDArray[Any]:
        """The gradient of `rows`, of shape (n, width)."""
        return self._values[:n]

    def reply(self, n: int) -> npt.NDArray[Any]:
        """The weights of `want`, of shape (n, width)."""
        return self._reply[:n]
