"""Equal keys have one hash and one place; the order is Python's where it has one."""

from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from paramserver.errors import DataError
from paramserver.mapreduce.keys import encode, order_key, stable_hash, stable_hashes

NUMBERS = st.one_of(
    st.booleans(), st.integers(), st.integers(-(1 << 70), 1 << 70), st.integers(-3, 3),
    st.sampled_from([1 << 2000, -(1 << 2000)]),  # larger than any float but infinity
    st.floats(allow_nan=False), st.integers(-3, 3).map(float),
)  # fmt: skip
COMPLEX = st.complex_numbers(allow_nan=False, allow_infinity=False)
SCALARS = st.one_of(st.none(), NUMBERS, COMPLEX, st.binary(max_size=40), st.text(max_size=40))
KEYS: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda parts: st.one_of(
        st.lists(parts, max_size=3).map(tuple), st.frozensets(parts, max_size=3)
    ),
    max_leaves=5,
)


@given(KEYS, KEYS)
def test_keys_are_equal_exactly_if_their_codes_are(one: Any, other: Any) -> None:
    assert (encode(one) == encode(other)) == (one == other)
    if one == other:
        assert stable_hash(one) == stable_hash(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0), (1, True), (0, -0.0), (0, False), (1, 1 + 0j), (2**80, float(2**80)),
        ((1, b"a"), (1.0, b"a")), (frozenset({1, "x"}), frozenset({True, "x"})), (5, np.int64(5)),
        (0.5, np.float32(0.5)), ("a", np.str_("a")), (b"a", np.bytes_(b"a")), (-7, np.int8(-7)),
        (complex(0.0, 1.0), complex(-0.0, 1.0)), (complex(1.0, 0.0), complex(1.0, -0.0)),
    ],
)  # fmt: skip
def test_keys_that_python_takes_for_one_are_one(one: Any, other: Any) -> None:
    assert one == other
    assert encode(one) == encode(other)
    assert stable_hash(one) == stable_hash(other)


@given(NUMBERS, NUMBERS)
def test_numbers_are_in_their_order(one: float, other: float) -> None:
    assert (encode(one) < encode(other)) == (one < other)


@given(st.floats(allow_nan=False), st.integers(-5, 5))
def test_neighbours_among_floats_are_in_their_order(number: float, steps: int) -> None:
    near = number
    for _ in range(abs(steps)):
        near = math.nextafter(near, math.inf if steps > 0 else -math.inf)
    assert (encode(near) < encode(number)) == (near < number)


@pytest.mark.parametrize("bits", [1, 7, 8, 15, 16, 17, 24, 31, 33, 40, 52])
@pytest.mark.parametrize("whole", [1, 256, 2**52])
def test_digits_far_behind_count_in_either_sign(whole: int, bits: int) -> None:
    """Zero bytes between the digits, where a code must not end too early."""
    near = whole + Fraction(whole, 2**bits)
    assert float(near) == near
    assert encode(float(whole)) < encode(float(near))
    assert encode(-float(near)) < encode(-float(whole))


@given(st.tuples(NUMBERS, st.binary(), st.text()), st.tuples(NUMBERS, st.binary(), st.text()))
def test_tuples_are_in_their_order(one: Any, other: Any) -> None:
    assert (encode(one) < encode(other)) == (one < other)


@given(st.lists(st.one_of(st.integers(), st.binary(max_size=3)).map(lambda x: (x, x)), min_size=1))
def test_the_fast_order_is_the_same_as_the_order_of_the_codes(keys: list[Any]) -> None:
    key = order_key(keys)
    assert sorted(keys, key=key) == sorted(keys, key=encode)


def test_the_order_of_python_is_used_where_it_is_one() -> None:
    assert order_key([b"a", b"b"]) is None
    assert order_key(["a"]) is None
    assert order_key([1, 2.5, True]) is None
    assert order_key([(b"a", 1), (b"b", 2.5)]) is None
    assert order_key([(b"a",), (b"b", 2)]) is encode
    assert order_key([(None, 1), (None, 2)]) is encode
    assert order_key([frozenset({1}), frozenset({2})]) is encode
    assert order_key([b"a", "a"]) is encode


@pytest.mark.parametrize(
    "key",
    [math.nan, complex(math.nan, 1), np.float64("nan"), [1], {}, bytearray(b"a"), Fraction(1, 2),
     np.zeros(2), object(), (1, [2]), np.datetime64("2024-01-01")],
    ids=repr,
)  # fmt: skip
def test_what_cannot_be_a_key_is_refused_in_words(key: Any) -> None:
    with pytest.raises(DataError, match="cannot be a key"):
        stable_hash(key)


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1))
def test_many_ints_are_hashed_as_one_by_one(keys: list[int]) -> None:
    assert stable_hashes(keys).tolist() == [stable_hash(key) for key in keys]


@given(st.lists(KEYS, min_size=1))
def test_many_keys_are_hashed_as_one_by_one(keys: list[Any]) -> None:
    assert stable_hashes(keys).tolist() == [stable_hash(key) for key in keys]


@pytest.mark.parametrize(
    "keys",
    [
        list(range(60_000)),
        [n * 4096 for n in range(60_000)],
        [n / 8 for n in range(60_000)],
        [str(n) for n in range(60_000)],
        [b"http://www.example.org/page?number=%d" % n for n in range(60_000)],
        [(n % 100, n // 100) for n in range(60_000)],
    ],
    ids=["ints", "multiples", "floats", "text", "long bytes", "tuples"],
)
def test_parts_get_equal_shares_of_regular_keys(keys: list[Any]) -> None:
    counts = np.bincount((stable_hashes(keys) % np.uint64(60)).astype(int), minlength=60)
    assert counts.min() > 800
    assert counts.max() < 1200


@given(KEYS)
def test_a_hash_has_32_bits(key: Any) -> None:
    assert 0 <= stable_hash(key) < 1 << 32


def test_hashes_are_the_same_in_a_process_with_another_hash_seed() -> None:
    program = (
        "from paramserver.mapreduce.keys import stable_hash as h;"
        "print(h('word'), h(b'a long sequence of bytes'), h((1, 'x', None)), h(frozenset('abc')))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, check=True,
            capture_output=True, text=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    here = [stable_hash(key) for key in ("word", b"a long sequence of bytes", (1, "x", None))]
    assert len(outputs) == 1
    assert outputs.pop().split()[:3] == [str(h) for h in here]


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_different_keys_seldom_share_a_hash(one: bytes, other: bytes) -> None:
    assume(one.rstrip(b"\0") != other.rstrip(b"\0"))
    assert stable_hash(one) != stable_hash(other)
