"""The rows that a worker keeps open, and which of them it lets go. No I/O of its own.

A near worker maps rows: to keep them costs nothing. A far one was sent them, and holds them in its
memory. It takes over the partitions of others when these die, and gives them back when they return.

Rule 1: nothing here is needed for the result: what was let go is opened, or fetched, again.
Rule 2: with room enough, a partition stays for as long as it is trained on: rows go only to make
        room for others, those first that were not used for longest.
Rule 3: what is in use is held, also if it is alone larger than the room.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from paramserver.runtime.memory import memory_of_one_bytes
from paramserver.training.learner import Batch

SHARE = 0.5
"""Of the memory that is there for a worker, what its rows may take; the rest is for all else."""


class RowCache:
    """Rows by partition.

    Parameters
    ----------
    open_rows : callable
        Returns the rows of a partition.
    room_bytes : int or None
        What rows may take; None if they take nothing, since they are mapped.

    Attributes
    ----------
    n_bytes : int
        What is held now.
    """

    def __init__(self, open_rows: Callable[[int], Batch], room_bytes: int | None) -> None:
        self._open_rows = open_rows
        self._room_bytes = room_bytes
        self._kept: OrderedDict[int, Batch] = OrderedDict()
        """Those that were not used for longest first."""
        self.n_bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, partition: object) -> bool:
        return partition in self._kept

    def get(self, partition: int) -> Batch:
        """Return the rows of a partition."""
        found = self._kept.get(partition)
        if found is None:
            self._make_room(self._guess())  # before they come: both together may be too much
            found = self._kept[partition] = self._open_rows(partition)
            self.n_bytes += found.n_bytes
            self._make_room(0)
        self._kept.move_to_end(partition)
        return found

    def _guess(self) -> int:
        """Return what the next rows may take: partitions are cut to be alike."""
        return max((rows.n_bytes for rows in self._kept.values()), default=0)

    def _make_room(self, n_bytes: int) -> None:
        if self._room_bytes is None:
            return
        least = 0 if n_bytes else 1  # the one that has just come stays
        while len(self._kept) > least and self.n_bytes + n_bytes > self._room_bytes:
            _, dropped = self._kept.popitem(last=False)
            self.n_bytes -= dropped.n_bytes


def room_here() -> int:
    """Return how many bytes of rows a worker of this machine may hold."""
    return int(SHARE * memory_of_one_bytes())
