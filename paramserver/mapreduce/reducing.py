"""A part, reduced: all its pairs grouped by key, in memory or by sorted runs, and folded.

Rule 1: results come sorted by key, and the values of a key in the order of the input, whether the
        part fits into memory or not.
Rule 2: a builtin fold of ints is applied early where that saves memory; no other fold is, so that
        a sum of floats, say, does not depend on the memory limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import Any, Final

import numpy as np

from paramserver.mapreduce.folding import (
    Fold,
    call_fold,
    fold_iterator,
    folded_batches,
    iterate_groups,
    merge_batches,
)
from paramserver.mapreduce.pairs import (
    Batch,
    Groups,
    Lanes,
    by_lane,
    group,
    into_lanes,
    n_keys,
    needed_bytes,
)
from paramserver.mapreduce.runs import FAN_IN, SortedRuns

_RESULTS_AT_A_TIME: Final = 1 << 14
_VALUES_AT_A_TIME: Final = 256
_COPIES: Final = 4
"""While pairs are grouped, and groups written as Python objects, they are there several times
(measured: 2.5 to 3.4 times the limit, before it was divided by this)."""


class PartReducer:
    """Reduces one part.

    Parameters
    ----------
    fold : Fold
    folder : str
        Where runs may be written.
    name : str
        Of their files.
    memory_limit_bytes : int
    trusted : bool
        See `columns`.

    Attributes
    ----------
    n_pairs, n_groups : int
        Pairs that came in, and different keys among them.
    n_runs, run_bytes : int
        Sorted runs that had to be written, and all bytes of them (also of those merged on the way).
    """

    def __init__(
        self, fold: Fold, folder: str, name: str, memory_limit_bytes: int, *, trusted: bool
    ) -> None:
        self._is_len = fold == "len"
        self._fold: Fold = "sum" if self._is_len else fold
        self._folder = folder
        self._name = name
        self._limit = memory_limit_bytes // _COPIES
        self._trusted = trusted
        self.n_pairs = 0
        self.n_groups = 0
        self.n_runs = 0
        self.run_bytes = 0
        self._pair_bytes = 1

    def reduce(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Group and fold all pairs; yield the results, sorted by key over all batches."""
        with ExitStack() as stack:
            runs: SortedRuns | None = None
            lanes = Lanes()
            for batch in batches:
                self.n_pairs += n_keys(batch.keys)
                counted = self._counted(batch) if self._is_len else batch
                lanes.add(counted, needed_bytes(counted))
                if lanes.n_bytes > self._limit and not self._folds_to_half(lanes):
                    runs = runs or stack.enter_context(self._new_runs())
                    self._spill(lanes, runs)
                    if runs.n_runs == FAN_IN:
                        runs = self._merged_into_one(runs, stack.enter_context(self._new_runs()))
            if runs is None:
                yield from self._results(self._grouped(lanes.take_all()))
                return
            if lanes.n_pairs:
                self._spill(lanes, runs)
            for merged in runs.merged():
                if isinstance(merged, list):
                    yield from self._results(self._grouped(merged))
                else:
                    yield from self._result(*merged)

    # --- before the end of the input ------------------------------------------------------------

    def _counted(self, batch: Batch) -> Batch:
        return batch._replace(values=np.ones(n_keys(batch.keys), np.int64))

    def _folds_to_half(self, lanes: Lanes) -> bool:
        """Fold what is there, if that does no harm; tell whether it was worth the while."""
        if not isinstance(self._fold, str):
            return False
        batches = lanes.take_all()
        if not any(isinstance(batch.values, list) for batch in batches):
            batches = folded_batches(self._fold, self._grouped(batches))
        lanes.extend(batches)
        return lanes.n_bytes <= self._limit // 2

    def _new_runs(self) -> SortedRuns:
        return SortedRuns(self._folder, self._name, self._limit, trusted=self._trusted)

    def _spill(self, lanes: Lanes, runs: SortedRuns) -> None:
        self._pair_bytes = max(self._pair_bytes, lanes.n_bytes // lanes.n_pairs)
        before = runs.n_bytes
        runs.write(iterate_groups(self._grouped(lanes.take_all())), self._pair_bytes)
        self.n_runs += 1
        self.run_bytes += runs.n_bytes - before

    def _merged_into_one(self, runs: SortedRuns, merged: SortedRuns) -> SortedRuns:
        """Merge all runs into the first of another file."""
        merged.write(self._groups_of(runs), self._pair_bytes)
        self.run_bytes += merged.n_bytes
        runs.discard()
        return merged

    def _groups_of(self, runs: SortedRuns) -> Iterator[tuple[Any, list[Any]]]:
        for each in runs.merged():
            if isinstance(each, list):
                yield from iterate_groups(self._grouped(each))
            else:
                key, values = each
                while some := list(islice(values, _VALUES_AT_A_TIME)):
                    yield key, some

    def _grouped(self, batches: list[Batch]) -> list[Groups]:
        in_order = not isinstance(self._fold, str)
        return [
            group(batch, in_order=in_order or isinstance(batch.values, list))
            for batch in by_lane(batches)
        ]

    # --- results --------------------------------------------------------------------------------

    def _results(self, lanes: list[Groups]) -> Iterator[Batch]:
        n_groups = sum(len(lane.starts) for lane in lanes)
        self.n_groups += n_groups
        if not n_groups:
            return
        if isinstance(self._fold, str):
            yield merge_batches(folded_batches(self._fold, lanes))
            return
        yield from _in_batches(call_fold(self._fold, iterate_groups(lanes)))

    def _result(self, key: Any, values: Iterator[Any]) -> Iterator[Batch]:
        self.n_groups += 1
        if isinstance(self._fold, str):
            yield from _in_batches(iter([(key, fold_iterator(self._fold, values))]))
            return
        yield from _in_batches(call_fold(self._fold, [(key, values)]))


def _in_batches(pairs: Iterator[tuple[Any, Any]]) -> Iterator[Batch]:
    """Gather pairs into batches, without changing their order."""
    while some := list(islice(pairs, _RESULTS_AT_A_TIME)):
        keys = [key for key, _ in some]
        values = [value for _, value in some]
        lanes = into_lanes(keys, values)
        yield lanes[0] if len(lanes) == 1 else Batch(keys, values)
