"""Vectors that lie in memory of several processes on one machine.

Rule 1: a vector is a file in a private folder in memory; whoever knows its name can map it.
Rule 2: its pages are reserved before it is mapped: a full memory is an error here and now, never a
        SIGBUS in the middle of a step.
Rule 3: nothing here says who may write when; the protocol of who uses it does.
"""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from paramserver.errors import TransportError

FloatVector: TypeAlias = npt.NDArray[Any]
"""A flat, C-contiguous array of float32 or float64."""


class SharedVector:
    """One vector in shared memory; see `create` and `open`.

    Attributes
    ----------
    path : Path
    array : ndarray of shape (d,)
        The memory itself. It stays valid as long as somebody holds a view, also after `unlink`.
    """

    __slots__ = ("array", "path")

    def __init__(self, path: Path, array: FloatVector) -> None:
        self.path = path
        self.array = array

    @classmethod
    def create(cls, path: Path, d: int, dtype: npt.DTypeLike) -> SharedVector:
        """Make a vector of zeros.

        Raises
        ------
        TransportError
            If the memory is not there; nothing is left behind.
        FileExistsError
            If the name is taken.
        """
        n_bytes = max(1, d * np.dtype(dtype).itemsize)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            reserve(fd, n_bytes)
            memory = mmap.mmap(fd, n_bytes)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise _no_memory(path, n_bytes, error) from error
        finally:
            os.close(fd)
        return cls(path, np.frombuffer(memory, dtype=dtype, count=d))

    @classmethod
    def open(
        cls, path: Path, d: int, dtype: npt.DTypeLike, *, writable: bool = False
    ) -> SharedVector:
        """Map a vector that another process has made.

        Raises
        ------
        FileNotFoundError
            If it is gone: whoever owned it has ended.
        TransportError
            If it is of another size.
        """
        n_bytes = max(1, d * np.dtype(dtype).itemsize)
        fd = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        try:
            found = os.fstat(fd).st_size
            if found != n_bytes:
                raise TransportError(
                    f"The shared vector {path} has {found} bytes where {n_bytes} are expected."
                )
            access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
            memory = mmap.mmap(fd, n_bytes, access=access)
        finally:
            os.close(fd)
        return cls(path, np.frombuffer(memory, dtype=dtype, count=d))

    def unlink(self) -> None:
        """Take the name away; the memory goes with its last user."""
        self.path.unlink(missing_ok=True)


def reserve(fd: int, n_bytes: int) -> None:
    """Make a file that large, with memory or blocks of the disk for all of it; it keeps its bytes.

    Raises
    ------
    OSError
        If there is no room.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, n_bytes)
    else:  # macOS: no such call, and no tmpfs either; the file's blocks are written instead
        for start in range(os.fstat(fd).st_size, n_bytes, 1 << 20):
            os.pwrite(fd, bytes(min(1 << 20, n_bytes - start)), start)


def _no_memory(path: Path, n_bytes: int, error: OSError) -> TransportError:
    folder = os.statvfs(path.parent)
    free = folder.f_bavail * folder.f_frsize
    hint = "Use fewer workers or partitions, or enlarge it (mount -o remount,size=... /dev/shm)."
    if error.errno not in (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT):
        hint = f"{error.strerror}."
    return TransportError(
        f"A vector of {n_bytes:,} bytes cannot be reserved in {path.parent} "
        f"({free:,} bytes are free). {hint}"
    )
