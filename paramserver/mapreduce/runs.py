"""Sorted runs on disk, for a part that does not fit into memory, and their merge.

Rule 1: a run is sorted by key, and pairs of equal keys are in their order. Runs are merged in the
        order in which they were written, so that the values of a key stay in theirs.
Rule 2: of each run only one chunk is in memory. Each step of the merge takes, from all chunks, the
        keys below the smallest last key; that last key itself is streamed, since its values may be
        more than memory holds.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from paramserver.mapreduce.columns import decode_batches, encode_batch
from paramserver.mapreduce.files import NewFile, unique_name
from paramserver.mapreduce.keys import encode
from paramserver.mapreduce.pairs import Batch, into_lanes

FAN_IN: Final = 64
"""So many runs are merged into one before more are written: that many chunks are in memory then."""
_PAIRS: Final = (32, 4096)
"""Least and most pairs of a chunk."""
_COPIES: Final = 4
"""A chunk is there as columns, as lists, and in the groups that are made of it."""


class _Chunk(NamedTuple):
    """Where a stretch of a run lies."""

    offset: int
    n_bytes: int


class SortedRuns:
    """Runs of one reduce job, in one file. A context manager that removes the file.

    Parameters
    ----------
    folder : str
        The run's own, on this machine.
    name : str
    memory_limit_bytes : int
        What the chunks of `FAN_IN` runs may need together.
    trusted : bool
        See `columns`.
    """

    def __init__(self, folder: str, name: str, memory_limit_bytes: int, *, trusted: bool) -> None:
        self._file = NewFile(os.path.join(folder, unique_name(name)))
        self._chunk_bytes = memory_limit_bytes // (FAN_IN * _COPIES)
        self._trusted = trusted
        self._runs: list[list[_Chunk]] = []
        self._kinds: set[type] = set()

    @property
    def n_runs(self) -> int:
        """How many runs there are."""
        return len(self._runs)

    @property
    def n_bytes(self) -> int:
        """How large the file is."""
        return self._file.n_bytes

    def write(self, groups: Iterator[tuple[Any, list[Any]]], pair_bytes: int) -> None:
        """Write a run.

        Parameters
        ----------
        groups : iterator of (key, list of values)
            Sorted by key.
        pair_bytes : int
            What a pair is taken to need in memory; sets the size of a chunk.
        """
        least, most = _PAIRS if pair_bytes < 1 << 12 else (1, 32)
        chunk_pairs = max(least, min(most, self._chunk_bytes // max(1, pair_bytes)))
        chunks: list[_Chunk] = []
        keys: list[Any] = []
        values: list[Any] = []
        for key, some in groups:
            for start in range(0, len(some), chunk_pairs):
                piece = some[start : start + chunk_pairs]
                keys += [key] * len(piece)
                values += piece
                if len(keys) >= chunk_pairs:
                    chunks.append(self._write_chunk(keys, values))
                    keys, values = [], []
        if keys:
            chunks.append(self._write_chunk(keys, values))
        self._runs.append(chunks)

    def _write_chunk(self, keys: list[Any], values: list[Any]) -> _Chunk:
        self._kinds |= set(map(type, keys))
        data = encode_batch(Batch(keys, values), trusted=self._trusted)
        chunk = _Chunk(self._file.n_bytes, len(data))
        self._file.write(data)
        return chunk

    def merged(self) -> Iterator[list[Batch] | tuple[Any, Iterator[Any]]]:
        """Merge all runs.

        Yields
        ------
        list of Batch
            All pairs of some keys, as `pairs.group` wants them.
        (key, iterator of values)
            One key. The next step drains what of it was not read.
        """
        plain = len(self._kinds) == 1 and self._kinds <= {bytes, str, int, float}
        compare: Callable[[Any], Any] = _as_it_is if plain else encode
        readers = [
            _RunReader(self._file, run, compare, trusted=self._trusted) for run in self._runs
        ]
        while readers := [reader for reader in readers if reader.fill()]:
            bound = min(reader.last for reader in readers)
            below = [reader.take_below(bound) for reader in readers]
            keys = [key for some, _ in below for key in some]
            values = [value for _, some in below for value in some]
            if keys:
                yield into_lanes(keys, values)
            key = next(r.key() for r in readers if r.has(bound))
            rest = _values_of(readers, bound)
            yield key, rest
            for _ in rest:
                pass

    def __enter__(self) -> SortedRuns:
        self._file.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._file.__exit__(*error)
        self._file.remove()

    def discard(self) -> None:
        """Give the space back; the runs cannot be read any more."""
        self._runs.clear()
        self._file.empty()


def _as_it_is(key: Any) -> Any:
    return key


def _values_of(readers: list[_RunReader], bound: Any) -> Iterator[Any]:
    for reader in readers:
        yield from reader.values_of(bound)


class _RunReader:
    """Reads one run chunk by chunk."""

    def __init__(
        self, file: NewFile, run: list[_Chunk], compare: Callable[[Any], Any], *, trusted: bool
    ) -> None:
        self._file = file
        self._chunks = iter(run)
        self._compare = compare
        self._trusted = trusted
        self._keys: list[Any] = []
        self._sort_keys: list[Any] = []
        self._values: list[Any] = []
        self._position = 0

    @property
    def last(self) -> Any:
        """What compares as the last key of the chunk in memory does."""
        return self._sort_keys[-1]

    def fill(self) -> bool:
        """Read the next chunk if this one is used up; tell whether there is anything left."""
        if self._position < len(self._keys):
            return True
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        data = self._file.read(chunk.offset, chunk.n_bytes)
        batch = next(decode_batches(memoryview(data), trusted=self._trusted))[0]
        self._keys = batch.key_list()
        self._values = batch.value_list()
        self._sort_keys = list(map(self._compare, self._keys))
        self._position = 0
        return True

    def take_below(self, bound: Any) -> tuple[list[Any], list[Any]]:
        """Take the pairs of this chunk whose keys come before the bound."""
        start = self._position
        self._position = stop = bisect_left(self._sort_keys, bound, start)
        return self._keys[start:stop], self._values[start:stop]

    def has(self, bound: Any) -> bool:
        """Tell whether the next key is the one at the bound."""
        return self._position < len(self._keys) and bool(self._sort_keys[self._position] == bound)

    def key(self) -> Any:
        """Return the next key."""
        return self._keys[self._position]

    def values_of(self, bound: Any) -> Iterator[Any]:
        """Take the values of the key at the bound, also from the chunks that follow."""
        while self.fill() and self.has(bound):
            start = self._position
            self._position = stop = bisect_right(self._sort_keys, bound, start)
            yield from self._values[start:stop]
