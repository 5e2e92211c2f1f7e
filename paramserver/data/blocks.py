"""Byte ranges of files as blocks of whole records.

Rule 1: a record belongs to the range in which it begins, wherever it ends. So the ranges of a file,
        however it was cut, hold each record exactly once.
Rule 2: a block is a run of whole records of about the size asked for; only a record longer than
        that makes a longer block.
Rule 3: nothing is read but the range, and the rest of the record that runs over its end.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from paramserver.errors import DataError

_SCAN_BYTES: Final = 1 << 16


class FileRange(NamedTuple):
    """The bytes from `start` to `stop` of a file that had `size` bytes when this was planned."""

    path: str
    start: int
    stop: int
    size: int


class Boundary(NamedTuple):
    """Where a record may end: after each of these bytes."""

    separators: tuple[bytes, ...]

    def end_of_first(self, data: bytes) -> int:
        """Return the position after the first separator; 0 if there is none."""
        places = [data.find(each) for each in self.separators]
        return min((place for place in places if place >= 0), default=-1) + 1

    def end_of_last(self, data: bytes) -> int:
        """Return the position after the last separator; 0 if there is none."""
        near_the_end = max(0, len(data) - 256)  # nearly always; saves one full search a separator
        last = max(data.rfind(each, near_the_end) for each in self.separators)
        if last < 0:
            last = max(data.rfind(each, 0, near_the_end) for each in self.separators)
        return last + 1


LINES: Final = Boundary((b"\n",))
WORDS: Final = Boundary((b" ", b"\n", b"\t", b"\r", b"\v", b"\f"))
"""What `bytes.split()` takes for white space."""


def read_blocks(piece: FileRange, boundary: Boundary, block_bytes: int) -> Iterator[bytes]:
    """Yield the records that begin in `piece`, in order, as blocks of about `block_bytes`.

    Raises
    ------
    DataError
        If the file cannot be read, or is shorter than it was when the work was planned.
    """
    try:
        fd = os.open(piece.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield from _blocks(fd, piece, boundary, block_bytes)
        finally:
            os.close(fd)
    except OSError as error:
        raise DataError(
            f"{piece.path} cannot be read: {error.strerror}. "
            "Every machine with workers must see the file under this name.",
            path=piece.path,
        ) from error


def _blocks(fd: int, piece: FileRange, boundary: Boundary, block_bytes: int) -> Iterator[bytes]:
    position = _next_record(fd, piece, piece.start, piece.stop, boundary)
    if position >= piece.stop:
        return
    end = _next_record(fd, piece, piece.stop, piece.size, boundary)
    wanted = block_bytes
    while position < end:
        block = _read(fd, piece, position, min(wanted, end - position))
        if position + len(block) < end:
            whole = boundary.end_of_last(block)
            if not whole:
                wanted *= 2  # a record longer than a block: try again with more
                continue
            block = block[:whole]
        position += len(block)
        wanted = block_bytes
        yield block


def _next_record(fd: int, piece: FileRange, start: int, stop: int, boundary: Boundary) -> int:
    """Return where the first record at or after `start` begins; `stop` if none begins before."""
    if start == 0:
        return 0
    position = start - 1
    while position < stop:
        data = _read(fd, piece, position, min(_SCAN_BYTES, stop - position))
        after = boundary.end_of_first(data)
        if after:
            return position + after
        position += len(data)
    return stop


def _read(fd: int, piece: FileRange, position: int, n_bytes: int) -> bytes:
    """Read exactly so many bytes."""
    data = os.pread(fd, n_bytes, position)
    while len(data) < n_bytes:
        more = os.pread(fd, n_bytes - len(data), position + len(data))
        if not more:
            raise DataError(
                f"{piece.path} has become shorter while it was read: {position + len(data)} bytes, "
                f"it had {piece.size}. Run again when nobody writes to it.",
                path=piece.path,
            )
        data += more
    return data
