"""Rows of a file go to places of their own, however the file is read."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from paramserver.data.places import HELD_OUT, deal, n_held_out, split_rows
from paramserver.data.scaling import Moments


@given(st.integers(0, 120), st.integers(1, 7), st.integers(0, 9), st.booleans(),
       st.lists(st.integers(0, 120), max_size=5))  # fmt: skip
def test_rows_are_held_out_and_dealt_out_alike_however_a_file_is_cut(
    n: int, p: int, seed: int, hold_out: bool, cuts: list[int]
) -> None:
    n_test = n_held_out(n, seed) if hold_out else 0
    bounds = sorted({0, n, *(min(cut, n) for cut in cuts)})
    pieces = [split_rows(a, b - a, seed, hold_out=hold_out) for a, b in pairwise(bounds)]
    is_train = np.concatenate([piece.is_train for piece in pieces] or [np.zeros(0, bool)])
    number = np.concatenate([piece.number for piece in pieces] or [np.zeros(0, int)])
    assert np.count_nonzero(~is_train) == n_test
    assert np.array_equal(number, np.arange(n - n_test))  # in the order of the file
    dealt = np.concatenate([deal(piece.number, p, seed) for piece in pieces] or [number])
    assert np.array_equal(dealt, deal(np.arange(n - n_test), p, seed))
    for start in range(0, n - n_test - p + 1, p):
        assert np.array_equal(np.sort(dealt[start : start + p]), np.arange(p))
    assert len(np.unique(dealt[(n - n_test) // p * p :])) == (n - n_test) % p
    if hold_out:
        for start in range(0, n - HELD_OUT + 1, HELD_OUT):
            assert np.count_nonzero(~is_train[start : start + HELD_OUT]) == 1


def test_chance_is_fair_to_places_in_a_block_and_to_partitions() -> None:
    is_train, number = split_rows(0, 50_000, 7)
    held_out = np.flatnonzero(~is_train) % HELD_OUT
    assert np.bincount(held_out).min() > 1_800  # of 2,000 on average, with deviation 40
    train = deal(number, 4, 7)
    for at in range(4):
        assert np.bincount(train.reshape(-1, 4)[:, at]).min() > 2_250  # of 2,500, deviation 43
    assert np.count_nonzero(deal(number, 4, 8) == train) < 20_000


columns = st.lists(st.floats(-1e3, 1e3).map(lambda x: x + 1e6), max_size=30)


@given(st.lists(columns, min_size=1, max_size=6))
def test_moments_of_pieces_are_those_of_the_whole(pieces: list[list[float]]) -> None:
    arrays = [np.array(piece).reshape(-1, 1) for piece in pieces]
    whole = np.concatenate(arrays)
    total = Moments.of(arrays[0])
    for array in arrays[1:]:
        total += Moments.of(array)
    assert total.n == len(whole)
    if total.n:
        np.testing.assert_allclose(total.mean, whole.mean(axis=0), rtol=1e-14)
        np.testing.assert_allclose(total.squares / total.n, whole.var(axis=0), rtol=1e-6, atol=1e-9)
