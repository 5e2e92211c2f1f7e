"""Made-up data are what they say, of any size."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from paramserver.data.datasets import LOADERS
from paramserver.data.synthetic import dense, sparse


def test_sparse_rows_are_canonical_and_as_many_as_asked_for() -> None:
    found = sparse(3, n=20_000, n_columns=5_000, n_entries=200_000)
    assert (found.X_train.shape, found.X_test.shape) == ((18_000, 5_000), (2_000, 5_000))
    assert found.X_train.dtype == np.float32
    n_entries = found.X_train.nnz + found.X_test.nnz
    assert abs(n_entries - 200_000) < 20_000
    for X in (found.X_train, found.X_test):
        anew = csr_array((X.data, X.indices, X.indptr), shape=X.shape)
        assert anew.has_canonical_format
        anew.check_format(full_check=True)
        assert np.diff(X.indptr).min() >= 1
    counts = np.sort(np.bincount(found.X_train.indices))[::-1]
    assert 5 < counts[9] / counts[99] < 20  # Zipf: ten times as often
    assert 0.3 < found.y_train.mean() < 0.7
    assert "synthetic" in found.notes[0]


def test_dense_labels_can_be_learnt() -> None:
    found = dense(3, "float64", n=5_000, n_columns=10)
    assert (found.X_train.shape, found.X_test.shape) == ((4_500, 10), (500, 10))
    coef, *_ = np.linalg.lstsq(found.X_train, found.y_train - 0.5, rcond=None)
    assert ((found.X_test @ coef > 0) == found.y_test).mean() > 0.8
    assert "synthetic" in found.notes[0]


@pytest.mark.parametrize("make", [sparse, dense])
def test_the_seed_gives_the_rows(make: object) -> None:
    size = {"n": 100, "n_columns": 30} | ({"n_entries": 900} if make is sparse else {})
    one, same, other = (make(seed, **size) for seed in (1, 1, 2))  # type: ignore[operator]
    assert abs(one.X_test - same.X_test).max() == 0
    assert one.y_train.tolist() == same.y_train.tolist()
    assert abs(one.X_test - other.X_test).max() > 0


def test_they_have_names() -> None:
    assert {"synthetic-sparse", "synthetic-dense"} <= set(LOADERS)
