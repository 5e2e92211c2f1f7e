"""Rows of the master's machine for workers that cannot open them: sent once, by their connection.

The master's side is `RowsDesk`, the worker's is `FarRows`.

Rule 1: the rows of a partition are a few arrays; they go piece by piece, each a question of the
        worker that wants them, so a slow worker slows down nobody else.
Rule 2: opening rows may read a disk: a thread of the desk's own does it, never the master's I/O
        thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paramserver.core.commands import CallService
from paramserver.core.events import ServiceReplied
from paramserver.errors import RemoteProtocolError
from paramserver.protocol import calls
from paramserver.protocol.arrays import ITEM_BYTES, unpack_plain
from paramserver.protocol.messages import Payload
from paramserver.runtime.call_thread import CallThread
from paramserver.runtime.context import current
from paramserver.training.csr import as_csr
from paramserver.training.formats import PIECE_BYTES, payload_of
from paramserver.training.learner import Batch
from paramserver.training.partitions import Rows

METHODS: Final = ("rows", "piece")
"""What the desk is asked: which arrays a partition has, and a piece of one of them."""
MAX_OPEN: Final = 4
"""Partitions that the desk keeps open."""
Arrays = dict[str, npt.NDArray[Any]]


def arrays_of(rows: Batch) -> tuple[Arrays, tuple[int, ...] | None]:
    """Return the arrays that rows consist of, and the shape of X if it is a sparse matrix."""
    X = rows.X
    if isinstance(X, np.ndarray):
        arrays, shape = {"X": X}, None
    else:
        arrays = {"data": X.data, "indices": X.indices, "indptr": X.indptr}
        shape = (int(X.shape[0]), int(X.shape[1]))
    arrays["y"] = rows.y
    if rows.weight is not None:
        arrays["weight"] = rows.weight
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}, shape


def rows_of(arrays: Arrays, shape: tuple[int, ...] | None) -> Batch:
    """Undo `arrays_of`."""
    if shape is None:
        return Batch(arrays["X"], arrays["y"], arrays.get("weight"))
    X = as_csr(arrays["data"], arrays["indices"], arrays["indptr"], shape)
    return Batch(X, arrays["y"], arrays.get("weight"))


class RowsDesk:
    """Answers those who want rows, in a thread of its own.

    Parameters
    ----------
    rows : Rows
    post : callable
        Takes the answers, from any thread; the master's `post`.
    clock : callable
        The master's.
    """

    def __init__(
        self, rows: Rows, post: Callable[[ServiceReplied], None], clock: Callable[[], float]
    ) -> None:
        self._rows = rows
        self._open: dict[int, tuple[Arrays, tuple[int, ...] | None]] = {}
        self._calls = CallThread("paramserver-rows", self._answer, post, clock, trusted=False)
        self.n_bytes = 0
        """Sent so far."""

    def ask(self, command: CallService) -> None:
        """Take in a question; it is answered from the desk's thread. On the I/O thread."""
        self._calls.ask(command)

    def forget(self, incarnation: int) -> None:
        """Drop what a worker has asked whose life is over. On the I/O thread."""
        self._calls.forget(incarnation)

    def close(self) -> None:
        """End the thread; who still waits is not answered any more. May be called twice."""
        self._calls.close()
        self._open.clear()

    def _answer(self, command: CallService) -> Payload:
        asked = unpack_plain(command.body.data)
        match command.method, asked:
            case "rows", (int(partition),):
                arrays, shape = self._arrays(partition)
                about = {name: (a.dtype.str, a.shape) for name, a in arrays.items()}
                return calls.encode_value((about, shape), trusted=False)
            case "piece", (int(partition), str(name), int(start)) if start >= 0:
                array = self._arrays(partition)[0].get(name)
                if array is not None:
                    flat = array.reshape(-1).view(np.uint8)
                    piece = flat[start : start + PIECE_BYTES]
                    self.n_bytes += piece.size
                    return payload_of(b"", piece)
        raise RemoteProtocolError(f"there are no such rows: {asked!r:.80}", peer="")

    def _arrays(self, partition: int) -> tuple[Arrays, tuple[int, ...] | None]:
        found = self._open.pop(partition, None)
        if found is None:
            if not 0 <= partition < len(self._rows.n_examples):
                raise RemoteProtocolError(f"there is no partition {partition}", peer="")
            while len(self._open) >= MAX_OPEN:
                del self._open[next(iter(self._open))]
            found = arrays_of(self._rows.open(partition))
        self._open[partition] = found  # the last one used is the last one to be dropped
        return found


class FarRows:
    """`Rows` as a worker sees them that asks the master for them.

    Parameters
    ----------
    service : str
        Name of the training's service.
    n_examples : tuple of int
    """

    def __init__(self, service: str, n_examples: tuple[int, ...]) -> None:
        self._service = service
        self._n_examples = n_examples

    @property
    def n_examples(self) -> tuple[int, ...]:
        """How many rows each partition has."""
        return self._n_examples

    def open(self, partition: int) -> Batch:
        """Fetch the rows of a partition, from within a job. The caller keeps them.

        Raises
        ------
        RemoteProtocolError
            If what comes is not what was announced.
        JobFailed
            If the master cannot read them; in words.
        """
        about, shape = calls.decode_value(self._ask("rows", partition), trusted=False)
        arrays = {}
        for name, (dtype, array_shape) in about.items():
            if dtype not in ITEM_BYTES:
                raise RemoteProtocolError(f"{name} has the dtype {dtype!r:.40}", peer="master")
            array = np.empty(array_shape, dtype)
            self._fill(partition, name, array.reshape(-1).view(np.uint8))
            array.flags.writeable = False
            arrays[name] = array
        return rows_of(arrays, shape)

    def _fill(self, partition: int, name: str, flat: npt.NDArray[np.uint8]) -> None:
        for start in range(0, flat.size, PIECE_BYTES):
            room = flat[start : start + PIECE_BYTES]
            buffers = self._ask("piece", partition, name, start).buffers
            if not buffers or memoryview(buffers[0]).nbytes != room.size:
                raise RemoteProtocolError(f"{name} of partition {partition} is cut off", peer="")
            room[:] = np.frombuffer(buffers[0], np.uint8)

    def _ask(self, method: str, *asked: object) -> Any:
        body = calls.encode_value(asked, trusted=False)
        return current().call(self._service, method, body)
