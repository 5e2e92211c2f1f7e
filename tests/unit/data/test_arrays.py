"""Arrays in files are mapped where they lie, and what is no such array is refused."""

from __future__ import annotations

import mmap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramserver.data.arrays import Arrays, find_arrays
from paramserver.data.readers import read_files
from paramserver.data.roles import Roles
from paramserver.errors import DataError
from paramserver.training.array_file import ArrayFile

X = np.arange(24.0, dtype=np.float32).reshape(8, 3)
Y = np.array([0, 1] * 4)


def pair(arrays: Arrays) -> list[ArrayFile]:
    assert arrays.names == {"X": "X", "y": "y"}
    return [arrays.files["X"], arrays.files["y"]]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("order", ["C", "F"])
def test_members_of_an_archive_are_found_where_they_lie(
    tmp_path: Path, save: Callable[..., None], order: Any
) -> None:
    save(tmp_path / "a.npz", X=np.asarray(X, order=order), extra=np.ones(5), y=Y)
    folder = tmp_path / "unpacked"
    folder.mkdir()
    found = pair(find_arrays(tmp_path / "a.npz", folder))
    assert [array.open().tolist() for array in found] == [X.tolist(), Y.tolist()]
    assert [array.open().dtype for array in found] == [X.dtype, Y.dtype]
    is_packed = save is np.savez_compressed
    assert len(list(folder.iterdir())) == 2 * is_packed
    owner: Any = found[0].open()
    while isinstance(owner, np.ndarray):
        owner = owner.base
    assert isinstance(owner, mmap.mmap)


def test_a_pair_of_files_in_a_folder_is_found(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", Y)
    found = pair(find_arrays(tmp_path, tmp_path))
    assert [array.open().tolist() for array in found] == [X.tolist(), Y.tolist()]


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", Y)
    whole = (tmp_path / "X.npy").read_bytes()
    (tmp_path / "X.npy").write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"no folder with X\.npy and y\.npy \(it was cut short\)"):
        find_arrays(tmp_path, tmp_path)
    (tmp_path / "X.npy").write_bytes(whole[:9])
    with pytest.raises(DataError, match="no folder with"):
        find_arrays(tmp_path, tmp_path)
    (tmp_path / "X.npy").unlink()
    with pytest.raises(DataError, match=r"no array for the rows: .* called X, .* are: y \(8,\)"):
        find_arrays(tmp_path, tmp_path)


def test_an_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("X.npy", "no array")
    with pytest.raises(DataError, match=r"no \.npz file with the arrays X and y"):
        find_arrays(tmp_path / "a.npz", tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({(1, 2): np.nan}, "row 1 has nan in feature 2 "),
        ({(7, 0): -np.inf}, "row 7 has -inf in feature 0 "),
        ({(7, 0): 1e300}, r"row 7 has 1e\+300 .* too large for float32"),
    ],
)
def test_numbers_that_are_not_finite_are_refused_with_their_place(
    tmp_path: Path, change: dict[tuple[int, int], float], words: str
) -> None:
    given = X.astype(np.float64)
    for place, value in change.items():
        given[place] = value
    np.savez(tmp_path / "a.npz", X=given, y=Y)
    with pytest.raises(DataError, match=words):
        read_files(str(tmp_path / "a.npz"))


def test_labels_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X=X, y=np.where(Y == 1, np.nan, 0.5))
    with pytest.raises(DataError, match="the label of row 1 is nan"):
        read_files(str(tmp_path / "a.npz"))


def test_arrays_of_other_names_are_found_by_their_axes_or_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, data=X, target=Y)
    found = find_arrays(path, tmp_path)
    assert found.names == {"X": "data", "y": "target"}
    assert "the rows are the array data, the labels target" in read_files(str(path)).notes
    np.savez(path, data=X, target=Y, sites=Y.astype(str), how_much=np.ones(8))
    with pytest.raises(DataError, match=r"the labels: .*--label.* data \(8, 3\), targ"):
        find_arrays(path, tmp_path)
    found = find_arrays(path, tmp_path, Roles("target", "how_much", "sites"))
    assert found.names == {"X": "data", "y": "target", "weight": "how_much", "key": "sites"}
    assert found.files["key"].open().tolist() == Y.astype(str).tolist()
    with pytest.raises(DataError, match=r"no array for the label 'age'\. .*: data"):
        find_arrays(path, tmp_path, Roles("age"))


@pytest.mark.parametrize(
    ("role", "values", "words"),
    [
        ("weight", np.ones(7), "the weight extra must have one value for each of the 8 rows"),
        ("weight", np.array(["1"] * 8), "the weight extra must have one value"),
        ("weight", -np.arange(8.0), "the weight of row 1 is -1.0; weights must be finite"),
        ("weight", np.array([1.0] * 5 + [np.nan] * 3), "the weight of row 5 is nan"),
        ("weight", np.array([1e300] * 8), "the weight of row 0 is 1e.300; .* in float32"),
        ("weight", np.zeros(8), "All rows of .* have the weight 0"),
        ("key", np.ones((8, 2)), "the key extra must have one value for each"),
        ("key", np.array([1.0] * 5 + [np.nan] * 3), "the key of row 5 is nan"),
    ],
)
def test_weights_and_keys_that_do_not_fit_are_refused(
    tmp_path: Path, role: str, values: Any, words: str
) -> None:
    np.savez(tmp_path / "a.npz", X=X, y=Y, extra=values)
    with pytest.raises(DataError, match=words):
        read_files(str(tmp_path / "a.npz"), **{role: "extra"})
