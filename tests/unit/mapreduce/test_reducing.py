"""A part reduced in memory and by sorted runs: the same results in the same order."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramserver.mapreduce.folding import Fold
from paramserver.mapreduce.keys import encode
from paramserver.mapreduce.pairs import Batch, into_lanes
from paramserver.mapreduce.reducing import PartReducer
from paramserver.mapreduce.runs import FAN_IN, SortedRuns

KEYS = st.one_of(
    st.sampled_from([b"a", b"b", "a", b"l" * 30, 1, 2.5, None, (1, "x")]), st.integers()
)
VALUES = st.one_of(st.integers(-9, 9), st.integers(1 << 61, 1 << 64), st.floats(-9, 9))


def join(key: Any, values: Iterator[Any]) -> str:
    return ",".join(map(str, values))


def twice(key: Any, values: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
    yield key, next(iter(values))
    yield key, "end"


def reduce(
    folder: Path, fold: Fold, stretches: list[list[tuple[Any, Any]]], limit: int
) -> tuple[list[tuple[Any, Any]], PartReducer]:
    engine = PartReducer(fold, str(folder), "runs", limit, trusted=True)
    batches = [
        batch
        for pairs in stretches
        for batch in into_lanes([key for key, _ in pairs], [value for _, value in pairs])
    ]
    results: list[Batch] = list(engine.reduce(iter(batches)))
    pairs = [
        pair
        for batch in results
        for pair in zip(
            batch.key_list(),
            batch.value_list(),
            strict=True,
        )
    ]
    return pairs, engine


def expected(fold: Any, stretches: list[list[tuple[Any, Any]]]) -> list[tuple[Any, Any]]:
    groups: dict[Any, list[Any]] = {}
    for pairs in stretches:
        for key, value in pairs:
            groups.setdefault(key, []).append(value)
    return [(key, fold(groups[key])) for key in sorted(groups, key=encode)]


@pytest.mark.parametrize("fold", ["sum", "min", "max", "len"])
@given(
    stretches=st.lists(st.lists(st.tuples(KEYS, VALUES))), limit=st.sampled_from([1, 900, 1 << 20])
)
def test_builtins_give_what_they_give_on_lists(
    tmp_path_factory: pytest.TempPathFactory,
    fold: str,
    stretches: list[list[tuple[Any, Any]]],
    limit: int,
) -> None:
    builtin = {"sum": sum, "min": min, "max": max, "len": len}[fold]
    found, engine = reduce(tmp_path_factory.mktemp("runs"), fold, stretches, limit)
    wanted = expected(builtin, stretches)
    assert repr(found) == repr(wanted)
    assert engine.n_groups == len(wanted)
    assert engine.n_pairs == sum(map(len, stretches))


@given(
    stretches=st.lists(st.lists(st.tuples(KEYS, VALUES))), limit=st.sampled_from([1, 900, 1 << 20])
)
def test_functions_see_the_values_in_the_order_of_the_input(
    tmp_path_factory: pytest.TempPathFactory,
    stretches: list[list[tuple[Any, Any]]],
    limit: int,
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    found, _ = reduce(folder, join, stretches, limit)
    assert repr(found) == repr(expected(lambda values: join(None, values), stretches))
    assert os.listdir(folder) == []


@pytest.mark.parametrize("limit", [1, 1 << 20])
def test_a_reducer_may_leave_values_unread_and_yield_more_than_one_pair(
    tmp_path: Path, limit: int
) -> None:
    stretches = [[(b"a", 1), (b"b", 2), (b"a", 3)], [(b"a", 4), (b"c", 5)]]
    found, _ = reduce(tmp_path, twice, stretches, limit)
    assert found == [
        (b"a", 1), (b"a", "end"), (b"b", 2), (b"b", "end"), (b"c", 5), (b"c", "end"),
    ]  # fmt: skip


@pytest.mark.parametrize("limit", [1, 1 << 20])
def test_none_stands_for_no_result(tmp_path: Path, limit: int) -> None:
    found, engine = reduce(
        tmp_path, lambda key, values: key if sum(values) > 2 else None, [[(1, 1), (2, 3)]], limit
    )
    assert found == [(2, 2)]
    assert engine.n_groups == 2


def test_the_values_of_one_key_are_streamed_when_they_are_too_many(tmp_path: Path) -> None:
    """A hot key spread over many runs: the reducer gets an iterator, never a list of all."""
    held: list[type] = []

    def count(key: Any, values: Any) -> int:
        held.append(type(values))
        return sum(1 for _ in values)

    stretches = [[("hot", "x" * 100)] * 500 for _ in range(40)]
    found, engine = reduce(tmp_path, count, stretches, 600_000)
    assert found == [("hot", 20_000)]
    assert engine.n_runs > 5
    assert list not in held


def test_ints_are_folded_early_and_then_need_no_runs(tmp_path: Path) -> None:
    stretches = [[(b"%d" % (n % 10), 1) for n in range(1000)] for _ in range(50)]
    found, engine = reduce(tmp_path, "sum", stretches, 600_000)
    assert found == [(b"%d" % n, 5000) for n in range(10)]
    assert engine.n_runs == 0


@pytest.mark.parametrize("fold", ["sum", join])
def test_memory_stays_within_its_limit(tmp_path: Path, fold: Fold) -> None:
    """As Python and numpy count it; all pairs at once would need five times as much."""
    limit = 4 << 20
    engine = PartReducer(fold, str(tmp_path), "runs", limit, trusted=True)

    def batches() -> Iterator[Batch]:
        for n in range(120):
            keys = [b"%d" % (n * 997 + m * 31) for m in range(1000)]
            yield from into_lanes(keys, list(range(1000)))

    tracemalloc.start()
    try:
        n_results = sum(len(batch.value_list()) for batch in engine.reduce(batches()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert engine.n_runs >= 3
    assert n_results == engine.n_groups > 50_000
    assert peak < limit


def test_runs_are_removed_when_a_reducer_fails(tmp_path: Path) -> None:
    def fail(key: Any, values: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        reduce(tmp_path, fail, [[(n, n) for n in range(100)]] * 5, 1000)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("pair_bytes", [1, 100, 1 << 20])
def test_runs_are_merged_whatever_the_size_of_a_chunk(tmp_path: Path, pair_bytes: int) -> None:
    with SortedRuns(str(tmp_path), "runs", 1 << 20, trusted=True) as runs:
        for run in range(4):
            runs.write(((n, [run] * 3) for n in range(run, 50, 2)), pair_bytes)
        steps: list[list[tuple[Any, Any]]] = []
        for merged in runs.merged():
            if isinstance(merged, list):
                steps.append(
                    [p for b in merged for p in zip(b.key_list(), b.value_list(), strict=True)]
                )
            else:
                steps.append([(merged[0], value) for value in merged[1]])
    found = [pair for step in steps for pair in step]
    assert sorted(found) == sorted((n, r) for r in range(4) for n in range(r, 50, 2) for _ in "123")
    for n in range(50):
        values = [r for key, r in found if key == n]
        assert values == sorted(values), "runs are not in their order"
    for one, next_one in pairwise(steps):
        assert max(one)[0] < min(next_one)[0], "a step goes back"


def test_very_many_runs_are_merged_on_the_way_and_nothing_changes(tmp_path: Path) -> None:
    stretches = [[(n % 7, n), ("hot", n), (b"%d" % n, n)] for n in range(3 * FAN_IN)]
    found, engine = reduce(tmp_path, join, stretches, 1)
    assert engine.n_runs > 3 * FAN_IN
    assert found == expected(lambda values: join(None, values), stretches)
    assert os.listdir(tmp_path) == []
