"""Rows of a piece of a file: the result of every parser.

Rule 1: a parser is given whole lines and knows nothing of files: it says in which row and column
        something is wrong, and the reader of the file knows which line that is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from paramserver.data.labels import Column

BLOCK_BYTES: Final = 1 << 18
"""Text parsed in one go: what is computed from it stays in the cache."""


class Sparse(NamedTuple):
    """Rows with few entries, as in a csr_array, of which neither scipy nor the width is known.

    Attributes
    ----------
    data : ndarray of shape (n_entries,)
    columns : ndarray of shape (n_entries,), int64
        Sorted in each row, none of them twice.
    lengths : ndarray of shape (n,), int64
        How many entries each row has.
    """

    data: npt.NDArray[Any]
    columns: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    def take(self, rows: npt.NDArray[Any]) -> Sparse:
        """Gather rows by their numbers."""
        ends = np.cumsum(self.lengths)
        lengths = self.lengths[rows]
        starts = ends[rows] - lengths
        before = np.cumsum(lengths) - lengths  # entries of the rows gathered before each
        entries = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
        return Sparse(self.data[entries], self.columns[entries], lengths)


@dataclass(frozen=True)
class Table:
    """Some rows.

    Attributes
    ----------
    X : ndarray of shape (n, n_columns), or Sparse
    y : Column
    weight : ndarray of shape (n,), optional
        How much each row counts, of the dtype of X.
    key : Column, optional
        By which rows are dealt out.
    """

    X: npt.NDArray[Any] | Sparse
    y: Column
    weight: npt.NDArray[Any] | None = None
    key: Column | None = None

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.y.values)

    def take(self, rows: npt.NDArray[Any]) -> Table:
        """Gather rows, by a mask or by their numbers, as copies."""
        numbers = np.flatnonzero(rows) if rows.dtype == bool else rows
        X = self.X.take(numbers) if isinstance(self.X, Sparse) else self.X[numbers]
        weight = None if self.weight is None else self.weight[numbers]
        key = None if self.key is None else self.key.take(numbers)
        return Table(X, self.y.take(numbers), weight, key)


@dataclass(frozen=True)
class Treated:
    """Rows as they are trained on.

    Attributes
    ----------
    X : ndarray of shape (n, n_columns), or Sparse
    y : ndarray of shape (n,)
        Class numbers, or numbers to predict.
    weight : ndarray of shape (n,), optional
    """

    X: npt.NDArray[Any] | Sparse
    y: npt.NDArray[Any]
    weight: npt.NDArray[Any] | None = None

    def take(self, rows: npt.NDArray[Any]) -> Treated:
        """Gather rows by their numbers."""
        X = self.X.take(rows) if isinstance(self.X, Sparse) else self.X[rows]
        return Treated(X, self.y[rows], None if self.weight is None else self.weight[rows])


class BadCell(Exception):
    """Something that cannot be taken for what it should be.

    Attributes
    ----------
    row : int
        Among the rows that were parsed, from 0.
    column : int or None
        In that row, from 1; None if it is the row as a whole.
    reason : str
    """

    def __init__(self, row: int, column: int | None, reason: str) -> None:
        super().__init__(row, column, reason)
        self.row = row
        self.column = column
        self.reason = reason


def blocks(text: bytes) -> Iterator[tuple[int, bytes]]:
    """Cut rows into blocks; yield the number of the first row of each, and its text."""
    row, start = 0, 0
    while start < len(text):
        end = text.rfind(b"\n", start, start + BLOCK_BYTES) + 1
        if end == 0:  # one row is longer than a block
            end = text.index(b"\n", start) + 1
        block = text[start:end]
        yield row, block
        row += block.count(b"\n")
        start = end
