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
_SEQUENCE = 1  # index of an aligned word
_SLOT_OFFSETS = (64, 128)  # one cache line each
_SLOT = struct.Struct("=4q")  # busy, job, attempt, n_ended


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
    `started` and `ended` are for one thread at a time and cost well under a microsecond.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._mmap = mmap.mmap(fd, _PAGE_BYTES)
        self._words = memoryview(self._mmap).cast("Q")
        self._busy = (0, 0, 0)
        self._n_ended = 0

    @classmethod
    def create(cls) -> Self:
        """Make an empty recorder that no path leads to; its `fd` is for one child to inherit."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("paramserver-flight-recorder", os.MFD_CLOEXEC)
        else:
            with tempfile.TemporaryFile(buffering=0) as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, _PAGE_BYTES)
        recorder = cls(fd)
        recorder._words[0] = _MAGIC
        return recorder

    @classmethod
    def open(cls, fd: int) -> Self:
        """Take over the recorder that was inherited as `fd`, which is closed later by `close`.

        Raises
        ------
        ValueError
            If that descriptor is not a recorder; it is left open.
        """
        if os.fstat(fd).st_size != _PAGE_BYTES:
            raise ValueError(f"Descriptor {fd} is not a flight recorder.")
        recorder = cls(fd)
        if recorder._words[0] != _MAGIC:
            recorder._unmap()
            raise ValueError(f"Descriptor {fd} is not a flight recorder.")
        os.set_inheritable(fd, False)
        recorder._n_ended = recorder.read().n_ended
        return recorder

    @property
    def fd(self) -> int:
        """The descriptor behind the page."""
        return self._fd

    def started(self, job: int, attempt: int) -> None:
        """Note that this attempt is about to run."""
        self._busy = (1, job, attempt)
        self._write()

    def ended(self) -> None:
        """Note that the attempt noted last has come to its end, good or bad."""
        self._busy = (0, 0, 0)
        self._n_ended += 1
        self._write()

    def read(self) -> Flight:
        """Return the state in force. Also while the writer lives: a torn read is read again."""
        words = self._words
        while True:
            sequence = words[_SEQUENCE]
            slot = _SLOT.unpack_from(self._mmap, _SLOT_OFFSETS[sequence & 1])
            if words[_SEQUENCE] == sequence:
                busy, job, attempt, n_ended = slot
                return Flight((job, attempt) if busy else None, n_ended)

    def running(self) -> tuple[int, int] | None:
        """Return the (job, attempt) that runs, or ran when the worker died; None for none."""
        return self.read().running

    @property
    def n_ended(self) -> int:
        """Number of attempts that came to an end in this process."""
        return self.read().n_ended

    def close(self) -> None:
        """Unmap the page and close the descriptor. May be called twice."""
        if self._fd >= 0:
            self._unmap()
            os.close(self._fd)
            self._fd = -1

    def _write(self) -> None:
        sequence = self._words[_SEQUENCE] + 1
        _SLOT.pack_into(self._mmap, _SLOT_OFFSETS[sequence & 1], *self._busy, self._n_ended)
        self._words[_SEQUENCE] = sequence  # comes last: now the slot is in force

    def _unmap(self) -> None:
        self._words.release()
        self._mmap.close()
