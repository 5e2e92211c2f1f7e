"""Words counted as columns are those that a Counter counts, whatever the bytes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramserver.mapreduce.mapping import PairSink
from paramserver.mapreduce.pairs import Batch
from paramserver.mapreduce.tokens import WordCounts, count_letters, count_words, counted


def counter_of_words(block: bytes) -> Counter[bytes]:
    return Counter(block.lower().split())


def counter_of_letters(block: bytes) -> Counter[bytes]:
    return Counter(re.findall(rb"[a-z]+", block.lower()))


BOTH = pytest.mark.parametrize(
    ("count", "expected"),
    [(count_words, counter_of_words), (count_letters, counter_of_letters)],
    ids=["words", "letters"],
)
Count = Callable[[bytes], Mapping[bytes, int]]

SPACES = b" \t\n\r\x0b\x0c"
LOOKS_LIKE_SPACE = b"\x08\x0e\x1c\x1d\x1e\x1f\x85\xa0"
PIECES = st.sampled_from(
    [bytes([c]) for c in SPACES + LOOKS_LIKE_SPACE + b"aZz@[`{\x7f\x80\xff"]
    + [b"a" * n for n in (7, 8, 9, 15, 16, 17, 40)]
    + [b"the", b"The", b" the ", b"eightabc", b"EIGHTabc ", b"eightabcx"]
)
BLOCKS = st.lists(PIECES, max_size=60).map(b"".join)


@BOTH
@given(block=BLOCKS)
def test_the_counts_are_those_of_a_counter(count: Count, expected: Count, block: bytes) -> None:
    found = count(block)
    assert dict(found) == expected(block)
    assert len(found) == len(expected(block))


@BOTH
@given(block=st.binary(max_size=200))
def test_any_bytes_are_counted(count: Count, expected: Count, block: bytes) -> None:
    assert dict(count(block)) == expected(block)


@BOTH
def test_every_byte_is_in_a_word_or_between_words_as_for_python(
    count: Count, expected: Count
) -> None:
    block = b"".join(b"ab%cab " % byte for byte in range(1, 256))
    assert dict(count(block)) == expected(block)
    assert isinstance(count(block), WordCounts)  # not by a Counter: no zero byte is in it


@pytest.mark.parametrize("n_different", [3, 1000, 60_000])
def test_the_counts_hold_where_many_words_share_a_slot(n_different: int) -> None:
    rng = np.random.default_rng(n_different)
    block = b" ".join(b"%d" % number for number in rng.integers(0, n_different, 200_000))
    assert dict(count_words(block)) == counter_of_words(block)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=50))
def test_integers_are_counted(numbers: list[int]) -> None:
    different, counts = counted(np.array(numbers, np.uint64))
    assert Counter(dict(zip(different.tolist(), counts.tolist(), strict=True))) == Counter(numbers)
    assert len(different) == len(set(numbers))


def test_counts_are_a_mapping() -> None:
    counts = count_words(b"to be or not to be")
    assert counts[b"be"] == 2
    assert b"is" not in counts
    with pytest.raises(KeyError):
        counts[b"is"]
    assert counts == {b"to": 2, b"be": 2, b"or": 1, b"not": 1}
    assert eval(repr(counts), {"WordCounts": dict}) == counts


@pytest.mark.parametrize("combiner", ["sum", lambda key, values: sum(values), None])
def test_a_sink_takes_the_columns_beside_pairs(combiner: object) -> None:
    handed: list[Batch] = []
    sink = PairSink(combiner, handed.extend, 1 << 20)  # type: ignore[arg-type]
    sink.add([(b"be", 1), (b"be", 1)])
    sink.add(count_words(b"to be a_word_of_more_than_sixteen_bytes to"))
    sink.add({b"be": 5})
    sink.flush()
    total: Counter[bytes] = Counter()
    for batch in handed:
        for key, value in zip(batch.key_list(), batch.value_list(), strict=True):
            total[key] += value
    assert total == {b"be": 8, b"to": 2, b"a_word_of_more_than_sixteen_bytes": 1}
    assert sink.n_pairs == 6
