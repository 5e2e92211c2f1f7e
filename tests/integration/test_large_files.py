"""A large file is read by real workers, and trained on where it lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import paramserver as ps
from paramserver.data import readers, sources
from paramserver.data.readers import read_files


def test_workers_read_a_file_into_partitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "LARGE_BYTES", 0)
    monkeypatch.setattr(sources, "PART_BYTES", 5_000)
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 2_000)
    X = rng.standard_normal((2_000, 3)) + y[:, None] * [4, 0, 0]
    rows = zip(X.tolist(), y.tolist(), strict=True)
    path = tmp_path / "a.csv"
    path.write_text("".join(",".join(map(repr, x)) + f",{label}\n" for x, label in rows))
    small = read_files(str(path), seed=1)
    with ps.LocalCluster(2) as cluster:
        found = read_files(str(path), seed=1, cluster=cluster, n_partitions=3)
        assert found.rows is not None
        assert found.rows.n_examples == (534, 533, 533)
        assert np.array_equal(found.X_test, small.X_test)
        assert np.array_equal(np.sort(found.X_train, axis=0), np.sort(small.X_train, axis=0))
