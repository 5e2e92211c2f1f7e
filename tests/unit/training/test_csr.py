"""Sparse rows as views: the numbers of scipy's slices, and no copies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array, random_array

from paramserver.training.csr import csr_between
from paramserver.training.learner import Batch


def some_rows() -> csr_array:
    X = csr_array(random_array((20, 7), density=0.3, rng=np.random.default_rng(0)))
    X.sum_duplicates()
    return X


@pytest.mark.parametrize(("start", "stop"), [(0, 20), (0, 0), (3, 9), (20, 20), (15, 99)])
def test_rows_between_are_those_of_a_slice(start: int, stop: int) -> None:
    X = some_rows()
    found, expected = csr_between(X, start, stop), X[start:stop]
    assert found.shape == expected.shape
    assert np.array_equal(found.toarray(), expected.toarray())
    assert found.indptr.dtype == X.indptr.dtype


def test_rows_between_share_the_memory_of_the_whole() -> None:
    X = some_rows()
    block = Batch(X, np.arange(20.0)).between(5, 15)
    assert np.shares_memory(block.X.data, X.data)
    assert np.shares_memory(block.X.indices, X.indices)
    assert block.y.tolist() == list(range(5, 15))
