"""Arrays in .npy files, and in .npz archives that were not compressed: mapped, never read whole.

Rule 1: nothing is unpickled.
"""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from paramserver.errors import DataError

_LOCAL_HEADER_BYTES: Final = 30
"""Of a member of a zip archive, up to its name (APPNOTE.TXT 4.3.7)."""
_NUMBERS: Final = "fiub"
_LABELS: Final = "fiubUS"


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
        with path.open("xb") as file:
            np.lib.format.write_array_header_2_0(file, header)
            file.flush()
            made = cls(str(path), file.tell(), np.dtype(dtype).str, shape, False)
            os.posix_fallocate(file.fileno(), 0, made.offset + shape[0] * made.row_bytes)
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


def find_arrays(path: Path, folder: Path) -> tuple[ArrayFile, ArrayFile]:
    """Return X and y of an .npz archive, or of a folder with ``X.npy`` and ``y.npy``.

    Parameters
    ----------
    path : Path
    folder : Path
        Where members that are compressed are written to, plain.

    Raises
    ------
    DataError
        If they are not there, or are not the numbers that they should be.
    """
    try:
        if path.is_dir():
            X, y = (_in_npy(path / f"{name}.npy") for name in "Xy")
        else:
            X, y = (_in_npz(path, name, folder) for name in "Xy")
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        hint = (
            "Write them with numpy.save." if path.is_dir() else
            "Write one with numpy.savez(path, X=X, y=y)."
        )  # fmt: skip
        kind = (
            "folder with X.npy and y.npy" if path.is_dir() else ".npz file with the arrays X and y"
        )
        raise DataError(f"{path} is no {kind} ({error}). {hint}", path=str(path)) from error
    X_kind, y_kind = (np.dtype(array.dtype).kind for array in (X, y))
    if (
        len(X.shape) != 2
        or y.shape != X.shape[:1]
        or X_kind not in _NUMBERS
        or y_kind not in _LABELS
    ):
        raise DataError(
            f"{path}: X must be numbers of shape (n, features) and y of shape (n,); they are "
            f"{X.dtype} of shape {X.shape} and {y.dtype} of shape {y.shape}.",
            path=str(path),
        )
    return X, y


def _in_npy(path: Path) -> ArrayFile:
    with path.open("rb") as file:
        return _read_header(file, str(path), 0)


def _in_npz(path: Path, name: str, folder: Path) -> ArrayFile:
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"{name}.npy")
        if info.compress_type == zipfile.ZIP_STORED:
            with path.open("rb") as file:
                file.seek(info.header_offset)
                head = file.read(_LOCAL_HEADER_BYTES)
                lengths = np.frombuffer(head[26:30], "<u2")  # of the name, of the extra field
                start = info.header_offset + _LOCAL_HEADER_BYTES + int(lengths.sum())
                file.seek(start)
                return _read_header(file, str(path), start)
        archive.extract(info, folder)
    return _in_npy(folder / f"{name}.npy")


def _read_header(file: IO[bytes], path: str, start: int) -> ArrayFile:
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0 if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )  # fmt: skip
    shape, is_fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("objects are not read")
    found = ArrayFile(path, file.tell(), dtype.str, tuple(map(int, shape)), bool(is_fortran))
    size = file.seek(0, 2)
    if found.offset + found.row_bytes * (found.shape[0] if found.shape else 1) > size:
        raise ValueError("it was cut short")
    return found
