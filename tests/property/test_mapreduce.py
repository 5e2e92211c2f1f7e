"""Counting is exact: any bytes, cut, memory and schedule, against `collections.Counter`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paramserver.mapreduce import MapReduce
from paramserver.testing.inline import InlineCluster

PIECES = st.one_of(
    st.sampled_from([b"the ", b"The\n", b"of\t", b"\n", b"  ", b"\x00", b"\xff ", b"\x1c\x85\xa0"]),
    st.binary(max_size=30),
    st.integers(1, 400).map(lambda n: b"w%d " % n * 3),
)
FILES = st.lists(st.lists(PIECES, max_size=60).map(b"".join), min_size=1, max_size=3)


def count_words(block: bytes) -> Counter[bytes]:
    return Counter(block.lower().split())


def words_one_by_one(block: bytes) -> Iterator[tuple[bytes, int]]:
    for word in block.lower().split():
        yield word, 1


def as_text(block: bytes) -> Iterator[tuple[str, int]]:
    for word in block.lower().split():
        yield word.decode("latin-1"), 1


def add(key: Any, values: Any) -> int:
    return sum(values)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("texts")


@given(
    contents=FILES,
    mapper=st.sampled_from([count_words, words_one_by_one, as_text]),
    reducer=st.sampled_from([sum, add]),
    combiner=st.sampled_from([None, sum, add]),
    unit=st.sampled_from(["lines", "line", "words"]),
    n_map=st.integers(1, 12),
    n_reduce=st.integers(1, 9),
    memory_limit_bytes=st.sampled_from([1 << 16, 1 << 20]),
    block_bytes=st.integers(1, 200),
    seed=st.integers(0, 1000),
    trouble=st.sampled_from([0.0, 0.5]),
)
@settings(max_examples=60)
def test_a_word_count_equals_the_counter(
    folder: Path,
    contents: list[bytes],
    mapper: Any,
    reducer: Any,
    combiner: Any,
    unit: Any,
    n_map: int,
    n_reduce: int,
    memory_limit_bytes: int,
    block_bytes: int,
    seed: int,
    trouble: float,
) -> None:
    wanted: Counter[Any] = Counter()
    for number, data in enumerate(contents):
        (folder / f"{number}.txt").write_bytes(data)
        for word in data.lower().split():
            wanted[word.decode("latin-1") if mapper is as_text else word] += 1
    names = [folder / f"{number}.txt" for number in range(len(contents))]
    with InlineCluster(seed, duplicates=trouble, losses=trouble) as cluster:
        result = MapReduce(mapper, reducer, combiner, unit=unit).run(
            names, cluster, n_map, n_reduce,
            memory_limit_bytes=memory_limit_bytes, block_bytes=block_bytes,
        )  # fmt: skip
        assert os.listdir(cluster.scratch_folder) == []
    assert result == wanted
    assert result.counters["groups"] == len(wanted)


@given(
    items=st.lists(st.tuples(st.sampled_from("abcdefgh"), st.floats(-1e9, 1e9)), max_size=400),
    n_map=st.integers(1, 5),
    seeds=st.tuples(st.integers(0, 1000), st.integers(0, 1000)),
)
@settings(max_examples=30)
def test_sums_of_floats_are_the_same_to_the_last_bit_for_any_schedule(
    items: list[tuple[str, float]], n_map: int, seeds: tuple[int, int]
) -> None:
    results = []
    for seed in seeds:
        with InlineCluster(seed, duplicates=0.5, losses=0.3) as cluster:
            program = MapReduce(lambda pair: [pair], sum, unit="item")
            result = program.run(items, cluster, n_map, 3)
        results.append([(key, value.hex()) for key, value in result.pairs()])
    assert results[0] == results[1]


@pytest.mark.parametrize("mapper", [count_words, words_one_by_one])
@pytest.mark.parametrize("reducer", [sum, add])
def test_little_memory_forces_spills_on_both_sides_and_changes_nothing(
    folder: Path, mapper: Any, reducer: Any
) -> None:
    data = b" ".join(b"%d" % (n * 7919 % 30_011) for n in range(60_000))
    path = folder / "many.txt"
    path.write_bytes(data)
    results = []
    for limit in (1 << 16, 1 << 28):
        with InlineCluster(0) as cluster:
            program = MapReduce(mapper, reducer, unit="words")
            options = {"memory_limit_bytes": limit, "block_bytes": 4096}
            results.append(program.run(path, cluster, 3, 2, **options))
    small, large = results
    assert small == Counter(data.split())
    assert list(small.pairs()) == list(large.pairs())
    assert small.counters["spilled_segments"] > 3
    assert small.counters["spilled_runs"] > 3
    assert large.counters["spilled_segments"] == large.counters["spilled_runs"] == 0
