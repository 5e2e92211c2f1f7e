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
        with pytest.raises(ConfigError, match=r"cut shuffled when .* be 'stratified' now"):
            ps.fit(model, found, partition="stratified", **settings)
        with pytest.raises(ConfigError, match="written as float32"):
            ps.fit(Linear(3, 1, "log_loss", dtype_name="float64"), found, **settings)


@pytest.mark.parametrize("scheme", ["contiguous", "by-key"])
def test_a_large_file_is_trained_on_as_a_small_one_to_the_last_bit(
    tmp_path: Path, scheme: str
) -> None:
    """With weights of rows and classes, and with partitions that are the same."""
    rng = np.random.default_rng(0)
    y = (rng.random(600) < 0.2).astype(int)
    X = rng.standard_normal((600, 3)) + y[:, None] * [1, 0, 0]
    sites, weights = rng.integers(0, 9, 600), rng.integers(0, 5, 600)
    path = tmp_path / "a.csv"
    rows = zip(X.tolist(), sites, weights, y, strict=True)
    path.write_text(
        "a,b,c,site,w,kind\n"
        + "".join(f"{a!r},{b!r},{c!r},{s},{w},{k}\n" for (a, b, c), s, w, k in rows)
    )
    how = {"weight": "w", "key": "site", "seed": 1}
    model, mode = Linear(3, 1, "log_loss"), ps.Averaging(rounds=3, n_partitions=2)
    given = {"partition": scheme, "class_weight": "balanced", "seed": 1, "lr": 0.5}
    small = read_files(str(path), **how)
    expected = ps.fit(model, small, mode=mode, cluster=None, **given)
    assert small.weight_train is not None
    plain = ps.fit(
        model, (small.X_train, small.y_train), mode=mode, cluster=None, seed=1, lr=0.5,
        partition="contiguous" if small.keys is None else small.keys,
    )  # fmt: skip
    with ps.LocalCluster(2) as cluster:
        large = read_files(
            str(path), cluster=cluster, n_partitions=2, partition=scheme, large_bytes=0, **how
        )
        found = ps.fit(model, large, mode=mode, cluster=cluster, **given)
        assert found.sha256 == expected.sha256
        assert found.sha256 != plain.sha256
        assert large.rows is not None
        before = sorted(each.name for each in Path(large.rows.folder).iterdir())
        assert sum(name.startswith("weight.") for name in before) == 2
        again = ps.fit(model, large, mode=mode, cluster=cluster, **given)
        assert again.sha256 == expected.sha256
        assert sorted(each.name for each in Path(large.rows.folder).iterdir()) == before
