"""Rows in shared files: what is opened is what was written, and opening reads nothing."""

from __future__ import annotations

import errno
import mmap
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array, random_array

from paramserver.errors import DataError
from paramserver.training import csr, row_files
from paramserver.training.array_file import ArrayFile
from paramserver.training.learner import Batch
from paramserver.training.partitions import SharedRows


def sparse(n: int, d: int, dtype: str = "float32", seed: int = 0) -> Any:
    return random_array((n, d), density=0.2, format="csr", dtype=dtype, random_state=seed)


def owner(array: Any) -> Any:
    while isinstance(array, np.ndarray) and array.base is not None:
        array = array.base
    return array


def same(one: Batch, other: Batch) -> bool:
    def arrays(batch: Batch) -> list[Any]:
        X = batch.X
        parts = [X] if isinstance(X, np.ndarray) else [X.data, X.indices, X.indptr]
        return [*parts, batch.y, batch.weight]

    pairs = list(zip(arrays(one), arrays(other), strict=True))
    return all(
        (a is b is None) or (a.dtype == b.dtype and np.array_equal(a, b)) for a, b in pairs
    ) and type(one.X) is type(other.X)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ["dense", "images", "sparse"])
@pytest.mark.parametrize("form", ["labels", "vectors"])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_a_partition_is_opened_as_it_was_written(
    tmp_path: Path, dtype: str, kind: str, form: str, is_weighted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(row_files, "BLOCK_BYTES", 64)
    rng = np.random.default_rng(0)
    X = sparse(19, 7, dtype)
    if kind != "sparse":
        X = rng.standard_normal((19, 7) if kind == "dense" else (19, 3, 2)).astype(dtype)
    y = rng.integers(0, 3, 19) if form == "labels" else rng.standard_normal((19, 2))
    rows = Batch(X, y, rng.random(19).astype(dtype) if is_weighted else None)
    parts = [np.array([3, 1, 18]), np.array([0]), np.r_[2, 4:18]]
    shared = SharedRows.write(tmp_path, rows, parts)
    assert shared.n_examples == (3, 1, 15)
    for k, part in enumerate(parts):
        assert same(shared.open(k), rows.take(part))


def test_a_sparse_partition_is_mapped_and_not_copied(tmp_path: Path) -> None:
    X = sparse(400, 50)
    parts = np.array_split(np.arange(400), 20)  # scipy copies views of much larger arrays
    opened = SharedRows.write(tmp_path, Batch(X, np.zeros(400)), parts).open(7).X
    for array in (opened.data, opened.indices, opened.indptr):
        assert isinstance(owner(array), mmap.mmap)
        assert not array.flags.writeable
    assert opened.indices.dtype == opened.indptr.dtype == np.int32
    assert np.array_equal(opened @ np.ones(50, np.float32), X[parts[7]] @ np.ones(50, np.float32))


def test_rows_without_any_entry_are_rows(tmp_path: Path) -> None:
    rows = Batch(csr_array((5, 3), dtype="float32"), np.arange(5))
    shared = SharedRows.write(tmp_path, rows, [np.array([4, 0]), np.array([1, 2, 3])])
    assert same(shared.open(0), rows.take(np.array([4, 0])))


def test_indices_that_do_not_fit_32_bits_are_wide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csr, "MAX_INT32", 5)
    X = sparse(10, 6)
    shared = SharedRows.write(tmp_path, Batch(X, np.zeros(10)), [np.arange(10)])
    opened = shared.open(0).X
    assert opened.indices.dtype == opened.indptr.dtype == np.int64
    assert np.array_equal(opened.todense(), X.todense())


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    program = f"""
import resource, signal
from pathlib import Path
import numpy as np
from paramserver.errors import DataError
from paramserver.training.learner import Batch
from paramserver.training.partitions import SharedRows
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    SharedRows.write(Path({str(tmp_path)!r}), Batch(np.zeros((9000, 2)), np.zeros(9000)),
                     [np.arange(9000)])
except DataError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert "The data set (216,000 bytes) cannot be written" in done.stdout
    assert "File too large. Free or enlarge that folder." in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_what_one_block_cannot_write_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(file: ArrayFile, start: int, rows: Any) -> None:
        if start == 8:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(row_files, "BLOCK_BYTES", 64)
    monkeypatch.setattr(ArrayFile, "write", write)
    with pytest.raises(DataError, match=r"cannot be written to .*: Input/output error"):
        SharedRows.write(tmp_path, Batch(np.zeros((19, 2)), np.zeros(19)), [np.arange(19)])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written"):
        SharedRows.write(tmp_path / "gone", Batch(np.zeros((2, 1)), np.zeros(2)), [np.arange(2)])


def test_dense_rows_are_opened_without_scipy(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
import numpy as np
from paramserver.training.learner import Batch
from paramserver.training.partitions import SharedRows
SharedRows.write(Path({str(tmp_path)!r}), Batch(np.zeros((3, 2)), np.zeros(3)),
                 [np.arange(3)]).open(0)
print("scipy" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "False"
