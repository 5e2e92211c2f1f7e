"""An array in a file: where it is, and how rows of it are read and written. Small: it travels.

Rule 1: a new file has all its room reserved before the first row is written: a full disk is an
        error then and there, and never a SIGBUS of whoever has mapped the file.
Rule 2: rows are written to the place that is theirs, by any process or thread, in any order.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from paramserver.transport.shm import reserve


@dataclass(frozen=True)
class ArrayFile:
    """An array in a file.

    Attributes
    ----------
    path : str
    offset : int
        Where its bytes begin.
    dtype : str
    shape : tuple of int
    is_fortran : bool
    """

    path: str
    offset: int
    dtype: str
    shape: tuple[int, ...]
    is_fortran: bool

    @property
    def row_bytes(self) -> int:
        """Size of one row."""
        n_values = int(np.prod(self.shape[1:], dtype=np.int64))
        return np.dtype(self.dtype).itemsize * n_values

    def open(self) -> npt.NDArray[Any]:
        """Map the array."""
        order: Any = "F" if self.is_fortran else "C"
        return np.asarray(
            np.memmap(self.path, self.dtype, "r", self.offset, self.shape, order=order)
        )

    @classmethod
    def new(cls, path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> ArrayFile:
        """Make a .npy file of zeros with all its room reserved, so that no write can lack it."""
        descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        with path.open("x+b") as file:  # a disk that cannot reserve is written to, and read, for it
            np.lib.format.write_array_header_2_0(file, header)
            file.flush()
            made = cls(str(path), file.tell(), np.dtype(dtype).str, shape, False)
            reserve(file.fileno(), made.offset + shape[0] * made.row_bytes)
        return made

    def write(self, start: int, rows: npt.NDArray[Any]) -> None:
        """Write rows in their place; other processes may write others at the same time."""
        view = np.ascontiguousarray(rows, self.dtype).reshape(-1).view(np.uint8).data
        at = self.offset + start * self.row_bytes
        fd = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            while len(view):
                n_written = os.pwrite(fd, view, at)
                view, at = view[n_written:], at + n_written
        finally:
            os.close(fd)
