"""A part reduced in memory and by sorted runs: the same results in the same order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramserver.mapreduce.folding import Fold
from paramserver.mapreduce.keys import encode
from paramserver.mapreduce.pairs import Batch, into_lanes
from paramserver.mapreduce.reducing import PartReducer
from paramserver.mapreduce.runs import SortedRuns

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
    found, engine = reduce(tmp_path, count, stretches, 200_000)
    assert found == [("hot", 20_000)]
    assert engine.n_runs > 5
    assert list not in held


def test_ints_are_folded_early_and_then_need_no_runs(tmp_path: Path) -> None:
    stretches = [[(b"%d" % (n % 10), 1) for n in range(1000)] for _ in range(50)]
    found, engine = reduce(tmp_path, "sum", stretches, 200_000)
    assert found == [(b"%d" % n, 5000) for n in range(10)]
    assert engine.n_runs == 0


def test_runs_are_removed_when_a_reducer_fails(tmp_path: Path) -> None:
    def fail(key: Any, values: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        reduce(tmp_path, fail, [[(n, n) for n in range(100)]] * 5, 1000)
    assert os.listdir(tmp_path) == []


def test_runs_are_merged_whatever_the_size_of_a_chunk(tmp_path: Path) -> None:
    with SortedRuns(str(tmp_path), "runs", trusted=True) as runs:
        for run in range(4):
            runs.write(((n, [run] * 3) for n in range(run, 50, 2)), pair_bytes=1 << 19)
        found: list[tuple[Any, Any]] = []
        for merged in runs.merged():
            if isinstance(merged, list):
                for batch in merged:
                    found += zip(batch.key_list(), batch.value_list(), strict=True)
            else:
                found += [(merged[0], value) for value in merged[1]]
    assert sorted(found) == sorted((n, r) for r in range(4) for n in range(r, 50, 2) for _ in "123")
    by_key = {n: [r for k, r in found if k == n] for n in range(50)}
    assert all(values == sorted(values) for values in by_key.values())
    assert [key for key, _ in found if key % 2 == 0] == sorted(k for k, _ in found if k % 2 == 0)


def test_values_of_a_streamed_key_that_were_left_unread_do_not_come_again(tmp_path: Path) -> None:
    stretches = [[("hot", "x" * 200), ("zero", "y")] * 100 for _ in range(10)]
    found, engine = reduce(
        tmp_path, lambda key, values: next(iter(values))[0], stretches, limit=30_000
    )
    assert found == [("hot", "x"), ("zero", "y")]
    assert engine.n_runs > 3


def test_a_sum_of_floats_does_not_depend_on_the_memory_limit(tmp_path: Path) -> None:
    stretches = [[(n % 3, 0.1 * n + 1e9 / (n + 1)) for n in range(50)] for _ in range(30)]
    small, engine = reduce(tmp_path, "sum", stretches, 5000)
    large, _ = reduce(tmp_path, "sum", stretches, 1 << 30)
    assert engine.n_runs > 3
    assert small == large
    early = sum(sum(value for key, value in pairs if key == 0) for pairs in stretches)
    assert dict(large)[0] != early, "this data would not show it"
