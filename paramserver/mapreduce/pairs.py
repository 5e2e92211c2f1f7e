"""Batches of (key, value) pairs, and the grouping of them by key.

Rule 1: pairs run in three lanes, by key: words as bytes, words as text, everything else (a word is
        a key of at most 16 bytes, see `words`). Equal keys are always in the same lane, so a lane
        can be grouped without a look at the others.
Rule 2: the values of a key stay in the order in which they came.
Rule 3: groups come out sorted by key, in the order of `keys`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import count
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from paramserver.mapreduce import words as _words
from paramserver.mapreduce.keys import order_key, refusal, stable_hashes
from paramserver.mapreduce.words import Indices, Words, pack

Ints: TypeAlias = npt.NDArray[np.int64]
Values: TypeAlias = Ints | list[Any]
"""A column of values: an array where all are ints of 64 bits, else a list."""


class Batch(NamedTuple):
    """Pairs of one lane: two columns of the same length."""

    keys: Words | list[Any]
    values: Values

    @property
    def lane(self) -> str:
        """Which of the three lanes it belongs to: ``bytes``, ``text`` or ``other``."""
        if isinstance(self.keys, list):
            return "other"
        return "text" if self.keys.is_text else "bytes"

    def key_list(self) -> list[Any]:
        """Return the keys as Python objects."""
        return self.keys if isinstance(self.keys, list) else self.keys.to_list()

    def value_list(self) -> list[Any]:
        """Return the values as Python objects."""
        return self.values if isinstance(self.values, list) else self.values.tolist()

    def hashes(self) -> npt.NDArray[np.uint64]:
        """Return `keys.stable_hash` of each key."""
        return stable_hashes(self.keys) if isinstance(self.keys, list) else self.keys.hashes()

    def take(self, indices: Indices) -> Batch:
        """Return the pairs at these positions."""
        return Batch(take_keys(self.keys, indices), take_values(self.values, indices))


class Groups(NamedTuple):
    """Pairs by key.

    Attributes
    ----------
    keys : Words or list
        Each different key once, sorted.
    starts, stops : ndarray of int
        Of each key: where its values begin and end.
    values : Values
    """

    keys: Words | list[Any]
    starts: Indices
    stops: Indices
    values: Values


# --- columns -------------------------------------------------------------------------------------


def n_keys(keys: Words | list[Any]) -> int:
    """Return the length of a column of keys."""
    return len(keys) if isinstance(keys, list) else len(keys.head)


def take_keys(keys: Words | list[Any], indices: Indices) -> Words | list[Any]:
    """Return the keys at these positions."""
    return _take(keys, indices) if isinstance(keys, list) else keys.take(indices)


def take_values(values: Values, indices: Indices) -> Values:
    """Return the values at these positions."""
    return _take(values, indices) if isinstance(values, list) else values.take(indices)


def _take(items: list[Any], indices: Indices) -> list[Any]:
    if len(indices) < 2:  # itemgetter would not return a tuple
        return [items[i] for i in indices.tolist()]
    return list(itemgetter(*indices.tolist())(items))


def value_column(values: list[Any], *, ints_will_do: bool = False) -> Values:
    """Return a list of values as a column.

    Parameters
    ----------
    values : list
    ints_will_do : bool, default False
        The values will only be added: True and numpy integers may become the ints they stand for.
    """
    if ints_will_do or set(map(type, values)) == {int}:
        from array import array

        try:
            return np.frombuffer(array("q", values), np.int64)  # refuses floats; fromiter rounds
        except (TypeError, OverflowError):
            pass
    return values


def concatenated(batches: Sequence[Batch]) -> Batch:
    """Return batches of one lane as one."""
    if len(batches) == 1:
        return batches[0]
    columns = [batch.keys for batch in batches]
    keys: Words | list[Any]
    if isinstance(columns[0], list):
        keys = [key for column in columns for key in column]
    else:
        keys = Words.concatenated(columns)  # type: ignore[arg-type]
    return Batch(keys, concatenated_values([batch.values for batch in batches]))


def concatenated_values(columns: Sequence[Values]) -> Values:
    """Return columns of values as one."""
    if any(isinstance(column, list) for column in columns):
        values: list[Any] = []
        for column in columns:
            values.extend(column if isinstance(column, list) else column.tolist())
        return values
    return np.concatenate(columns)


# --- lanes ---------------------------------------------------------------------------------------


def into_lanes(keys: list[Any], values: list[Any], *, ints_will_do: bool = False) -> list[Batch]:
    """Sort pairs into lanes; within each they stay in order.

    Parameters
    ----------
    keys, values : list
        Of the same length.
    ints_will_do : bool, default False
        See `value_column`.

    Raises
    ------
    DataError
        If something cannot be a key.
    """
    if not keys:
        return []
    column = value_column(values, ints_will_do=ints_will_do)
    packed = pack(keys)
    if packed is None:
        return _by_type(keys, column)
    if packed.places is None:
        return [Batch(packed.words, column)]
    places = packed.places
    is_other = np.ones(len(keys), bool)
    is_other[places] = False
    rest = np.flatnonzero(is_other)
    batches = [Batch(_take(keys, rest), take_values(column, rest))]
    if len(places):
        batches.append(Batch(packed.words, take_values(column, places)))
    return batches


def _by_type(keys: list[Any], values: Values) -> list[Batch]:
    if not any(issubclass(kind, (bytes, str, np.generic)) for kind in set(map(type, keys))):
        return [Batch(keys, values)]
    places: defaultdict[int, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        places[1 if isinstance(key, bytes) else 2 if isinstance(key, str) else 0].append(i)
    batches: list[Batch] = []
    for kind, chosen in places.items():
        indices = np.array(chosen, np.intp)
        some, column = _take(keys, indices), take_values(values, indices)
        if kind == 0:
            plain = [key.item() if isinstance(key, np.generic) else key for key in some]
            batches.append(Batch(plain, column))
            continue
        empty: Any = b"" if kind == 1 else ""
        exact = [
            empty.join((key,)) for key in some
        ]  # of subclasses, numpy's for one: what they hold
        batches += into_lanes(exact, column if isinstance(column, list) else column.tolist())
    return batches


# --- groups --------------------------------------------------------------------------------------


def group(batch: Batch, *, in_order: bool) -> Groups:
    """Group the pairs of a batch.

    Parameters
    ----------
    batch : Batch
    in_order : bool
        Keep the values of each key in their order; without it words are grouped faster.

    Raises
    ------
    DataError
        If something cannot be a key.
    """
    if isinstance(batch.keys, list):
        return _group_objects(batch.keys, batch.values)
    order = _words.sort_order(batch.keys)
    keys = batch.keys.take(order)
    starts = _words.first_of_each(keys)
    if in_order and len(starts) < len(order):
        order = _words.in_input_order(order, starts)
    stops = np.append(starts[1:], len(order))
    return Groups(keys.take(starts), starts, stops, take_values(batch.values, order))


def _group_objects(keys: list[Any], values: Values) -> Groups:
    numbers: defaultdict[Any, int] = defaultdict(count().__next__)  # a new key gets the next one
    try:
        ids = np.fromiter(map(numbers.__getitem__, keys), np.intp, len(keys))
    except TypeError:
        raise refusal(next(key for key in keys if not _is_hashable(key))) from None
    different = list(numbers)
    encode = order_key(different)
    sort_keys = different if encode is None else list(map(encode, different))
    in_order = sorted(range(len(different)), key=sort_keys.__getitem__)
    rank = np.empty(len(different), np.uint16 if len(different) < 1 << 16 else np.int64)
    rank[in_order] = np.arange(len(different))
    ranks = rank.take(ids)  # of 16 bits where possible: numpy sorts those by counting
    order = np.argsort(ranks, kind="stable")
    stops = np.cumsum(np.bincount(ranks, minlength=len(different)))
    starts = np.append(np.zeros(1, stops.dtype), stops[:-1])
    return Groups([different[i] for i in in_order], starts, stops, take_values(values, order))


def _is_hashable(key: Any) -> bool:
    try:
        hash(key)
    except TypeError:
        return False
    return True


def merged_order(columns: Sequence[list[Any]]) -> tuple[list[Any], list[int]]:
    """Merge sorted columns of different keys.

    Returns
    -------
    keys : list
        All keys, one column after the other.
    order : list of int
        Their positions in sorted order.
    """
    keys = [key for column in columns for key in column]
    encode = order_key(keys)
    sort_keys = keys if encode is None else list(map(encode, keys))
    return keys, sorted(range(len(keys)), key=sort_keys.__getitem__)  # finds the sorted runs


def by_lane(batches: Iterable[Batch]) -> list[Batch]:
    """Return the pairs as one batch a lane; within each they stay in order."""
    lanes: dict[str, list[Batch]] = {}
    for batch in batches:
        lanes.setdefault(batch.lane, []).append(batch)
    return [concatenated(lane) for lane in lanes.values()]


class Lanes:
    """Pairs being gathered.

    Attributes
    ----------
    n_pairs : int
    n_bytes : int
        What they are taken to need in memory.
    """

    def __init__(self) -> None:
        self._batches: list[Batch] = []
        self.n_pairs = 0
        self.n_bytes = 0

    def add(self, batch: Batch, n_bytes: int) -> None:
        """Add pairs that need about so many bytes."""
        self._batches.append(batch)
        self.n_pairs += n_keys(batch.keys)
        self.n_bytes += n_bytes

    def take_all(self) -> list[Batch]:
        """Return what was gathered, one batch a lane, and be empty again."""
        found = by_lane(self._batches)
        self._batches = []
        self.n_pairs = self.n_bytes = 0
        return found

    def extend(self, batches: Iterable[Batch]) -> None:
        """Add pairs; their need of memory is estimated."""
        for batch in batches:
            self.add(batch, needed_bytes(batch))


def needed_bytes(batch: Batch) -> int:
    """Estimate what the pairs need in memory while they are grouped, from a sample."""
    n = n_keys(batch.keys)
    total = 64 * n  # the columns themselves, and those made while sorting
    for column in batch:
        if isinstance(column, list) and column:
            sample = column[:: max(1, len(column) // 64)][:64]
            total += sum(map(size_of, sample)) * n // len(sample)
    return total


def size_of(value: Any, depth: int = 3) -> int:
    """Estimate the bytes that a value needs."""
    nbytes = getattr(value, "nbytes", None)
    if isinstance(nbytes, int):
        return nbytes + 128
    if isinstance(value, (bytes, bytearray, str)):
        return len(value) + 64
    if depth and isinstance(value, (tuple, list, set, frozenset)):
        return 64 + sum(size_of(each, depth - 1) + 8 for each in value)
    if depth and isinstance(value, dict):
        return 256 + sum(
            size_of(k, depth - 1) + size_of(v, depth - 1) + 32 for k, v in value.items()
        )
    return 48
