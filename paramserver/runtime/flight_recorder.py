"""What a worker was doing when it died: a page of memory that outlives it.

Rule 1: one process writes (the worker), one reads (its agent); no lock, no system call.
Rule 2: at every instant the page holds one whole state, the old or the new, even when the writer
        is killed between two of its machine instructions.
Rule 3: it is a record of facts for after a death. Nobody waits on it.

The page holds a sequence word and two slots. A writer fills the slot that is *not* in force and
then stores the next sequence number, whose lowest bit names the slot in force. That store is one
aligned eight-byte instruction, so there is no moment at which a half-written slot is in force.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from typing import NamedTuple, Self

_PAGE_BYTES = mmap.PAGESIZE
_MAGIC = 0x5053464C52454331  # "PSFLREC1"
_WORD = struct.Struct("=Q")
_SEQUENCE = 1  # the second word of the page
_SEQUENCE_OFFSET = 8
_SLOT = struct.Struct("=4q")  # busy, job, attempt, n_ended
_SLOT_OFFSETS = (64, 128)  # one cache line each
_USED_BYTES = 192


class Flight(NamedTuple):
    """One whole state of a recorder."""

    running: tuple[int, int] | None
    """The (job, attempt) that runs; None between jobs."""
    n_ended: int
    """Attempts that have come to an end in this process."""


class FlightRecorder:
    """The page that one worker writes and its agent reads; see `create` and `open`.

    Notes
    -----
    `started` and `ended` are for one side and one thread at a time, and cost well under a
    microsecond: no system call, no lock.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._mmap: mmap.mmap | None = None  # the writer's; to read takes none
        self._words = memoryview(b"")
        self._n_ended = 0
        self._begun = (0, 0)

    @classmethod
    def create(cls) -> Self:
        """Make an empty recorder that no path leads to; its `fd` is for one child to inherit."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("paramserver-flight-recorder", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile(buffering=0) as file:
                fd = os.dup(file.fileno())
        try:
            os.ftruncate(fd, _PAGE_BYTES)
            os.pwrite(fd, _WORD.pack(_MAGIC), 0)
        except BaseException:
            os.close(fd)
            raise
        return cls(fd)

    @classmethod
    def open(cls, fd: int) -> Self:
        """Take over, to write, the recorder that was inherited as `fd`; `close` closes it.

        Raises
        ------
        ValueError
            If that descriptor is not a recorder; it is left open.
        """
        if os.pread(fd, _WORD.size, 0) != _WORD.pack(_MAGIC):
            raise ValueError(f"Descriptor {fd} is not a flight recorder.")
        os.set_inheritable(fd, False)
        recorder = cls(fd)
        recorder._map()
        return recorder

    @property
    def fd(self) -> int:
        """The descriptor behind the page."""
        return self._fd

    def started(self, job: int, attempt: int) -> None:
        """Note that this attempt is about to run."""
        self._begun = (job, attempt)
        self._write(self._mmap or self._map(), 1, job, attempt)

    def ended(self) -> None:
        """Note that the attempt noted last has come to its end, good or bad."""
        page = self._mmap or self._map()
        self._n_ended += 1
        self._write(page, 0, *self._begun)

    def read(self) -> Flight:
        """Return the state in force. Also while the writer lives: a torn read is read again."""
        busy, job, attempt, n_ended = self._read_slot()
        return Flight((job, attempt) if busy else None, n_ended)

    def last_begun(self) -> tuple[int, int]:
        """Return the (job, attempt) that was begun last, whether it has ended or not; or (0, 0)."""
        _, job, attempt, _ = self._read_slot()
        return job, attempt

    def _read_slot(self) -> tuple[int, int, int, int]:
        while True:
            page = os.pread(self._fd, _USED_BYTES, 0)
            (sequence,) = _WORD.unpack_from(page, _SEQUENCE_OFFSET)
            if os.pread(self._fd, _WORD.size, _SEQUENCE_OFFSET) == _WORD.pack(sequence):
                offset = _SLOT_OFFSETS[sequence & 1]
                busy, job, attempt, n_ended = _SLOT.unpack_from(page, offset)
                return busy, job, attempt, n_ended

    def running(self) -> tuple[int, int] | None:
        """Return the (job, attempt) that runs, or ran when the worker died; None for none."""
        return self.read().running

    @property
    def n_ended(self) -> int:
        """Number of attempts that came to an end in this process."""
        return self.read().n_ended

    def close(self) -> None:
        """Unmap the page and close the descriptor. May be called twice."""
        if self._mmap is not None:
            self._words.release()
            self._mmap.close()
            self._mmap = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _map(self) -> mmap.mmap:
        self._n_ended = self.n_ended
        self._mmap = mmap.mmap(self._fd, _PAGE_BYTES)
        self._words = memoryview(self._mmap).cast("Q")
        return self._mmap

    def _write(self, page: mmap.mmap, busy: int, job: int, attempt: int) -> None:
        sequence = self._words[_SEQUENCE] + 1
        _SLOT.pack_into(page, _SLOT_OFFSETS[sequence & 1], busy, job, attempt, self._n_ended)
        self._words[_SEQUENCE] = sequence  # comes last: now the slot is in force
