"""What becomes of the values of a key: the user's reducer or combiner, or a builtin at C speed.

Rule 1: the builtins sum, min, max and len stand for reducers of the values alone. They travel by
        name, and where all values are ints of 64 bits numpy does their work with the same result.
Rule 2: any other reducer is called as ``reducer(key, values)`` and *returns* the one value of its
        key (None: nothing) or *yields* (key, value) pairs, as many as it likes.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterable, Iterator
from types import GeneratorType
from typing import Any, Final, TypeAlias

import numpy as np

from paramserver.errors import ConfigError, DataError
from paramserver.mapreduce.pairs import Batch, Groups, Values, merged_order, n_keys

Fold: TypeAlias = str | Callable[[Any, Any], Any]
"""``"sum"``, ``"min"``, ``"max"``, ``"len"``, or a function of (key, values)."""

BUILTINS: Final = {"sum": sum, "min": min, "max": max, "len": len}
_SAFE_SUM: Final = float(1 << 62)


def as_fold(function: Any, what: str) -> Fold:
    """Return a user's reducer or combiner as it travels.

    Raises
    ------
    ConfigError
        If it cannot be called.
    """
    for name, builtin in BUILTINS.items():
        if function is builtin:
            return name
    if not callable(function):
        raise ConfigError(
            f"The {what} must be a function of (key, values) or one of the builtins "
            f"{', '.join(BUILTINS)}; it is {function!r:.80}.", field=what, value=function,
        )  # fmt: skip
    return function  # type: ignore[no-any-return]


def fold_groups(fold: str, groups: Groups) -> Values:
    """Apply a builtin to each group; one value a key, in their order."""
    values, starts, stops = groups.values, groups.starts, groups.stops
    if fold == "len":
        return (stops - starts).astype(np.int64)
    if not isinstance(values, list):
        if not len(starts):
            return values
        if fold == "min":
            return np.minimum.reduceat(values, starts)
        if fold == "max":
            return np.maximum.reduceat(values, starts)
        largest = max(abs(int(values.min())), abs(int(values.max())))
        if largest * float(len(values)) < _SAFE_SUM:
            return np.add.reduceat(values, starts)
        values = values.tolist()  # Python's ints do not overflow
    function: Callable[[list[Any]], Any] = getattr(builtins, fold)
    spans = zip(starts.tolist(), stops.tolist(), strict=True)
    return [function(values[start:stop]) for start, stop in spans]


def fold_iterator(fold: str, values: Iterable[Any]) -> Any:
    """Apply a builtin to the values of one key, of which there may be too many for a list."""
    if fold == "len":
        return sum(1 for _ in values)
    return BUILTINS[fold](values)  # type: ignore[operator]


def call_fold(
    fold: Callable[[Any, Any], Any], groups: Iterable[tuple[Any, Any]]
) -> Iterator[tuple[Any, Any]]:
    """Call a user's function for each (key, values) and yield the pairs that come of it."""
    for key, values in groups:
        result = fold(key, values)
        if type(result) is GeneratorType:
            for pair in result:
                yield checked_pair(pair, "reducer")
        elif result is not None:
            yield key, result


def checked_pair(pair: Any, who: str) -> tuple[Any, Any]:
    """Return what a user's function has yielded, if it is a pair.

    Raises
    ------
    DataError
        If it is anything else than a tuple or list of two.
    """
    if isinstance(pair, (tuple, list)) and len(pair) == 2:
        return pair[0], pair[1]
    raise DataError(
        f"The {who} must yield (key, value) pairs; it has yielded {pair!r:.80}.", path=""
    )


def iterate_groups(lanes: list[Groups]) -> Iterator[tuple[Any, list[Any]]]:
    """Yield (key, list of values) over all lanes, sorted by key."""
    columns = [lane.keys if isinstance(lane.keys, list) else lane.keys.to_list() for lane in lanes]
    values: list[Any] = []
    starts: list[int] = []
    stops: list[int] = []
    for lane in lanes:
        starts += (lane.starts + len(values)).tolist()
        stops += (lane.stops + len(values)).tolist()
        values += lane.values if isinstance(lane.values, list) else lane.values.tolist()
    if len(lanes) == 1:
        for key, start, stop in zip(columns[0], starts, stops, strict=True):
            yield key, values[start:stop]
        return
    keys, order = merged_order(columns)
    for i in order:
        yield keys[i], values[starts[i] : stops[i]]


def folded_batches(fold: str, lanes: list[Groups]) -> list[Batch]:
    """Apply a builtin to all groups of all lanes; one batch a lane, sorted by key."""
    return [Batch(lane.keys, fold_groups(fold, lane)) for lane in lanes if n_keys(lane.keys)]


def merge_batches(batches: list[Batch]) -> Batch:
    """Merge sorted batches with different keys into one of lists; one alone stays as it is."""
    if len(batches) == 1:
        return batches[0]
    keys, order = merged_order([batch.key_list() for batch in batches])
    values = [value for batch in batches for value in batch.value_list()]
    return Batch([keys[i] for i in order], [values[i] for i in order])
