"""Builtins at C speed give exactly what Python gives; other functions are called by a contract."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramserver.errors import ConfigError, DataError
from paramserver.mapreduce.folding import (
    as_fold,
    call_fold,
    fold_groups,
    fold_iterator,
    iterate_groups,
)
from paramserver.mapreduce.pairs import group, into_lanes

BUILTINS = {"sum": sum, "min": min, "max": max, "len": len}


def mine(key: Any, values: Any) -> Any:
    return key


def test_builtins_travel_by_name_and_functions_as_they_are() -> None:
    assert [as_fold(f, "reducer") for f in (sum, min, max, len, mine)] == [*BUILTINS, mine]


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(ConfigError, match="combiner must be a function") as caught:
        as_fold(17, "combiner")
    assert caught.value.field == "combiner"


@pytest.mark.parametrize("name", BUILTINS)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"a", b"b", b"c"]),
            st.one_of(st.integers(-9, 9), st.integers(-(1 << 63), (1 << 63) - 1), st.integers()),
        ),
        min_size=1,
    )
)
def test_a_builtin_gives_what_it_gives_on_a_list(name: str, pairs: list[tuple[bytes, int]]) -> None:
    """Also where a sum passes 64 bits."""
    (batch,) = into_lanes([key for key, _ in pairs], [value for _, value in pairs])
    found = fold_groups(name, group(batch, in_order=False))
    groups: dict[bytes, list[int]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    wanted = [BUILTINS[name](groups[key]) for key in sorted(groups)]  # type: ignore[operator]
    assert list(map(int, found)) == wanted
    assert fold_iterator(name, iter(groups[pairs[0][0]])) == BUILTINS[name](groups[pairs[0][0]])  # type: ignore[operator]


def test_a_returned_list_is_a_value_and_a_generator_gives_pairs() -> None:
    def returns(key: Any, values: Any) -> Any:
        return [(key, values)]

    def yields(key: Any, values: Any) -> Any:
        yield key, values
        yield [key, 2]

    assert list(call_fold(returns, [("k", [1])])) == [("k", [("k", [1])])]
    assert list(call_fold(yields, [("k", [1])])) == [("k", [1]), ("k", 2)]


@pytest.mark.parametrize("wrong", ["ab", (1, 2, 3), 5, None])
def test_a_reducer_that_yields_no_pairs_is_told_so(wrong: Any) -> None:
    def reducer(key: Any, values: Any) -> Any:
        yield wrong

    with pytest.raises(DataError, match="reducer must yield"):
        list(call_fold(reducer, [("k", [1])]))


def test_groups_of_all_lanes_come_in_one_order() -> None:
    batches = into_lanes([b"b", "a", 3, b"a", "a"], [1, 2, 3, 4, "x"])
    groups = [group(batch, in_order=True) for batch in batches]
    assert list(iterate_groups(groups)) == [(3, [3]), (b"a", [4]), (b"b", [1]), ("a", [2, "x"])]
