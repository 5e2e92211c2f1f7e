"""Which rows make a partition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from paramserver.errors import ConfigError, ShapeMismatch
from paramserver.training.partitioning import cut


def lists(parts: Any) -> list[list[int]]:
    return [part.tolist() for part in parts]


def test_contiguous_partitions_take_the_rows_as_they_come() -> None:
    assert lists(cut(np.zeros(7), 3, "contiguous", 0)) == [[0, 1, 2], [3, 4], [5, 6]]


def test_shuffled_partitions_follow_from_the_seed() -> None:
    y = np.zeros(20)
    one, same, other = (cut(y, 3, "shuffled", seed) for seed in (1, 1, 2))
    assert lists(one) == lists(same) != lists(other)
    assert np.array_equal(np.sort(np.concatenate(one)), np.arange(20))
    assert [len(part) for part in one] == [7, 7, 6]


def test_stratified_partitions_share_each_label() -> None:
    y = np.repeat([3, 1, 2], [6, 4, 2])
    parts = cut(y, 2, "stratified", 5)
    assert [np.bincount(y[part]).tolist() for part in parts] == [[0, 2, 1, 3], [0, 2, 1, 3]]
    assert lists(parts) != lists(cut(y, 2, "stratified", 6))


def test_a_key_is_never_cut_in_two_and_the_sizes_are_balanced() -> None:
    keys = np.array(["a"] * 5 + ["b"] * 3 + ["c"] * 2 + ["d"])
    assert lists(cut(np.zeros(11), 2, keys, 0)) == [[0, 1, 2, 3, 4, 10], [5, 6, 7, 8, 9]]


@pytest.mark.parametrize(
    ("n", "p", "scheme", "error", "words"),
    [
        (3, 4, "shuffled", ConfigError, "3 examples cannot be cut into 4 partitions"),
        (3, 2, "random", ConfigError, "no partitioning 'random'. There are: shuffled, contiguous"),
        (3, 2, [1, 2], ShapeMismatch, "one key for each of the 3 rows"),
        (3, 2, [7, 7, 7], ConfigError, "1 different keys"),
    ],
)
def test_what_cannot_be_cut_is_refused(
    n: int, p: int, scheme: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        cut(np.zeros(n), p, scheme, 0)


def test_rows_with_several_numbers_have_no_label_to_stratify_by() -> None:
    with pytest.raises(ConfigError, match="one label a row"):
        cut(np.zeros((4, 2)), 2, "stratified", 0)
