"""A large file is read by real workers, and trained on where it lies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import paramserver as ps
from paramserver.data import readers, sources
from paramserver.data.readers import read_files
from paramserver.errors import ConfigError
from paramserver.models.linear import Linear


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
        settings = {"mode": ps.Averaging(rounds=5), "cluster": cluster, "lr": 0.5}
        model = Linear(3, 1, "log_loss")
        result = ps.fit(model, found, test=(found.X_test, found.y_test), **settings)
        assert result.n_partitions == 3
        assert result.history[-1].test_score > 0.95
        lying = Path(found.rows.folder).stat().st_ino
        again = ps.fit(model, found, **settings)
        assert again.sha256 == result.sha256
        assert Path(found.rows.folder).stat().st_ino == lying
        with pytest.raises(ConfigError, match="cut into 3 partitions when it was read, not 2"):
            ps.fit(model, found, mode=ps.Averaging(n_partitions=2), cluster=cluster)
        with pytest.raises(ConfigError, match="cannot be cut in another way"):
            ps.fit(model, found, partition="stratified", **settings)
        with pytest.raises(ConfigError, match="written as float32"):
            ps.fit(Linear(3, 1, "log_loss", dtype_name="float64"), found, **settings)
        with pytest.raises(ConfigError, match="without weights"):
            ps.fit(model, found, class_weight="balanced", **settings)
