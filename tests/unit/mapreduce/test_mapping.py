"""From what mappers give to batches of pairs."""

from __future__ import annotations

from collections import Counter, UserDict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from paramserver.errors import DataError
from paramserver.mapreduce.folding import Fold
from paramserver.mapreduce.mapping import STRETCH, PairSink
from paramserver.mapreduce.pairs import Batch


class Gatherer:
    """Keeps the pairs of each stretch."""

    def __init__(self, combiner: Fold | None = None, limit: int = 1 << 26) -> None:
        self.stretches: list[list[tuple[Any, Any]]] = []
        self.sink = PairSink(combiner, self.take, limit)

    def take(self, batches: list[Batch]) -> None:
        self.stretches.append(
            [p for b in batches for p in zip(b.key_list(), b.value_list(), strict=True)]
        )

    def pairs(self, *given: Any) -> list[tuple[Any, Any]]:
        for each in given:
            self.sink.add(each)
        self.sink.flush()
        return [pair for stretch in self.stretches for pair in stretch]


def three() -> Iterator[tuple[str, int]]:
    yield "a", 1
    yield "b", 2
    yield "a", 3


@pytest.mark.parametrize(
    "given",
    [{"a": 1, "b": 2}, Counter({"a": 1, "b": 2}), UserDict({"a": 1, "b": 2}),
     [("a", 1), ("b", 2)], [["a", 1], ["b", 2]], (p for p in [("a", 1), ("b", 2)]),
     {"a": 1, "b": 2}.items(), zip("ab", (1, 2), strict=True)],
    ids=lambda given: type(given).__name__,
)  # fmt: skip
def test_mappings_and_iterables_of_pairs_are_taken(given: Any) -> None:
    assert Gatherer().pairs(given) == [("a", 1), ("b", 2)]


def test_none_stands_for_no_pairs() -> None:
    assert Gatherer("sum").pairs(None, [], {}, None) == []


def test_without_a_combiner_every_pair_is_handed_on() -> None:
    assert Gatherer().pairs(three(), {"a": 4}) == [("a", 1), ("b", 2), ("a", 3), ("a", 4)]


def test_pairs_of_a_stretch_are_combined_over_records() -> None:
    assert Gatherer("sum").pairs(three(), {"a": 4}) == [("a", 8), ("b", 2)]
    assert Gatherer("max").pairs(three(), {"a": 4}) == [("a", 4), ("b", 2)]
    assert Gatherer("sum").pairs({"a": 1}, {"a": 2}, {"b": 3}) == [("a", 3), ("b", 3)]


def test_a_combiner_of_the_user_gets_the_values_in_order() -> None:
    def chain(key: str, values: list[Any]) -> str:
        return "".join(map(str, values))

    assert Gatherer(chain).pairs(three(), {"a": 4}) == [("a", "134"), ("b", "2")]


def test_a_combiner_may_yield_pairs() -> None:
    def halves(key: str, values: list[int]) -> Iterator[tuple[str, int]]:
        yield key, values[0]
        yield key, sum(values[1:])

    assert Gatherer(halves).pairs(three()) == [("a", 1), ("a", 3), ("b", 2), ("b", 0)]


def test_many_pairs_are_handed_on_in_stretches() -> None:
    gatherer = Gatherer("sum")
    pairs = gatherer.pairs((n % 3, 1) for n in range(10 * STRETCH))
    assert 9 <= len(gatherer.stretches) <= 12
    totals: Counter[int] = Counter()
    for key, value in pairs:
        totals[key] += value
    assert totals == Counter(n % 3 for n in range(10 * STRETCH))


def test_large_values_make_short_stretches() -> None:
    gatherer = Gatherer(limit=1 << 20)
    gatherer.pairs((n, np.zeros(10_000)) for n in range(300))
    assert max(map(len, gatherer.stretches[1:])) <= 4


def test_a_generator_is_read_no_further_than_memory_allows() -> None:
    """A record with endless pairs does not fill the memory before the first stretch."""
    handed_on: list[int] = []
    sink = PairSink(None, lambda batches: handed_on.append(1), 1 << 20)

    def pairs() -> Iterator[tuple[int, int]]:
        for n in range(100_000):
            assert n < 64 or handed_on
            yield n, n

    sink.add(pairs())


@pytest.mark.parametrize(
    "wrong", ["ab", b"ab", 17, ["ab"], [("a", 1, 2)], [1], [None], [{"a": 1}]], ids=repr
)
def test_what_is_not_pairs_is_refused_in_words(wrong: Any) -> None:
    with pytest.raises(DataError, match=r"mapper must yield \(key, value\) pairs"):
        Gatherer().pairs(wrong)
