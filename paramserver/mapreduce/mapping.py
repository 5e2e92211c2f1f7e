"""From what a mapper gives to batches of pairs, combined while they are still in the cache.

Rule 1: pairs are gathered until there are a few thousand, then combined and handed on. So one
        combiner call sees the pairs of a stretch of the input, as large as the cache likes it; the
        reducer sees what is left. A combiner must not mind.
Rule 2: a mapping (a Counter, say) has different keys already: alone it is not combined.
Rule 3: pairs of a record that failed are never handed on, if bad records are to be skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, Final

from paramserver.errors import DataError
from paramserver.mapreduce.folding import (
    Fold,
    call_fold,
    checked_pair,
    folded_batches,
    iterate_groups,
)
from paramserver.mapreduce.pairs import Batch, by_lane, group, into_lanes, size_of
from paramserver.mapreduce.tokens import WordCounts

STRETCH: Final = 8192
"""Pairs that are handed on together, at least: they fit into the L2 cache, and the fixed cost of
some 0.2 ms a stretch does not show."""
_FIRST_STRETCH: Final = 64
"""Before the size of a pair is known."""
_TUPLES: Final = frozenset({tuple, list})


class PairSink:
    """Takes what mappers give.

    Parameters
    ----------
    combiner : Fold or None
    hand_on : callable
        Gets the batches of each stretch.
    memory_limit_bytes : int
        Pairs that need more than this are handed on, however few they are.
    """

    def __init__(
        self,
        combiner: Fold | None,
        hand_on: Callable[[list[Batch]], None],
        memory_limit_bytes: int,
    ) -> None:
        self._combiner = combiner
        self._hand_on = hand_on
        self._limit = memory_limit_bytes
        self._keys: list[Any] = []
        self._values: list[Any] = []
        self._are_different = True
        self._stretch = _FIRST_STRETCH
        self.n_pairs = 0

    def add(self, given: Any) -> None:
        """Take what a mapper has returned for one record.

        Raises
        ------
        DataError
            If it is neither None nor a mapping nor an iterable of pairs.
        """
        if given is None:
            return
        if isinstance(given, WordCounts):
            self.flush()
            self.n_pairs += len(given)
            self._pass_on(given.batches, are_different=True)
            return
        if isinstance(given, Mapping):
            if self._keys:
                self._are_different = False
                self._keys.extend(given)
                self._values.extend(given.values())
            else:
                self._keys, self._values = list(given), list(given.values())
            if len(self._keys) >= self._stretch:
                self.flush()
            return
        if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
            raise DataError(
                "The mapper must yield (key, value) pairs, or return a mapping or a list of pairs; "
                f"it has returned {given!r:.80}.", path="",
            )  # fmt: skip
        pairs = iter(given)
        while some := list(islice(pairs, self._stretch)):
            self._add_pairs(some)

    def _add_pairs(self, pairs: list[Any]) -> None:
        if not _TUPLES.issuperset(map(type, pairs)) or set(map(len, pairs)) != {2}:
            pairs = [checked_pair(pair, "mapper") for pair in pairs]
        self._are_different = False
        self._keys.extend([key for key, _ in pairs])
        self._values.extend([value for _, value in pairs])
        if len(self._keys) >= self._stretch:
            self.flush()

    def flush(self) -> None:
        """Combine what is there and hand it on."""
        keys, values = self._keys, self._values
        if not keys:
            return
        self.n_pairs += len(keys)
        self._adapt(keys, values)
        self._keys, self._values = [], []
        batches = into_lanes(keys, values, ints_will_do=self._combiner == "sum")
        are_different, self._are_different = self._are_different, True
        self._pass_on(batches, are_different=are_different)

    def _pass_on(self, batches: list[Batch], *, are_different: bool) -> None:
        if self._combiner is not None and not (are_different and self._combiner in _NEUTRAL):
            batches = combine(self._combiner, batches)
        self._hand_on(batches)

    def _adapt(self, keys: list[Any], values: list[Any]) -> None:
        """Make stretches as long as memory allows."""
        step = max(1, len(keys) // 8)
        sample = zip(keys[::step], values[::step], strict=True)
        mean = sum(size_of(key) + size_of(value) for key, value in sample) * step / len(keys)
        self._stretch = max(1, min(STRETCH, int(self._limit / 4 / max(mean, 1.0))))


_NEUTRAL: Final = frozenset({"sum", "min", "max"})
"""Builtins that leave a single value as it is."""


def combine(combiner: Fold, batches: list[Batch]) -> list[Batch]:
    """Apply a combiner to all pairs of each lane.

    Parameters
    ----------
    combiner : Fold
    batches : list of Batch
        In the order of the input; several of one lane are taken as one.
    """
    in_order = not isinstance(combiner, str)
    groups = [
        group(batch, in_order=in_order or isinstance(batch.values, list))
        for batch in by_lane(batches)
    ]
    if isinstance(combiner, str):
        return folded_batches(combiner, groups)
    pairs = list(call_fold(combiner, iterate_groups(groups)))
    return into_lanes([key for key, _ in pairs], [value for _, value in pairs])
