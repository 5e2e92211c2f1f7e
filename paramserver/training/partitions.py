"""Data as shared files: a partition is a range of rows, opened where it is needed.

Rule 1: rows are written once, in the order of the partitions, and are never written to again.
Rule 2: a job names a partition; it never carries rows.
Rule 3: which rows make a partition, and in which order an epoch takes them, follows from seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from paramserver.errors import DataError
from paramserver.training.batching import n_batches
from paramserver.training.csr import as_csr, index_dtype
from paramserver.training.learner import Batch, Matrix
from paramserver.training.row_files import write_rows, write_sparse

WEIGHTS: Final = "weight"
"""Name of the file with the weights that rows were written with, without ``.npy``."""


class Rows(Protocol):
    """A data set cut into partitions, as a worker sees it. Small: travels in messages."""

    @property
    def n_examples(self) -> tuple[int, ...]:
        """How many rows each partition has."""

    def open(self, partition: int) -> Batch:
        """Return the rows of a partition: mapped where that is possible, not read."""


@dataclass(frozen=True)
class SharedRows:
    """`Rows` in a folder of this machine that all workers can read.

    ``X.npy`` and ``y.npy``, and one more file if rows count differently, hold the partitions one
    behind the other. A sparse X is ``X.data.npy``, ``X.indices.npy`` and ``X.indptr.npy``; the
    last one starts again at 0 for each partition, so that a partition is mapped as it is.

    Parameters
    ----------
    folder : str
    starts : tuple of int
        First row of each partition, and behind the last one the number of all rows.
    n_columns : int, optional
        Of a sparse X; None for a dense one.
    entries : tuple of int
        First stored entry of each partition of a sparse X, and the number of all entries.
    weights : str
        Name of the file that says how much each row counts, without ``.npy``; '' if all count the
        same.
    """

    folder: str
    starts: tuple[int, ...]
    n_columns: int | None = None
    entries: tuple[int, ...] = ()
    weights: str = ""

    @cached_property
    def n_examples(self) -> tuple[int, ...]:
        """How many rows each partition has."""
        return tuple(end - start for start, end in pairwise(self.starts))

    @classmethod
    def write(cls, folder: Path, rows: Batch, parts: Sequence[npt.NDArray[np.intp]]) -> SharedRows:
        """Write rows to a folder.

        Parameters
        ----------
        folder : Path
            Exists; for the rows alone.
        rows : Batch
        parts : sequence of ndarray of int
            The rows of each partition.

        Raises
        ------
        DataError
            If the rows do not fit into the folder; nothing is left there.
        """
        order = np.concatenate(parts)
        starts = tuple(accumulate(map(len, parts), initial=0))
        n_columns: int | None = None
        entries: tuple[int, ...] = ()
        try:
            if isinstance(rows.X, np.ndarray):
                write_rows(folder / "X.npy", rows.X, order)
            else:
                n_columns = int(rows.X.shape[1])
                entries = write_sparse(folder, rows.X, order, starts)
            write_rows(folder / "y.npy", rows.y, order)
            if rows.weight is not None:
                write_rows(folder / f"{WEIGHTS}.npy", rows.weight, order)
        except OSError as error:
            for path in folder.glob("*.npy"):  # it may be memory that they take
                path.unlink()
            raise DataError(
                f"The data set ({rows.n_bytes:,} bytes) cannot be written to {folder}: "
                f"{error.strerror}. Free or enlarge that folder.",
                path=str(folder),
            ) from error
        weights = "" if rows.weight is None else WEIGHTS
        return cls(str(folder), starts, n_columns, entries, weights)

    def open(self, partition: int) -> Batch:
        """Map the rows of a partition; nothing is read yet."""
        rows = slice(self.starts[partition], self.starts[partition + 1])
        X = self._map("X")[rows] if self.n_columns is None else self._map_sparse(partition, rows)
        weight = self.weight()
        return Batch(X, self._map("y")[rows], None if weight is None else weight[rows])

    def weight(self) -> npt.NDArray[Any] | None:
        """Map how much each row of all partitions counts; None if all count the same."""
        return self._map(self.weights) if self.weights else None

    def whole(self) -> Batch:
        """Map the rows of all partitions, one behind the other.

        Only what says where sparse rows begin is computed and held in memory.
        """
        if self.n_columns is None:
            X = self._map("X")
        else:
            n = self.starts[-1]
            pieces = [np.zeros(1, np.int64)]
            for k, entry in enumerate(self.entries[:-1]):
                rows = slice(self.starts[k] + k + 1, self.starts[k + 1] + k + 1)
                pieces.append(self._map("X.indptr")[rows].astype(np.int64) + entry)
            dtype = index_dtype(self.n_columns, self.entries[-1])
            indptr = np.concatenate(pieces).astype(dtype)
            indices = self._map("X.indices").astype(dtype, copy=False)
            X = as_csr(self._map("X.data"), indices, indptr, (n, self.n_columns))
        return Batch(X, self._map("y"), self.weight())

    def _map(self, name: str) -> npt.NDArray[Any]:
        return np.asarray(np.load(Path(self.folder) / f"{name}.npy", mmap_mode="r"))

    def _map_sparse(self, partition: int, rows: slice) -> Matrix:
        stored = slice(self.entries[partition], self.entries[partition + 1])
        data, indices = self._map("X.data")[stored], self._map("X.indices")[stored]
        n = rows.stop - rows.start
        first = rows.start + partition  # each partition before has one number more than rows
        indptr = self._map("X.indptr")[first : first + n + 1]
        return as_csr(data, indices, indptr, (n, self.n_columns))


def generator(seed: int, epoch: int, partition: int) -> np.random.Generator:
    """Return the chance of one pass over one partition: the same wherever it is made."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(epoch, partition)))


class Epoch:
    """One pass over a partition in seeded order, batch by batch.

    Parameters
    ----------
    rows : Batch
        The whole partition.
    batch_size : int
    seed, number, partition : int
        Give the order.

    Attributes
    ----------
    rows : Batch
    batch_size : int
    number : int
    """

    def __init__(
        self, rows: Batch, batch_size: int, seed: int, number: int, partition: int
    ) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self.number = number
        self._key = (seed, number, partition)

    @cached_property
    def order(self) -> npt.NDArray[np.intp]:
        """In which order the rows are taken."""
        return generator(*self._key).permutation(self.rows.n)

    def __len__(self) -> int:
        return n_batches(self.rows.n, self.batch_size)

    def n_in(self, number: int) -> int:
        """Return how many rows a batch has."""
        return min(self.batch_size, self.rows.n - number * self.batch_size)

    def numbers(self, number: int) -> npt.NDArray[np.intp]:
        """Return which rows of the partition make a batch."""
        start = number * self.batch_size
        return self.order[start : start + self.batch_size]

    def batch(self, number: int) -> Batch:
        """Gather the rows of one batch."""
        if self.batch_size >= self.rows.n:
            return self.rows  # a full batch is the same in any order
        return self.rows.take(self.numbers(number))

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Gather the batches one after the other."""
        for number in range(start, len(self)):
            yield self.batch(number)
