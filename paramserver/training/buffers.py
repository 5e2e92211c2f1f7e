"""Versions of one vector in shared memory, none of which changes while somebody reads it.

Rule 1: a buffer is in use while it holds the current weights or is some reader's view; only one
        that is not may be written to.
Rule 2: the view of a reader that was lost is never written to again: the process may still read it.

So p readers need at most p + 1 buffers, and neither an update nor a pull copies anything.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from paramserver.training.vector import FloatVector
from paramserver.transport.shm import SharedVector


class Rotation:
    """Buffers ``w0``, ``w1``, ... in a folder, made as they are needed.

    Parameters
    ----------
    folder : Path
    start : ndarray of shape (d,)
        Becomes the first current vector, as a copy.

    Attributes
    ----------
    current : int
        Number of the buffer with the current weights.
    """

    def __init__(self, folder: Path, start: FloatVector) -> None:
        self._folder = folder
        self._d = start.size
        self._dtype: npt.DTypeLike = start.dtype
        self._buffers: dict[int, SharedVector] = {}
        self._n_made = 0
        self._free: list[int] = []
        self._uses: Counter[int] = Counter()
        self._retired: set[int] = set()
        self._views: dict[int, int] = {}
        self.current = self.take()
        np.copyto(self.array(self.current), start)
        self._uses[self.current] = 1

    def array(self, number: int) -> FloatVector:
        """Return the memory of a buffer."""
        return self._buffers[number].array

    def take(self) -> int:
        """Return the number of a buffer nobody uses; `make_current` or `put_back` must follow."""
        if self._free:
            return self._free.pop()
        number = self._n_made
        self._n_made += 1
        path = self._folder / f"w{number}"
        self._buffers[number] = SharedVector.create(path, self._d, self._dtype)
        return number

    def put_back(self, number: int) -> None:
        """Return a taken buffer unused."""
        self._free.append(number)

    def make_current(self, number: int) -> None:
        """Let a taken buffer hold the current weights from now on."""
        old, self.current = self.current, number
        self._uses[number] += 1
        self._release(old)

    def look_away(self, reader: int) -> None:
        """Take in that a reader reads nothing now: it waits for an answer."""
        number = self._views.pop(reader, None)
        if number is not None:
            self._release(number)

    def look(self, reader: int) -> int:
        """Let a reader read the current weights; return the number of their buffer."""
        self.look_away(reader)
        self._views[reader] = self.current
        self._uses[self.current] += 1
        return self.current

    def lose(self, reader: int) -> None:
        """Take in that a reader is lost, perhaps without being dead."""
        number = self._views.pop(reader, None)
        if number is not None:
            self._retired.add(number)
            self._release(number)

    def clear(self) -> None:
        """Let go of all memory."""
        self._buffers.clear()

    def __len__(self) -> int:
        return len(self._buffers)

    def _release(self, number: int) -> None:
        self._uses[number] -= 1
        if self._uses[number] == 0:
            del self._uses[number]
            if number in self._retired:
                self._retired.discard(number)
                self._buffers.pop(number).unlink()
            else:
                self._free.append(number)
