"""The data sets that lie on the machine."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from paramserver.data import datasets
from paramserver.errors import ConfigError, DataError

SIZES = {
    "breast-cancer": (569, 30, 2),
    "diabetes": (442, 10, 0),
    "digits": (1797, 64, 10),
    "iris": (150, 4, 3),
    "wine": (178, 13, 3),
}


@pytest.mark.parametrize("name", sorted(SIZES))
def test_a_data_set_is_what_it_is_known_to_be(name: str) -> None:
    found = datasets.load(name, seed=3)
    n, d, c = SIZES[name]
    assert len(found.y_train) + len(found.y_test) == n
    assert (found.n_features, found.n_classes) == (d, c)
    assert found.X_train.dtype == found.X_test.dtype == np.float32
    deviations = found.X_train.std(axis=0)
    assert np.all((abs(deviations - 1) < 1e-3) | (deviations == 0))
    if c:
        assert set(found.y_train.tolist()) == set(range(c))


def test_the_split_follows_from_the_seed() -> None:
    one, same, other = (datasets.load("iris", seed=s) for s in (1, 1, 2))
    assert one.X_test.tobytes() == same.X_test.tobytes()
    assert one.X_test.tobytes() != other.X_test.tobytes()


def test_an_unknown_name_is_answered_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="breast-cancer, debian-sections, diabetes"):
        datasets.load("mnsit")


def test_no_loader_imports_scikit_learn() -> None:
    program = (
        "import sys; from paramserver.data import datasets\n"
        f"for name in {sorted(SIZES)}: datasets.load(name)\n"
        "print('sklearn' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "False"


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "FASHION_MNIST", tmp_path)
    with pytest.raises(DataError, match="apt install dataset-fashion-mnist"):
        datasets.load("fashion-mnist")


def idx(path: Path, array: np.ndarray, cut: int = 0) -> None:
    head = b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes()
    data = head + array.tobytes()
    with gzip.open(path, "wb") as file:
        file.write(data[: len(data) - cut])


def images(folder: Path, cut: int = 0) -> None:
    rng = np.random.default_rng(0)
    for part, n in (("train", 6), ("t10k", 3)):
        pixels = rng.integers(0, 256, (n, 4, 4), np.uint8)
        idx(folder / f"{part}-images-idx3-ubyte.gz", pixels, cut)
        idx(folder / f"{part}-labels-idx1-ubyte.gz", np.arange(n, dtype=np.uint8))


def test_images_are_read_as_rows_between_0_and_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images(tmp_path)
    monkeypatch.setattr(datasets, "FASHION_MNIST", tmp_path)
    found = datasets.load("fashion-mnist")
    assert found.X_train.shape == (6, 16)
    assert found.X_test.shape == (3, 16)
    assert found.X_train.dtype == np.float32
    assert found.X_train.min() >= 0
    assert 0.9 < found.X_train.max() <= 1
    assert found.y_train.tolist() == list(range(6))


def test_a_file_that_was_cut_short_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images(tmp_path, cut=1)
    monkeypatch.setattr(datasets, "FASHION_MNIST", tmp_path)
    with pytest.raises(DataError, match="cut short"):
        datasets.load("fashion-mnist")
