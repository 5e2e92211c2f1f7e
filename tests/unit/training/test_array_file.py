"""An array in a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from paramserver.training.array_file import ArrayFile

X = np.arange(24.0, dtype=np.float32).reshape(8, 3)


def test_rows_are_written_in_their_place_of_a_file_with_all_its_room(tmp_path: Path) -> None:
    made = ArrayFile.new(tmp_path / "a.npy", "float32", (8, 3))
    assert (tmp_path / "a.npy").stat().st_blocks * 512 >= 8 * 3 * 4
    made.write(2, X[2:5].astype(np.float64))
    made.write(8, X[:0])
    expected = np.zeros_like(X)
    expected[2:5] = X[2:5]
    assert np.load(tmp_path / "a.npy").tolist() == expected.tolist()
    assert ArrayFile.new(tmp_path / "none.npy", "int64", (0,)).open().tolist() == []
