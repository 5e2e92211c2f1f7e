"""Where the rows of large files go: binary files with all their room reserved.

Rule 1: all room is reserved before the first row is placed: a full disk is an error in words, and
        never a SIGBUS of whoever has mapped the file.
Rule 2: rows are written to the place that is theirs, so whoever writes them, however often, writes
        the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from paramserver.data.tables import Sparse, Treated
from paramserver.errors import DataError
from paramserver.training.array_file import ArrayFile
from paramserver.training.csr import index_dtype
from paramserver.training.partitions import WEIGHTS, SharedRows


@dataclass(frozen=True)
class Target:
    """The files for the rows to train on, or for those held out.

    Attributes
    ----------
    rows : SharedRows
    y : ArrayFile
    X : tuple of ArrayFile
        The rows; or data, indices and indptr.
    weight : ArrayFile, optional
    """

    rows: SharedRows
    y: ArrayFile
    X: tuple[ArrayFile, ...]
    weight: ArrayFile | None = None

    @classmethod
    def make(
        cls,
        folder: Path,
        n_rows: Sequence[int],
        n_entries: Sequence[int] | None,
        n_columns: int,
        dtype: np.dtype[Any],
        y_dtype: np.dtype[Any],
        *,
        is_weighted: bool,
    ) -> Target:
        """Reserve room for partitions of so many rows and, in sparse ones, entries."""
        folder.mkdir()
        starts = tuple(accumulate(n_rows, initial=0))
        n = starts[-1]
        y = ArrayFile.new(folder / "y.npy", y_dtype, (n,))
        weights = WEIGHTS if is_weighted else ""
        weight = ArrayFile.new(folder / f"{weights}.npy", dtype, (n,)) if is_weighted else None
        if n_entries is None:
            rows = SharedRows(str(folder), starts, weights=weights)
            dense = ArrayFile.new(folder / "X.npy", dtype, (n, n_columns))
            return cls(rows, y, (dense,), weight)
        entries = tuple(accumulate(n_entries, initial=0))
        index = index_dtype(n_columns, max(n_entries))
        X = (
            ArrayFile.new(folder / "X.data.npy", dtype, entries[-1:]),
            ArrayFile.new(folder / "X.indices.npy", index, entries[-1:]),
            ArrayFile.new(folder / "X.indptr.npy", index, (n + len(n_rows),)),
        )
        rows = SharedRows(str(folder), starts, n_columns, entries, weights)
        return cls(rows, y, X, weight)

    def write(self, k: int, rows: Treated, n_before: int, n_entries_before: int) -> None:
        """Write consecutive rows of partition k, of which there are so many before these."""
        start = self.rows.starts[k] + n_before
        X = rows.X
        self.y.write(start, rows.y)
        if self.weight is not None and rows.weight is not None:
            self.weight.write(start, rows.weight)
        if not isinstance(X, Sparse):
            self.X[0].write(start, X)
            return
        data, indices, indptr = self.X
        entry = self.rows.entries[k] + n_entries_before
        data.write(entry, X.data)
        indices.write(entry, X.columns)
        indptr.write(start + k + 1, n_entries_before + np.cumsum(X.lengths))


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn an `OSError` while writing to a folder into a `DataError` that says what to do."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"The rows cannot be written to {folder}: {error.strerror or error}. Make room there, "
            "or set TMPDIR to a folder with more.",
            path=str(folder),
        ) from error
