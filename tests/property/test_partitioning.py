"""However rows are cut into partitions: each row is in one of them, and shares are fair."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from paramserver.training.partitioning import cut

labels = st.lists(st.integers(-3, 9), min_size=1, max_size=200).map(np.array)


@given(labels, st.integers(1, 9), st.sampled_from(["shuffled", "contiguous", "stratified"]),
       st.integers(0, 99))  # fmt: skip
def test_every_row_is_in_one_partition_and_sizes_differ_by_one(
    y: np.ndarray, p: int, scheme: str, seed: int
) -> None:
    p = min(p, len(y))
    parts = cut(y, p, scheme, seed)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(y)))
    sizes = [len(part) for part in parts]
    assert len(sizes) == p
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) > 0


@given(labels, st.integers(1, 9), st.integers(0, 99))
def test_the_shares_of_a_label_differ_by_one_row_at_most(y: np.ndarray, p: int, seed: int) -> None:
    parts = cut(y, min(p, len(y)), "stratified", seed)
    for label in np.unique(y):
        shares = [np.count_nonzero(y[part] == label) for part in parts]
        assert max(shares) - min(shares) <= 1


@given(labels, st.integers(1, 9))
def test_a_key_is_in_one_partition_and_the_largest_is_near_the_best(
    keys: np.ndarray, p: int
) -> None:
    _, counts = np.unique(keys, return_counts=True)
    p = min(p, len(counts))
    parts = cut(np.zeros(len(keys)), p, keys, 0)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(keys)))
    assert min(len(part) for part in parts) > 0
    homes = [set(keys[part].tolist()) for part in parts]
    assert sum(map(len, homes)) == len(counts)
    # Graham's bound, against the best that any cut could reach.
    best = max(counts.max(), -(-len(keys) // p))
    assert max(len(part) for part in parts) <= best + counts.max() * (1 - 1 / p)
