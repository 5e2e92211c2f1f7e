"""Rows of a file go to places of their own, however the file is read."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from paramserver.data.places import HELD_OUT, n_held_out, place_rows, sizes
from paramserver.data.scaling import Moments


@given(st.integers(0, 120), st.integers(1, 7), st.integers(0, 9), st.booleans(),
       st.lists(st.integers(0, 120), max_size=5))  # fmt: skip
def test_each_row_has_its_own_place_and_groups_have_no_gaps(
    n: int, p: int, seed: int, hold_out: bool, cuts: list[int]
) -> None:
    n_test = n_held_out(n, seed) if hold_out else 0
    n_train = n - n_test
    bounds = sorted({0, n, *(min(cut, n) for cut in cuts)})
    pieces = [place_rows(a, b - a, p, seed, hold_out=hold_out) for a, b in pairwise(bounds)]
    group = np.concatenate([piece.group for piece in pieces] or [np.zeros(0, int)])
    position = np.concatenate([piece.position for piece in pieces] or [np.zeros(0, int)])
    assert np.count_nonzero(group == -1) == n_test
    for k in range(-1, p):  # in the order of the file, one behind the other
        assert np.array_equal(position[group == k], np.arange(np.count_nonzero(group == k)))
    counts = [np.count_nonzero(group == k) for k in range(p)]
    assert counts == sizes(n_train, p, seed)
    assert max(counts) - min(counts) <= 1
    if hold_out:
        for start in range(0, n - HELD_OUT + 1, HELD_OUT):
            assert np.count_nonzero(group[start : start + HELD_OUT] == -1) == 1


def test_chance_is_fair_to_places_in_a_block_and_to_partitions() -> None:
    found = place_rows(0, 50_000, 4, 7, hold_out=True)
    held_out = np.flatnonzero(found.group == -1) % HELD_OUT
    assert np.bincount(held_out).min() > 1_800  # of 2,000 on average, with deviation 40
    train = found.group[found.group >= 0].reshape(-1, 4)
    for at in range(4):
        assert np.bincount(train[:, at]).min() > 2_250  # of 2,500, with deviation 43
    other = place_rows(0, 50_000, 4, 8, hold_out=True)
    assert np.count_nonzero(other.group == found.group) < 20_000


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
