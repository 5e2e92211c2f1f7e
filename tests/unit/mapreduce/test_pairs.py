"""Pairs in lanes, grouped by key: the same groups as a dict of lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramserver.errors import DataError
from paramserver.mapreduce.keys import encode
from paramserver.mapreduce.pairs import (
    Batch,
    Lanes,
    by_lane,
    concatenated,
    group,
    into_lanes,
    merged_order,
    needed_bytes,
    size_of,
    value_column,
)

KEYS = st.one_of(
    st.sampled_from([b"a", "a", b"b" * 20, "b" * 20, b"\0", 1, 1.0, True, 0.5, None, (1, "x")]),
    st.binary(max_size=3), st.text(max_size=3), st.integers(), st.integers(-9, 9).map(np.int64),
    st.binary(max_size=3).map(np.bytes_), st.text(max_size=3).map(np.str_),
)  # fmt: skip
PAIRS = st.lists(st.tuples(KEYS, st.one_of(st.integers(-5, 5), st.text(max_size=2))))


def expected_groups(pairs: list[tuple[Any, Any]]) -> list[tuple[Any, list[Any]]]:
    groups: dict[Any, list[Any]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return sorted(groups.items(), key=lambda item: encode(item[0]))


def groups_of(batch: Batch, *, in_order: bool = True) -> list[tuple[Any, list[Any]]]:
    found = group(batch, in_order=in_order)
    keys = Batch(found.keys, []).key_list()
    values = found.values if isinstance(found.values, list) else found.values.tolist()
    return [
        (key, values[a:b])
        for key, a, b in zip(keys, found.starts.tolist(), found.stops.tolist(), strict=True)
    ]


@given(PAIRS)
def test_lanes_hold_all_pairs_and_their_groups_are_those_of_a_dict(
    pairs: list[tuple[Any, Any]],
) -> None:
    batches = by_lane(into_lanes([key for key, _ in pairs], [value for _, value in pairs]))
    assert len(batches) == len({batch.lane for batch in batches})
    found = [item for batch in batches for item in groups_of(batch)]
    for batch in batches:
        keys = [key for key, _ in groups_of(batch)]
        assert keys == sorted(keys, key=encode)
    assert sorted(found, key=lambda item: encode(item[0])) == expected_groups(pairs)


@given(st.lists(st.tuples(st.sampled_from([b"a", b"bb", b"c" * 9]), st.integers(-9, 9))))
def test_without_order_the_groups_hold_the_same_values(pairs: list[tuple[bytes, int]]) -> None:
    for batch in into_lanes([key for key, _ in pairs], [value for _, value in pairs]):
        loose = [(key, sorted(values)) for key, values in groups_of(batch, in_order=False)]
        assert loose == [(key, sorted(values)) for key, values in groups_of(batch)]


def test_the_first_of_equal_keys_is_kept() -> None:
    (batch,) = into_lanes([True, 1, 1.0, 0.0, 0], [1, 2, 3, 4, 5])
    assert repr(groups_of(batch)) == "[(0.0, [4, 5]), (True, [1, 2, 3])]"


def test_more_than_65536_keys_are_grouped() -> None:
    keys = list(range(70_000)) * 2
    (batch,) = into_lanes(keys, keys)
    assert groups_of(batch) == [(n, [n, n]) for n in range(70_000)]


def test_a_key_that_cannot_be_hashed_is_named() -> None:
    with pytest.raises(DataError, match=r"type list cannot be a key \(\[1\]\)"):
        group(Batch([1, [1]], [0, 0]), in_order=True)


@pytest.mark.parametrize(
    ("values", "is_array"),
    [([1, 2], True), ([1, True], False), ([1, 2.0], False), ([1 << 63], False), ([-1 << 63], True),
     ([np.int64(1)], False), ([None], False), (["a"], False)],
)  # fmt: skip
def test_only_plain_ints_of_64_bits_become_an_array(values: list[Any], is_array: bool) -> None:
    column = value_column(values)
    assert isinstance(column, np.ndarray) == is_array
    assert list(map(type, column if isinstance(column, list) else column.tolist())) == (
        list(map(type, values))
    )


def test_what_will_only_be_added_may_become_ints_but_never_loses_a_fraction() -> None:
    assert value_column([True, np.int64(2)], ints_will_do=True).tolist() == [1, 2]  # type: ignore[union-attr]
    assert value_column([1, 2.5], ints_will_do=True) == [1, 2.5]


def test_columns_of_both_kinds_join_to_a_list() -> None:
    keys = [np.array([1, 2]), ["x"]]
    batches = [Batch([b"k" * 30] * len(values), values) for values in keys]
    assert concatenated(batches).values == [1, 2, "x"]


def test_sorted_columns_are_merged_in_the_order_of_all_types() -> None:
    keys, order = merged_order([[b"a", b"c"], ["b"], [None, 7]])
    assert [keys[i] for i in order] == [None, 7, b"a", b"c", "b"]


def test_lanes_count_what_they_hold_and_are_empty_after_it_was_taken() -> None:
    lanes = Lanes()
    lanes.extend(into_lanes([b"a", 1, b"a"], [1, 2, 3]))
    assert lanes.n_pairs == 3
    assert lanes.n_bytes >= 3 * 64
    assert len(lanes.take_all()) == 2
    assert (lanes.n_pairs, lanes.n_bytes, lanes.take_all()) == (0, 0, [])


def test_large_values_count_as_large() -> None:
    (batch,) = into_lanes([b"a"] * 10, [np.zeros(1000)] * 10)
    assert needed_bytes(batch) > 80_000
    assert size_of({"a": [b"x" * 500, ("y" * 500,)]}) > 1000
    assert size_of(bytearray(100)) > 100
