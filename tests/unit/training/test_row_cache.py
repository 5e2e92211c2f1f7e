"""Which rows a worker keeps, and which it lets go."""

from __future__ import annotations

import resource

import numpy as np
import pytest
from scipy.sparse import csr_array

from paramserver.training.learner import Batch
from paramserver.training.row_cache import RowCache, room_here

ROWS_BYTES = 8 * 10 * 3


class Store:
    """Where rows are opened: 10 of 2 features each, larger ones by a factor."""

    def __init__(self, **factors: int) -> None:
        self.opened: list[int] = []
        self.factors = {int(name[1:]): factor for name, factor in factors.items()}

    def open(self, partition: int) -> Batch:
        self.opened.append(partition)
        n = 10 * self.factors.get(partition, 1)
        return Batch(np.full((n, 2), float(partition)), np.zeros(n))


def test_rows_that_are_mapped_are_kept_for_ever() -> None:
    store = Store()
    cache = RowCache(store.open, None)
    for partition in [*range(50), *range(50)]:
        assert cache.get(partition).X[0, 0] == partition
    assert store.opened == list(range(50))


def test_with_room_enough_everything_stays() -> None:
    store = Store()
    cache = RowCache(store.open, 3 * ROWS_BYTES)
    assert cache.get(0) is cache.get(0)
    for partition in (1, 2, 0, 1, 2):
        cache.get(partition)
    assert store.opened == [0, 1, 2]
    assert cache.n_bytes == 3 * ROWS_BYTES


def test_what_was_not_used_for_longest_makes_room() -> None:
    store = Store()
    cache = RowCache(store.open, 3 * ROWS_BYTES)
    for partition in (0, 1, 2, 0, 3):
        cache.get(partition)
    assert [k in cache for k in range(4)] == [True, False, True, True]
    assert (cache.n_bytes, len(cache)) == (3 * ROWS_BYTES, 3)
    cache.get(1)
    assert [k in cache for k in range(4)] == [True, True, False, True]
    assert store.opened == [0, 1, 2, 3, 1]


def test_room_is_made_before_rows_come() -> None:
    store = Store()
    held = []

    def open_rows(partition: int) -> Batch:
        held.append(cache.n_bytes)
        return store.open(partition)

    cache = RowCache(open_rows, 2 * ROWS_BYTES)
    for partition in range(5):
        cache.get(partition)
    assert held == [0, ROWS_BYTES, ROWS_BYTES, ROWS_BYTES, ROWS_BYTES]


def test_what_is_larger_than_the_room_is_held_while_it_is_used() -> None:
    store = Store(_1=10)
    cache = RowCache(store.open, 2 * ROWS_BYTES)
    cache.get(0)
    assert cache.get(1).n == 100
    assert (len(cache), cache.n_bytes) == (1, 10 * ROWS_BYTES)
    cache.get(0)
    assert (len(cache), cache.n_bytes) == (1, ROWS_BYTES)


def test_the_bytes_of_rows_are_those_of_all_their_arrays() -> None:
    weight = np.ones(2, np.float32)
    assert Batch(np.zeros((2, 3)), np.zeros(2), weight).n_bytes == 48 + 16 + 8
    X = csr_array(np.eye(2))
    n = X.data.nbytes + X.indices.nbytes + X.indptr.nbytes
    assert Batch(X, np.zeros(2)).n_bytes == n + 16


def test_the_room_is_a_share_of_what_is_there_for_a_worker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1 << 20, resource.RLIM_INFINITY))
    assert room_here() == 1 << 19
