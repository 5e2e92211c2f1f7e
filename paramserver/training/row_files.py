"""Rows written to files in the order of their partitions, each block by whatever thread is free.

Rule 1: what a file holds follows from the rows and their order, not from who writes which block.

To gather shuffled rows is to wait for memory, and to write them to wait for pages of the kernel;
both let go of the interpreter, so that threads share the work.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paramserver.runtime.cores import n_cores
from paramserver.training.array_file import ArrayFile
from paramserver.training.csr import index_dtype
from paramserver.training.learner import Matrix

BLOCK_BYTES: Final = 1 << 20
"""Gathered and written in one go: it stays in the cache, and takes longer than the calls do."""
MAX_THREADS: Final = 4
"""More are no faster, since memory is what they wait for, and each holds a block."""


def write_rows(path: Path, rows: npt.NDArray[Any], order: npt.NDArray[np.intp]) -> None:
    """Write chosen rows of an array, in this order.

    Raises
    ------
    OSError
        If there is no room for them.
    """
    file = ArrayFile.new(path, rows.dtype, (len(order), *rows.shape[1:]))

    def write(some: slice) -> None:
        file.write(some.start, rows.take(order[some], axis=0))

    _in_blocks(len(order), file.row_bytes, write)


def write_sparse(
    folder: Path, X: Matrix, order: npt.NDArray[np.intp], starts: tuple[int, ...]
) -> tuple[int, ...]:
    """Write the three arrays of chosen rows; return where the entries of each partition start.

    Raises
    ------
    OSError
        If there is no room for them.
    """
    ends = np.zeros(len(order) + 1, np.int64)
    np.cumsum(np.diff(X.indptr).take(order), out=ends[1:])
    entries = tuple(ends[list(starts)].tolist())
    dtype = index_dtype(X.shape[1], max(b - a for a, b in pairwise(entries)))
    n_numbers = len(order) + len(starts) - 1  # each partition has one more than it has rows
    indptr = ArrayFile.new(folder / "X.indptr.npy", dtype, (n_numbers,))
    for k, (first, last) in enumerate(pairwise(starts)):
        indptr.write(first + k, ends[first : last + 1] - entries[k])
    data = ArrayFile.new(folder / "X.data.npy", X.dtype, entries[-1:])
    indices = ArrayFile.new(folder / "X.indices.npy", dtype, entries[-1:])

    def write(some: slice) -> None:
        block = X[order[some]]
        first = int(ends[some.start])
        data.write(first, block.data)
        indices.write(first, block.indices)

    entry_bytes = X.dtype.itemsize + dtype.itemsize
    _in_blocks(len(order), entry_bytes * entries[-1] // max(1, len(order)), write)
    return entries


def _in_blocks(n: int, row_bytes: int, write: Callable[[slice], None]) -> None:
    """Have all of `n` rows written, block by block."""
    size = max(1, BLOCK_BYTES // max(1, row_bytes))
    blocks = [slice(at, min(at + size, n)) for at in range(0, n, size)]
    if len(blocks) < 2:
        for block in blocks:
            write(block)
        return
    with ThreadPoolExecutor(min(MAX_THREADS, n_cores(), len(blocks)), "paramserver-rows") as pool:
        for _ in pool.map(write, blocks):  # raises what one of them raises, and calls off the rest
            pass
