"""The way from map jobs to reduce jobs: one file for each map job, a piece in it for each part.

A map job sorts its pairs by part, stretch by stretch while they are in the cache; each time its
memory is used up, and at the end, it appends a segment: all there is for each part, one part after
the other. The index stands behind the last segment, all rows of a part together, so that a reduce
job reads its rows and then its pieces, and nothing else. Only the name of the file and the place of
its index travel by the master.

Rule 1: a file has a name of its own attempt, and is never changed once its job has ended.
Rule 2: every piece and every row of the index has a checksum. What cannot be read as it was written
        is a `LostInput`, and its map job is run again.
Rule 3: pieces are read in the order of the map jobs, and within one in the order of its segments:
        so the values of a key come in the order of the input, whatever the schedule.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from paramserver.mapreduce.columns import decode_batches, encode_batch
from paramserver.mapreduce.files import NewFile, unique_name
from paramserver.mapreduce.pairs import Batch, Lanes, concatenated_values
from paramserver.mapreduce.words import Words
from paramserver.runtime.context import LostInput

_ROW: Final = struct.Struct("<QQII")
"""Offset and bytes of a piece, its checksum, and the checksum of these three."""
_ROW_HEAD: Final = struct.Struct("<QQI")
_PAIRS_A_SLICE: Final = 16
"""With fewer pairs for each part, the fixed cost of a slice would show."""


class MapOutput(NamedTuple):
    """Where the output of a map job lies. Crosses the wire as a list of plain values."""

    path: str
    n_segments: int
    index_offset: int
    n_bytes: int


class ShuffleWriter:
    """Writes the output of one map job. A context manager; an error removes the file.

    Parameters
    ----------
    folder : str
        The run's own, on this machine.
    job : int
        Number of the map job.
    n_parts : int
    memory_limit_bytes : int
        Pairs in memory beyond this are written out.
    trusted : bool
        See `columns`.
    """

    def __init__(
        self, folder: str, job: int, n_parts: int, memory_limit_bytes: int, *, trusted: bool
    ) -> None:
        self._file = NewFile(os.path.join(folder, unique_name(f"map-{job:05d}")))
        self._n_parts = n_parts
        self._limit = memory_limit_bytes
        self._trusted = trusted
        self._lanes = Lanes()
        self._sorted: list[_Stretch] = []
        self._sorted_bytes = 0
        self._rows: list[list[bytes]] = [[] for _ in range(n_parts)]
        self.n_pairs = 0

    def add(self, batches: Sequence[Batch]) -> None:
        """Add pairs.

        Raises
        ------
        DataError
            If something cannot be a key, or the disk is full.
        """
        self._lanes.extend(batches)
        is_full = self._sorted_bytes + self._lanes.n_bytes > self._limit
        if is_full or self._lanes.n_pairs >= self._n_parts * _PAIRS_A_SLICE:
            self._sort()
        if is_full:
            self._write_segment()

    def finish(self) -> MapOutput:
        """Write what is left, and the index."""
        self._sort()
        if self._sorted:
            self._write_segment()
        index_offset = self._file.n_bytes
        self._file.write(b"".join(row for rows in self._rows for row in rows))
        n_segments = len(self._rows[0])
        return MapOutput(self._file.path, n_segments, index_offset, self._file.n_bytes)

    def _sort(self) -> None:
        """Sort the newest pairs by part, while they are in the cache."""
        self.n_pairs += self._lanes.n_pairs
        self._sorted_bytes += self._lanes.n_bytes
        for batch in self._lanes.take_all():
            self._sorted.append(_sort_by_part(batch, self._n_parts))

    def _write_segment(self) -> None:
        lanes: dict[str, list[_Stretch]] = {}
        for stretch in self._sorted:
            lanes.setdefault(stretch.batch.lane, []).append(stretch)
        pieces = []
        for part in range(self._n_parts):
            shares = [_gather(lane, part) for lane in lanes.values()]
            pieces.append(
                b"".join(encode_batch(each, trusted=self._trusted) for each in shares if each)
            )
        self._sorted = []
        self._sorted_bytes = 0
        offset = self._file.n_bytes
        for rows, piece in zip(self._rows, pieces, strict=True):
            head = _ROW_HEAD.pack(offset, len(piece), zlib.crc32(piece))
            rows.append(head + zlib.crc32(head).to_bytes(4, "little"))
            offset += len(piece)
        self._file.write(b"".join(pieces))

    def __enter__(self) -> ShuffleWriter:
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.__exit__(*error)


class _Stretch(NamedTuple):
    """Pairs sorted by part; those of part p are from ``bounds[p]`` to ``bounds[p + 1]``."""

    batch: Batch
    bounds: list[int]


def _sort_by_part(batch: Batch, n_parts: int) -> _Stretch:
    parts = batch.hashes()
    parts %= np.uint64(n_parts)
    small = parts.astype(np.uint16)  # numpy sorts integers of 16 bits by counting
    ordered = batch.take(np.argsort(small, kind="stable"))
    stops = np.cumsum(np.bincount(small, minlength=n_parts)).tolist()
    return _Stretch(ordered, [0, *stops])


def _gather(lane: list[_Stretch], part: int) -> Batch | None:
    """Return the pairs of one part from all stretches of a lane, in order."""
    cuts = [(batch, slice(bounds[part], bounds[part + 1])) for batch, bounds in lane]
    values = concatenated_values([batch.values[cut] for batch, cut in cuts])
    if not len(values):
        return None
    if isinstance(lane[0].batch.keys, Words):
        words = [(batch.keys, cut) for batch, cut in cuts if isinstance(batch.keys, Words)]
        heads = np.concatenate([column.head[cut] for column, cut in words])
        tails = np.concatenate([column.tail[cut] for column, cut in words])
        return Batch(Words(heads, tails, words[0][0].is_text), values)
    return Batch([key for batch, cut in cuts for key in batch.key_list()[cut]], values)


# --- the reading side ----------------------------------------------------------------------------


def read_piece(
    output: MapOutput, part: int, *, job: int, trusted: bool
) -> Iterator[tuple[Batch, int]]:
    """Yield the batches of one part from the output of one map job, each with its bytes.

    Only on the machine of the files; elsewhere see `far`.

    Raises
    ------
    LostInput
        If the file is gone, or is not what was written.
    """
    pieces = _read_pieces(output, part)
    while True:
        try:
            data = next(pieces, None)
        except (OSError, ValueError) as error:
            raise LostInput(
                f"The output of map job {job} cannot be read ({output.path}): {error}", index=job
            ) from error
        if data is None:
            return
        yield from decode_batches(memoryview(data), trusted=trusted)


def _read_pieces(output: MapOutput, part: int) -> Iterator[bytes]:
    """Yield the pieces of one part, checked; OSError or ValueError where that fails."""
    if not output.n_segments:
        return
    fd = os.open(output.path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for offset, n_bytes, crc in placed(_read(fd, *rows_of(output, part))):
            yield checked(_read(fd, offset, n_bytes), crc)
    finally:
        os.close(fd)


def rows_of(output: MapOutput, part: int) -> tuple[int, int]:
    """Return where the rows of a part are: their offset and their bytes."""
    row_bytes = output.n_segments * _ROW.size
    return output.index_offset + part * row_bytes, row_bytes


def placed(rows: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield offset, bytes and checksum of the piece of each row; ValueError for a damaged one."""
    for start in range(0, len(rows), _ROW.size):
        offset, n_bytes, crc, row_crc = _ROW.unpack_from(rows, start)
        if zlib.crc32(rows[start : start + _ROW_HEAD.size]) != row_crc:
            raise ValueError("its index is damaged")
        yield offset, n_bytes, crc


def checked(piece: bytes, crc: int) -> bytes:
    """Return a piece; ValueError if it is not the one of that checksum."""
    if zlib.crc32(piece) != crc:
        raise ValueError("a piece is damaged")
    return piece


def _read(fd: int, offset: int, n_bytes: int) -> bytes:
    data = os.pread(fd, n_bytes, offset)
    while len(data) < n_bytes:
        more = os.pread(fd, n_bytes - len(data), offset + len(data))
        if not more:
            raise ValueError("it is cut off")
        data += more
    return data
