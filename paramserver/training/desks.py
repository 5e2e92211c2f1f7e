"""The master's side of push and pull: where gradients are found, and weights are handed out.

`WholeDesk` is for gradients of all weights, `RowDesk` for those of some rows; each for near workers
(who share memory with the master) and for far ones.

Rule 1: nobody sees half a step. All weights are shown as one version in a buffer that nobody writes
        to while somebody may read it; rows are copied at one moment.
Rule 2: a near worker's gradient lies in memory that belongs to its life and is used by no other
        one, so one that was given up and still writes spoils nothing.
Rule 3: what comes from afar is checked before it is an array (`protocol.arrays`), and copied only
        if it has to be.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from paramserver.errors import RemoteProtocolError
from paramserver.training.applying import are_rows
from paramserver.training.buffers import Rotation
from paramserver.training.pushes import Gradient, RowGradient, Verdict
from paramserver.training.rowslot import RowSlot
from paramserver.training.vector import FloatVector
from paramserver.transport.shm import SharedVector

Rows = npt.NDArray[np.int64]
NO_ROWS: Rows = np.empty(0, np.int64)


class Question(NamedTuple):
    """What is in a push beside the numbers of `pushes.Push`."""

    gradient: Gradient
    want: Rows
    """Which rows are wanted in the answer."""


class Desk(ABC):
    """What passes between workers and weights.

    Attributes
    ----------
    pushed_bytes, pulled_bytes : int
        So far.
    """

    pushed_bytes = 0
    pulled_bytes = 0

    @property
    @abstractmethod
    def start(self) -> FloatVector:
        """The weights at the start, where they are kept."""

    @abstractmethod
    def seat(self, incarnation: int, *, is_far: bool) -> int:
        """Prepare for a worker; return the number of the buffer that shows it the weights."""

    @abstractmethod
    def lose(self, incarnation: int) -> None:
        """Take in that a worker's life is over, perhaps without its being dead."""

    @abstractmethod
    def near_question(self, incarnation: int, n_rows: int, n_want: int, capacity: int) -> Question:
        """Return what a near worker has rung for."""

    @abstractmethod
    def far_question(self, asked: tuple[Any, ...]) -> Question:
        """Return what a far worker has sent behind the numbers of its push.

        Raises
        ------
        RemoteProtocolError
            If it is something else.
        """

    def fault_of(self, want: Rows) -> Verdict | None:
        """Return what is wrong with the rows that are wanted; None if nothing is."""
        return None

    @abstractmethod
    def take_spare(self, incarnation: int) -> tuple[int, FloatVector]:
        """Return room for new weights, and its number; `settle` must follow.

        The worker of this life reads nothing until its answer; 0 for nobody.
        """

    @abstractmethod
    def settle(self, spare: int, *, is_taken: bool) -> None:
        """Take in whether the spare holds the current weights now."""

    @abstractmethod
    def show(self, incarnation: int, want: Rows, w: FloatVector) -> int:
        """Let a near worker see what it wants; return the number of the buffer."""

    @abstractmethod
    def send(self, incarnation: int, want: Rows, w: FloatVector) -> FloatVector:
        """Return what goes to a far worker: not changed before its next question."""

    @abstractmethod
    def close(self) -> None:
        """Let go of all memory."""


class WholeDesk(Desk):
    """Of all weights. Neither an update nor a pull copies anything."""

    def __init__(self, folder: Path, w: FloatVector) -> None:
        self._folder = folder
        self._d, self._dtype = w.size, w.dtype
        self._buffers = Rotation(folder, w)
        self._gradients: dict[int, SharedVector] = {}

    @property
    def start(self) -> FloatVector:
        return self._buffers.array(self._buffers.current)

    def seat(self, incarnation: int, *, is_far: bool) -> int:
        if not is_far and incarnation not in self._gradients:
            path = self._folder / f"gradient{incarnation}"
            self._gradients[incarnation] = SharedVector.create(path, self._d, self._dtype)
        return self._look(incarnation)

    def lose(self, incarnation: int) -> None:
        self._buffers.lose(incarnation)
        gradient = self._gradients.pop(incarnation, None)
        if gradient is not None:
            gradient.unlink()

    def near_question(self, incarnation: int, n_rows: int, n_want: int, capacity: int) -> Question:
        g = self._gradients[incarnation].array
        self.pushed_bytes += g.nbytes
        return Question(g, NO_ROWS)

    def far_question(self, asked: tuple[Any, ...]) -> Question:
        match asked:
            case (np.ndarray() as g,):
                self.pushed_bytes += g.nbytes
                return Question(g, NO_ROWS)
        raise RemoteProtocolError("a push has no gradient", peer="")

    def take_spare(self, incarnation: int) -> tuple[int, FloatVector]:
        if incarnation:
            self._buffers.look_away(incarnation)
        spare = self._buffers.take()
        return spare, self._buffers.array(spare)

    def settle(self, spare: int, *, is_taken: bool) -> None:
        if is_taken:
            self._buffers.make_current(spare)
        else:
            self._buffers.put_back(spare)

    def show(self, incarnation: int, want: Rows, w: FloatVector) -> int:
        return self._look(incarnation)

    def send(self, incarnation: int, want: Rows, w: FloatVector) -> FloatVector:
        return self._buffers.array(self._look(incarnation))

    def close(self) -> None:
        self._gradients.clear()
        self._buffers.clear()

    def _look(self, incarnation: int) -> int:
        number = self._buffers.look(incarnation)
        self.pulled_bytes += self._buffers.array(number).nbytes
        return number


class RowDesk(Desk):
    """Of some rows of the weights, which lie in memory of the master alone."""

    def __init__(self, folder: Path, w: FloatVector, width: int) -> None:
        self._folder = folder
        self._w = w.copy()
        self._width = width
        self._slots: dict[int, tuple[SharedVector, RowSlot]] = {}

    @property
    def start(self) -> FloatVector:
        return self._w

    def seat(self, incarnation: int, *, is_far: bool) -> int:
        return 0

    def lose(self, incarnation: int) -> None:
        memory, _ = self._slots.pop(incarnation, (None, None))
        if memory is not None:
            memory.unlink()

    def near_question(self, incarnation: int, n_rows: int, n_want: int, capacity: int) -> Question:
        slot = self._slot(incarnation, capacity)
        rows, values, want = slot.rows(n_rows), slot.values(n_rows), slot.want(n_want)
        self.pushed_bytes += rows.nbytes + values.nbytes + want.nbytes
        return Question(RowGradient(rows, values), want)

    def far_question(self, asked: tuple[Any, ...]) -> Question:
        match asked:
            case (np.ndarray() as rows, np.ndarray() as values, np.ndarray() as want):
                self.pushed_bytes += rows.nbytes + values.nbytes + want.nbytes
                return Question(RowGradient(rows, values), want)
            case (np.ndarray() as want,):
                return Question(RowGradient(NO_ROWS, NO_ROWS), want)
        raise RemoteProtocolError("a push has no rows", peer="")

    def fault_of(self, want: Rows) -> Verdict | None:
        is_fit = want.ndim == 1 and want.dtype == np.int64
        is_fit = is_fit and are_rows(want, self._w.size // self._width)
        return None if is_fit else Verdict.MISPLACED

    def take_spare(self, incarnation: int) -> tuple[int, FloatVector]:
        return 0, self._w

    def settle(self, spare: int, *, is_taken: bool) -> None:
        pass

    def show(self, incarnation: int, want: Rows, w: FloatVector) -> int:
        _, slot = self._slots[incarnation]
        reply = slot.reply(want.size)
        self._rows_of(w).take(want, axis=0, out=reply, mode="clip")  # checked: nothing is clipped
        self.pulled_bytes += reply.nbytes
        return 0

    def send(self, incarnation: int, want: Rows, w: FloatVector) -> FloatVector:
        reply: FloatVector = self._rows_of(w).take(want, axis=0)
        self.pulled_bytes += reply.nbytes
        return reply

    def close(self) -> None:
        self._slots.clear()

    def _rows_of(self, w: FloatVector) -> FloatVector:
        return w.reshape(-1, self._width)

    def _slot(self, incarnation: int, capacity: int) -> RowSlot:
        memory, slot = self._slots.get(incarnation, (None, None))
        if slot is None or slot.capacity != capacity:
            if memory is not None:
                memory.unlink()
            path = self._folder / RowSlot.name(incarnation, capacity)
            n_bytes = RowSlot.n_bytes(capacity, self._width, self._w.dtype)
            memory = SharedVector.open(path, n_bytes, np.uint8, writable=True)
            slot = RowSlot(memory.array, incarnation, capacity, self._width, self._w.dtype)
            self._slots[incarnation] = (memory, slot)
        return slot
