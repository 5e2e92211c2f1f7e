"""Batches as bytes: what is read is what was written, and what is something else is refused."""

from __future__ import annotations

import struct
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramserver.errors import DataError, RemoteProtocolError
from paramserver.mapreduce.columns import decode_batches, encode_batch
from paramserver.mapreduce.pairs import Batch, into_lanes

PLAIN = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1), st.text(),
              st.floats(allow_nan=False), st.binary()),
    lambda some: st.one_of(st.lists(some, max_size=2), st.lists(some, max_size=2).map(tuple)),
    max_leaves=3,
)  # fmt: skip
KEYS = st.one_of(st.binary(max_size=20), st.text(max_size=20), st.integers(), st.none())


def pairs_in(data: bytes, *, trusted: bool) -> list[tuple[Any, Any]]:
    return [
        pair
        for batch, _ in decode_batches(memoryview(data), trusted=trusted)
        for pair in zip(batch.key_list(), batch.value_list(), strict=True)
    ]


@given(
    st.lists(st.tuples(st.one_of(KEYS.filter(lambda k: not isinstance(k, int)),
                                 st.integers(-99, 99)), PLAIN), min_size=1),
    st.booleans(),
)  # fmt: skip
def test_pairs_come_back_as_they_were(pairs: list[tuple[Any, Any]], trusted: bool) -> None:
    batches = into_lanes([key for key, _ in pairs], [value for _, value in pairs])
    data = b"".join(encode_batch(batch, trusted=trusted) for batch in batches)
    found = pairs_in(data, trusted=trusted)
    assert sorted(map(repr, found)) == sorted(map(repr, pairs))
    sizes = [size for _, size in decode_batches(memoryview(data), trusted=trusted)]
    assert sum(sizes) == len(data)


@pytest.mark.parametrize(
    ("values", "item_bytes"),
    [([0, 127, -128], 1), ([128], 2), ([-129], 2), ([1 << 15], 4), ([1 << 31, 0], 8),
     ([-(1 << 63), (1 << 63) - 1], 8)],
)  # fmt: skip
def test_ints_take_no_more_bytes_than_the_largest_needs(values: list[int], item_bytes: int) -> None:
    batch = Batch([], np.array(values, np.int64))
    (words,) = into_lanes([b"k"] * len(values), values)
    data = encode_batch(words._replace(values=batch.values), trusted=False)
    assert len(data) == 32 + len(values) * (8 + item_bytes)
    assert [value for _, value in pairs_in(data, trusted=False)] == values


def test_arrays_are_values_and_come_back_writable() -> None:
    array = np.arange(2000, dtype=np.float32).reshape(2, -1)
    for trusted in (True, False):
        data = encode_batch(Batch([b"k" * 30], [array]), trusted=trusted)
        (batch, _), *_ = decode_batches(memoryview(data), trusted=trusted)
        (found,) = batch.values
        np.testing.assert_array_equal(found, array)
        found[0, 0] = 7


def test_what_is_not_plain_travels_only_inside_the_trust_domain() -> None:
    batch = Batch([b"k" * 30], [Decimal("1.5")])
    data = encode_batch(batch, trusted=True)
    assert pairs_in(data, trusted=True) == [(b"k" * 30, Decimal("1.5"))]
    with pytest.raises(DataError, match="A value cannot be handed on"):
        encode_batch(batch, trusted=False)
    with pytest.raises(RemoteProtocolError):
        pairs_in(data, trusted=False)


def test_what_cannot_travel_at_all_is_an_error_that_names_it() -> None:
    with pytest.raises(DataError, match="generator"):
        encode_batch(Batch([b"k"], [(n for n in range(3))]), trusted=True)


def _valid() -> bytes:
    (batch,) = into_lanes([b"a", b"abcdefghi"], [1, 2])
    return encode_batch(batch, trusted=False)


@pytest.mark.parametrize(
    "data",
    [
        _valid()[:-1],
        _valid()[:20],
        b"XXXX" + _valid()[4:],
        _valid()[:8] + struct.pack("<Q", 1) + _valid()[16:],
        _valid() + b"\0",
    ],
    ids=["cut off", "cut off in the header", "another magic", "another count", "more behind"],
)
def test_what_is_no_batch_is_refused(data: bytes) -> None:
    with pytest.raises((RemoteProtocolError, ValueError)):
        pairs_in(data, trusted=False)
