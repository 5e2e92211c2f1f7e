"""What a run gives back: the pairs, or the files they are in, and what it took.

Rule 1: a result does not need the cluster any more; it holds its pairs (packed, as they were
        written) or the names of files that stay.
Rule 2: pairs come part by part, in each sorted by key: always the same order for the same input.
"""

from __future__ import annotations

import heapq
from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from functools import cached_property
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from paramserver.errors import ConfigError, DataError
from paramserver.mapreduce.columns import decode_batches
from paramserver.mapreduce.keys import order_key
from paramserver.mapreduce.pairs import Batch, n_keys


class MapReduceResult(Mapping[Any, Any]):
    """The result of `MapReduce.run`. A mapping, where no `out_dir` was given.

    Parameters
    ----------
    parts : sequence of bytes, or None
        The pairs of each part, as `columns` wrote them; None if they are in files.
    paths : sequence of Path
        The files, one for each part.
    counters : dict of str to int
    timings : dict of str to float
    trusted : bool
        See `columns`.

    Attributes
    ----------
    paths : list of Path
        ``part-00000`` and so on; empty without `out_dir`.
    counters : dict of str to int
        ``input_bytes``, ``records`` (calls of the mapper), ``bad_records``, ``map_pairs`` (given by
        the mapper), ``shuffle_pairs`` (left by the combiner), ``shuffle_bytes``, ``groups``
        (different keys), ``results`` (pairs that came out), ``spilled_runs``, ``spilled_bytes``,
        ``map_jobs``, ``reduce_jobs``, ``attempts`` and ``workers_lost``.
    timings : dict of str to float
        Seconds: ``map_s``, ``reduce_s``, ``total_s``.

    Examples
    --------
    >>> from paramserver.testing.inline import InlineCluster
    >>> from paramserver.mapreduce import MapReduce
    >>> with InlineCluster() as cluster:
    ...     program = MapReduce(lambda word: [(len(word), 1)], sum, unit="item")
    ...     lengths = program.run(["to", "be", "or", "not"], cluster, n_map=2, n_reduce=2)
    >>> lengths == {2: 3, 3: 1}
    True
    >>> lengths.most_common(1)
    [(2, 3)]
    """

    def __init__(
        self,
        parts: Sequence[bytes] | None,
        paths: Sequence[Path],
        counters: dict[str, int],
        timings: dict[str, float],
        *,
        trusted: bool,
    ) -> None:
        self._parts = parts
        self._trusted = trusted
        self.paths = list(paths)
        self.counters = counters
        self.timings = timings

    # --- the pairs ------------------------------------------------------------------------------

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        """Yield all (key, value) pairs, also those whose key the reducer has yielded twice."""
        for batch in self._batches():
            yield from zip(batch.key_list(), batch.value_list(), strict=True)

    def most_common(self, n: int | None = None) -> list[tuple[Any, Any]]:
        """Return the `n` pairs with the largest values, like `collections.Counter.most_common`.

        Pairs with equal values are in the order of their keys.
        """
        if n is None:
            found = list(self.pairs())
        else:
            found = [pair for batch in self._batches() for pair in _largest(batch, n)]
        encode = order_key([key for key, _ in found])
        found.sort(key=itemgetter(0) if encode is None else (lambda pair: encode(pair[0])))
        if n is None:
            return sorted(found, key=itemgetter(1), reverse=True)
        return heapq.nlargest(n, found, key=itemgetter(1))

    def total(self) -> Any:
        """Return the sum of all values, like `collections.Counter.total`."""
        return sum(sum(batch.value_list()) for batch in self._batches())

    def keys(self) -> KeysView[Any]:
        """Return the keys."""
        return self._table.keys()

    def values(self) -> ValuesView[Any]:
        """Return the values."""
        return self._table.values()

    def items(self) -> ItemsView[Any, Any]:
        """Return the (key, value) pairs."""
        return self._table.items()

    def __getitem__(self, key: Any) -> Any:
        return self._table[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._table)

    def __len__(self) -> int:
        if self._parts is None:
            return self.counters["results"]
        return len(self._table)

    def __bool__(self) -> bool:
        return self.counters["results"] > 0

    def __repr__(self) -> str:
        where = f"{len(self.paths)} files in {self.paths[0].parent}" if self.paths else "memory"
        seconds = self.timings.get("total_s", 0.0)
        return f"<MapReduceResult: {self.counters['results']:,} pairs in {where}, {seconds:.2f} s>"

    @cached_property
    def _table(self) -> dict[Any, Any]:
        table = dict(self.pairs())
        if len(table) < self.counters["results"]:
            raise DataError(
                f"The reducer has yielded {self.counters['results']:,} pairs with only "
                f"{len(table):,} different keys, so they are no mapping. Use .pairs().", path="",
            )  # fmt: skip
        return table

    def _batches(self) -> Iterator[Batch]:
        if self._parts is None:
            self._refuse()
        return chain.from_iterable(
            (batch for batch, _ in decode_batches(memoryview(part), trusted=self._trusted))
            for part in self._parts
        )

    def _refuse(self) -> NoReturn:
        raise ConfigError(
            "This result is in files (see .paths), since out_dir was given. Read these, or run "
            "without out_dir.", field="out_dir", value=None,
        )  # fmt: skip


def _largest(batch: Batch, n: int) -> Iterator[tuple[Any, Any]]:
    """Yield at least the pairs of a batch that can be among the n largest of all."""
    values = batch.values
    if not isinstance(values, list) and n < n_keys(batch.keys):
        if n < 1:
            return
        smallest = np.partition(values, len(values) - n)[len(values) - n]
        batch = batch.take(np.flatnonzero(values >= smallest))
    yield from zip(batch.key_list(), batch.value_list(), strict=True)
