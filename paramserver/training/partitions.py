"""Data as shared files: a partition is a range of rows, opened where it is needed.

Rule 1: rows are written once, in the order of the partitions, and are never written to again.
Rule 2: a job names a partition; it never carries rows.
Rule 3: which rows make a partition, and in which order an epoch takes them, follows from seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from paramserver.errors import DataError
from paramserver.training.learner import Batch

ROWS_AT_A_TIME = 4096
"""Rows gathered and written in one go."""


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

    Parameters
    ----------
    folder : str
    starts : tuple of int
        First row of each partition, and behind the last one the number of all rows.
    """

    folder: str
    starts: tuple[int, ...]

    @cached_property
    def n_examples(self) -> tuple[int, ...]:
        """How many rows each partition has."""
        return tuple(end - start for start, end in zip(self.starts, self.starts[1:], strict=False))

    @classmethod
    def write(
        cls,
        folder: Path,
        X: npt.NDArray[Any],
        y: npt.NDArray[Any],
        parts: Sequence[npt.NDArray[np.intp]],
    ) -> SharedRows:
        """Write rows to a folder.

        Parameters
        ----------
        folder : Path
            Exists; for the rows alone.
        X, y : ndarray
        parts : sequence of ndarray of int
            The rows of each partition.

        Raises
        ------
        DataError
            If the rows do not fit into the folder.
        """
        order = np.concatenate(parts)
        try:
            for name, rows in (("X", X), ("y", y)):
                _write_rows(folder / f"{name}.npy", rows, order)
        except OSError as error:
            raise DataError(
                f"The data set ({X.nbytes + y.nbytes:,} bytes) cannot be written to {folder}: "
                f"{error.strerror}. Free or enlarge that folder.",
                path=str(folder),
            ) from error
        starts = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
        return cls(str(folder), tuple(int(start) for start in starts))

    def open(self, partition: int) -> Batch:
        """Map the rows of a partition; nothing is read yet."""
        X, y = (np.load(Path(self.folder) / f"{name}.npy", mmap_mode="r") for name in "Xy")
        rows = slice(self.starts[partition], self.starts[partition + 1])
        return Batch(np.asarray(X[rows]), np.asarray(y[rows]))


def _write_rows(path: Path, rows: npt.NDArray[Any], order: npt.NDArray[np.intp]) -> None:
    """Write chosen rows as a .npy file, by `write`: a full disk is an error, never a SIGBUS."""
    header = {
        "descr": np.lib.format.dtype_to_descr(rows.dtype),
        "fortran_order": False,
        "shape": (len(order), *rows.shape[1:]),
    }
    with path.open("xb") as file:
        np.lib.format.write_array_header_2_0(file, header)
        for start in range(0, len(order), ROWS_AT_A_TIME):
            file.write(rows.take(order[start : start + ROWS_AT_A_TIME], axis=0).data)


def n_batches(n_examples: int, batch_size: int) -> int:
    """How many batches an epoch has; the last one may be smaller."""
    return -(-n_examples // batch_size)


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
    """

    def __init__(
        self, rows: Batch, batch_size: int, seed: int, number: int, partition: int
    ) -> None:
        self.rows = rows
        self.batch_size = batch_size
        self._key = (seed, number, partition)

    @cached_property
    def order(self) -> npt.NDArray[np.intp]:
        """In which order the rows are taken."""
        return generator(*self._key).permutation(self.rows.n)

    def __len__(self) -> int:
        return n_batches(self.rows.n, self.batch_size)

    def batch(self, number: int) -> Batch:
        """Gather the rows of one batch."""
        start = number * self.batch_size
        if self.batch_size >= self.rows.n:
            return self.rows  # a full batch is the same in any order
        return self.rows.take(self.order[start : start + self.batch_size])

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Gather the batches one after the other."""
        for number in range(start, len(self)):
            yield self.batch(number)
