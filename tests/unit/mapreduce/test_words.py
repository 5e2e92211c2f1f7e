"""Short strings as columns of integers: nothing is lost, and numpy groups as Python would."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramserver.mapreduce.keys import WORD_BYTES, stable_hash
from paramserver.mapreduce.words import Words, first_of_each, in_input_order, pack, sort_order

LETTERS = st.sampled_from([b"a", b"b", b"\x01", b"\xff", b"abcdefgh", b"\n", b"\0"])
BYTES = st.lists(LETTERS, max_size=4).map(b"".join)
TEXTS = st.text(alphabet="aé漢\n\0\ud800𝄞", max_size=10)


def is_word(key: Any) -> bool:
    data = key if isinstance(key, bytes) else key.encode("utf-8", "surrogatepass")
    return len(data) <= WORD_BYTES and b"\0" not in data


@given(st.one_of(st.lists(BYTES, min_size=1), st.lists(TEXTS, min_size=1)))
def test_words_are_found_and_come_back_as_they_were(keys: list[Any]) -> None:
    packed = pack(keys)
    assert packed is not None
    places = range(len(keys)) if packed.places is None else packed.places.tolist()
    assert list(places) == [i for i, key in enumerate(keys) if is_word(key)]
    words = [keys[i] for i in places]
    assert packed.words.is_text == isinstance(keys[0], str)
    if words:
        assert packed.words.to_list() == words
        assert packed.words.hashes().tolist() == [stable_hash(word) for word in words]


@pytest.mark.parametrize("keys", [[b"a", "a"], ["a", b"a"], [1], [b"a", None], [(b"a",)]])
def test_a_mixture_is_not_packed(keys: list[Any]) -> None:
    assert pack(keys) is None


@given(st.lists(BYTES.filter(is_word), min_size=1))
def test_the_order_is_that_of_the_strings(keys: list[bytes]) -> None:
    packed = pack(keys)
    assert packed is not None
    assert [keys[i] for i in sort_order(packed.words).tolist()] == sorted(keys)


def test_the_order_holds_where_many_share_their_first_bytes() -> None:
    rng = np.random.default_rng(0)
    keys = [
        b"prefix__"[: rng.integers(0, 9)]
        + bytes(rng.integers(97, 100, rng.integers(0, 8)).tolist())
        for _ in range(20_000)
    ]
    packed = pack(keys)
    assert packed is not None
    assert [keys[i] for i in sort_order(packed.words).tolist()] == sorted(keys)


@given(st.lists(BYTES.filter(is_word), min_size=1))
def test_groups_are_those_of_a_dict(keys: list[bytes]) -> None:
    packed = pack(keys)
    assert packed is not None
    order = sort_order(packed.words)
    starts = first_of_each(packed.words.take(order))
    order = in_input_order(order, starts)
    groups = np.split(order, starts[1:])
    expected: dict[bytes, list[int]] = {}
    for i, key in enumerate(keys):
        expected.setdefault(key, []).append(i)
    assert [group.tolist() for group in groups] == [expected[key] for key in sorted(expected)]


@given(st.lists(BYTES.filter(is_word)))
def test_a_column_is_read_back_as_it_was_written(keys: list[bytes]) -> None:
    words = pack(keys).words if keys else Words(*np.zeros((2, 0), np.uint64), False)  # type: ignore[union-attr]
    data = words.dump()
    loaded = Words.load(memoryview(data), len(keys), is_text=False)
    assert loaded.to_list() == keys
    n_long = sum(len(key) >= 8 for key in keys)
    assert len(data) == 8 * (len(keys) + n_long)
