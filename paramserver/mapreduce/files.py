"""Files that appear whole or not at all, and errors of the disk in words.

Rule 1: a file is written under a name that nobody else has, in a folder that is there already: a
        late attempt of a job cannot bring a folder back that its run has removed.
Rule 2: what was not finished is removed by whoever wrote it; after a kill, by the end of the run.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Final, Self

from paramserver.errors import DataError

_NO_SPACE: Final = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up",
                    errno.EFBIG: "a file would pass the limit of its size"}  # fmt: skip


@contextmanager
def disk_errors(path: str, n_bytes: int = 0) -> Iterator[None]:
    """Turn an `OSError` while writing to `path` into a `DataError` that says what to do."""
    try:
        yield
    except OSError as error:
        folder = os.path.dirname(path)
        reason = _NO_SPACE.get(error.errno or 0)
        if reason is None:
            raise DataError(f"{path} cannot be written: {error.strerror}.", path=path) from error
        raise DataError(
            f"No space left for {path}: {reason}. {n_bytes:,} bytes more were needed there, "
            f"{_free(folder)}. Make room in {folder}, or use another folder.", path=path,
        ) from error  # fmt: skip


def _free(folder: str) -> str:
    try:
        return f"{shutil.disk_usage(folder).free:,} are free"
    except OSError as error:
        return f"how many are free cannot be told ({error.strerror})"


def unique_name(stem: str) -> str:
    """Return a file name that no other attempt of a job has."""
    return f"{stem}-{os.getpid()}-{secrets.token_hex(4)}"


class NewFile:
    """A file being written; a context manager that removes the file if it ends in an error.

    Parameters
    ----------
    path : str
        Must not exist, its folder must.

    Attributes
    ----------
    n_bytes, crc : int
        Of what was written so far.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.n_bytes = 0
        self.crc = 0
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with disk_errors(path):
            self._fd = os.open(path, flags, 0o666)

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises
        ------
        DataError
            If there is no space; it names the folder and the bytes needed.
        """
        view = memoryview(data)
        while view:
            with disk_errors(self.path, len(view)):
                view = view[os.write(self._fd, view) :]
        self.n_bytes += len(data)
        self.crc = zlib.crc32(data, self.crc)

    def read(self, offset: int, n_bytes: int) -> bytes:
        """Read back a part of it."""
        return os.pread(self._fd, n_bytes, offset)

    def empty(self) -> None:
        """Give back the space that it takes."""
        os.ftruncate(self._fd, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        os.close(self._fd)
        if kind is not None:
            self.remove()

    def remove(self) -> None:
        """Remove the file."""
        with suppress(FileNotFoundError):  # the whole folder may be gone: the run has ended
            os.unlink(self.path)
