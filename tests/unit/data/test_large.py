"""Large files: read piece by piece, they are what small ones are, and lie in files."""

from __future__ import annotations

import errno
import gc
import gzip
import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import paramserver.local_cluster
from paramserver.data import large, readers, sources
from paramserver.data.dataset import Dataset
from paramserver.data.readers import read_files
from paramserver.errors import ConfigError, DataError
from paramserver.training.partitioning import cut

read_small = partial(read_files, large_bytes=1 << 40)
"""As a file that is not large is read."""


class OneProcess:
    """As much of a cluster as is asked: jobs are run here, and each of them twice."""

    n_wanted = 3
    trusted = True

    def __init__(self, folder: Path) -> None:
        self.scratch_folder = folder

    @staticmethod
    def map(fn: Callable[..., Any], *rows: Any) -> Any:
        for row in zip(*rows, strict=False):
            first = fn(*row)  # a worker that is lost after it has done all of it
            again = fn(*row)
            assert repr(again) == repr(first)
            yield again


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OneProcess:
    """Every file is large, and pieces are small."""
    monkeypatch.setattr(readers, "LARGE_BYTES", 0)
    monkeypatch.setattr(sources, "PART_BYTES", 300)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return OneProcess(scratch)


RNG = np.random.default_rng(0)
X = RNG.standard_normal((103, 4)).round(3) * [1, 10, 100, 0] + [0, 5, 0, 7]
Y = RNG.integers(0, 3, 103)


def csv(path: Path, labels: Any = Y, stop: int = 103) -> str:
    rows = zip(X[:stop].tolist(), labels, strict=False)
    text = "".join(",".join(map(repr, x)) + f",{y}\n" for x, y in rows)
    path.write_text("a,b,c,d,kind\n" + text)
    return str(path)


def svmlight(path: Path, first: int = 1) -> str:
    lines = []
    for i, label in enumerate(Y.tolist()):
        columns = np.flatnonzero(RNG.random(9) < 0.4)
        cells = " ".join(f"{j + first}:{(i * j) % 7 + 0.5}" for j in columns.tolist())
        lines.append(f"{label} {cells} # {i}\n")
    lines[5] = f"{Y[5]} {first}:1 {first + 8}:2\n"
    path.write_text("# a comment\n" + "".join(lines))
    return str(path)


def as_npz(path: Path) -> str:
    np.savez(path, X=X, y=Y)
    return str(path)


def as_packed_npz(path: Path) -> str:
    np.savez_compressed(path, X=np.asfortranarray(X), y=Y.astype(np.int8))
    return str(path)


def as_folder(path: Path) -> str:
    path.mkdir()
    np.save(path / "X.npy", X)
    np.save(path / "y.npy", np.array(["red", "green", "blue"])[Y])
    return str(path)


def as_packed_csv(path: Path) -> str:
    csv(path.with_suffix(""), ["no", "yes", "0"] * 40)
    with gzip.open(path, "wb") as file:
        file.write(path.with_suffix("").read_bytes())
    return str(path)


def same_rows(one: Dataset, other: Dataset, p: int) -> None:
    """Assert that two data sets are the same but for the order of the rows to train on."""
    for name in ("n_classes", "notes", "classes", "n_features", "name"):
        assert getattr(one, name) == getattr(other, name)
    for a, b in ((one.X_test, other.X_test), (one.X_train, other.X_train)):
        assert type(a) is type(b)
        assert a.dtype == b.dtype
    dense = [
        np.column_stack([X if isinstance(X, np.ndarray) else X.toarray(), y])
        for each in (one, other)
        for X, y in ((each.X_test, each.y_test), (each.X_train, each.y_train))
    ]
    assert np.array_equal(dense[0], dense[2])
    assert dense[1].shape == dense[3].shape
    assert np.array_equal(*(rows[np.lexsort(rows.T)] for rows in (dense[1], dense[3])))
    assert other.rows is not None
    counts = other.rows.n_examples
    assert len(counts) == p
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.csv", csv),
        ("a.csv.gz", as_packed_csv),
        ("a.svm", svmlight),
        ("b.libsvm", lambda path: svmlight(path, 0)),
        ("a.npz", as_npz),
        ("b.npz", as_packed_npz),
        ("folder", as_folder),
    ],
)
@pytest.mark.parametrize("p", [1, 4])
def test_a_large_file_is_what_a_small_one_is(
    cluster: Any, tmp_path: Path, name: str, write: Callable[[Path], str], p: int
) -> None:
    path = write(tmp_path / name)
    small = read_small(path, seed=3)
    large = read_files(path, seed=3, cluster=cluster, n_partitions=p)
    same_rows(small, large, p)
    assert large.rows is not None
    opened = [large.rows.open(k) for k in range(p)]
    assert np.array_equal(np.concatenate([part.y for part in opened]), large.y_train)
    assert [part.X.shape[1] for part in opened] == [large.n_features] * p
    folders = [path.name for path in cluster.scratch_folder.iterdir()]
    assert len(folders) == 1  # nothing that was unpacked is left
    assert sorted(os.listdir(cluster.scratch_folder / folders[0])) == ["test", "train"]


def test_rows_to_hold_out_may_have_a_file_of_their_own(cluster: Any, tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv")
    test = csv(tmp_path / "b.csv", stop=40)
    small = read_small(path, test)
    large = read_files(path, test, cluster=cluster)
    assert len(large.y_test) == 40
    same_rows(small, large, 3)


def test_columns_of_a_sparse_file_that_only_the_other_one_has_count(
    cluster: Any, tmp_path: Path
) -> None:
    path = svmlight(tmp_path / "a.svm")
    test = tmp_path / "b.svm"
    test.write_text("0 1:1 12:3\n2 \n")
    for found in (read_small(path, str(test)), read_files(path, str(test), cluster=cluster)):
        assert found.n_features == 12
        assert found.X_test.toarray()[:, [0, 11]].tolist() == [[1, 3], [0, 0]]
        assert found.y_test.tolist() == [0, 2]


SITES = RNG.integers(0, 12, 103)
WEIGHTS = RNG.integers(0, 9, 103) / 4


def with_all_roles(path: Path) -> str:
    rows = zip(X.tolist(), SITES, WEIGHTS, Y, strict=True)
    lines = (f"{a!r},site {s},{b!r},{w},{c!r},{y},{d!r}\n" for (a, b, c, d), s, w, y in rows)
    path.write_text("a,site,b,w,c,kind,d\n" + "".join(lines))
    return str(path)


ROLES = {"label": "kind", "weight": "w", "key": "site"}


@pytest.mark.parametrize("has_test", [False, True])
@pytest.mark.parametrize("scheme", ["contiguous", "by-key"])
def test_partitions_are_those_of_the_rows_in_memory(
    cluster: Any, tmp_path: Path, scheme: str, has_test: bool
) -> None:
    path = with_all_roles(tmp_path / "a.csv")
    test = with_all_roles(tmp_path / "b.csv") if has_test else None
    small = read_small(path, test, seed=3, **ROLES)
    large = read_files(
        path, test, seed=3, cluster=cluster, n_partitions=4, partition=scheme, **ROLES
    )
    assert large.partition == scheme
    assert large.rows is not None
    assert large.n_features == 4
    given = small.keys if scheme == "by-key" else scheme
    parts = cut(small.y_train, 4, given, 3)
    for k, part in enumerate(parts):
        rows = large.rows.open(k)
        assert np.array_equal(rows.X, small.X_train[part])
        assert np.array_equal(rows.y, small.y_train[part])
        assert np.array_equal(rows.weight, small.weight_train[part])
    assert np.array_equal(large.weight_test, small.weight_test)
    assert np.array_equal(large.y_test, small.y_test)
    assert len(small.y_test) == (103 if has_test else 21)


@pytest.mark.parametrize("labels", [Y, ["no", "yes", "0"] * 40])
@pytest.mark.parametrize("p", [2, 5])
def test_stratified_partitions_have_their_shares_of_each_label(
    cluster: Any, tmp_path: Path, labels: Any, p: int
) -> None:
    path = csv(tmp_path / "a.csv", labels)
    found = read_files(path, cluster=cluster, n_partitions=p, partition="stratified")
    same_rows(read_small(path), found, p)
    shares = [np.bincount(found.rows.open(k).y, minlength=3) for k in range(p)]
    assert (np.max(shares, axis=0) - np.min(shares, axis=0)).max() <= 1


def test_sparse_rows_are_dealt_out_by_their_queries(cluster: Any, tmp_path: Path) -> None:
    lines = [f"{i % 2} qid:{i // 5} {' '.join(f'{j}:{i}' for j in range(1, 1 + i % 4))}\n"
             for i in range(1, 91)]  # fmt: skip
    path = tmp_path / "a.svm"
    path.write_text("".join(lines))
    small = read_small(str(path), key="qid")
    large = read_files(str(path), key="qid", cluster=cluster, n_partitions=3, partition="by-key")
    assert large.rows is not None
    for k, part in enumerate(cut(small.y_train, 3, small.keys, 0)):
        rows = large.rows.open(k)
        assert rows.X.toarray().tolist() == small.X_train[part].toarray().tolist()
        assert rows.y.tolist() == small.y_train[part].tolist()


def test_what_cannot_be_cut_as_it_should_is_said(cluster: Any, tmp_path: Path) -> None:
    path = with_all_roles(tmp_path / "a.csv")
    with pytest.raises(ConfigError, match="12 different keys, which cannot be cut into 13"):
        read_files(path, cluster=cluster, n_partitions=13, partition="by-key", **ROLES)
    with pytest.raises(ConfigError, match="Partitions by key need keys"):
        read_files(path, cluster=cluster, partition="by-key")
    with pytest.raises(ConfigError, match="There are: shuffled, contiguous, stratified, by-key"):
        read_files(path, cluster=cluster, partition="random")
    with pytest.raises(ConfigError, match="same name is given twice"):
        read_files(path, label="a", weight="a")
    numbers = csv(tmp_path / "b.csv", [0.5 * i for i in range(103)])
    with pytest.raises(ConfigError, match="labels are numbers to predict"):
        read_files(numbers, cluster=cluster, partition="stratified")
    assert list(cluster.scratch_folder.iterdir()) == []


def test_rows_that_all_have_the_weight_0_are_refused(cluster: Any, tmp_path: Path) -> None:
    path = Path(with_all_roles(tmp_path / "a.csv"))
    lines = path.read_text().splitlines()
    cells = [line.split(",") for line in lines[1:]]
    path.write_text("\n".join([lines[0], *(",".join([*c[:3], "0", *c[4:]]) for c in cells)]))
    for read in (read_small, partial(read_files, cluster=cluster)):
        with pytest.raises(DataError, match=r"All rows of .* have the weight 0"):
            read(str(path), **ROLES)


def test_numbers_to_predict_stay_numbers(cluster: Any, tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", [0.5 * i for i in range(103)])
    small, large = read_small(path), read_files(path, cluster=cluster)
    same_rows(small, large, 3)
    assert large.n_classes == 0
    assert large.y_train.dtype == np.float32


def test_a_label_that_is_text_in_one_piece_makes_all_of_them_texts(
    cluster: Any, tmp_path: Path
) -> None:
    path = csv(tmp_path / "a.csv", ["1", "2"] * 51 + ["unknown"])
    for found in (read_small(path), read_files(path, cluster=cluster)):
        assert found.classes == ("1", "2", "unknown")


def test_it_is_known_in_which_line_something_is_wrong(cluster: Any, tmp_path: Path) -> None:
    path = Path(csv(tmp_path / "a.csv"))
    lines = path.read_text().split("\n")
    lines[70] = "1,2,x,4,5"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"a\.csv: line 71, column 3: 'x' is no number"):
        read_files(str(path), cluster=cluster)
    assert list(cluster.scratch_folder.iterdir()) == []


def test_fewer_rows_than_partitions_are_refused(cluster: Any, tmp_path: Path) -> None:
    path = csv(tmp_path / "a.csv", stop=10)
    with pytest.raises(ConfigError, match="8 examples cannot be cut into 9 partitions"):
        read_files(path, cluster=cluster, n_partitions=9)
    with pytest.raises(ConfigError, match="n_partitions must be 1 or more, not 0"):
        read_files(path, cluster=cluster, n_partitions=0)
    assert list(cluster.scratch_folder.iterdir()) == []


def test_a_full_disk_is_said_before_a_row_is_placed(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(large, "place_part", pytest.fail)
    with pytest.raises(DataError, match="No space left on device"):
        read_files(csv(tmp_path / "a.csv"), cluster=cluster)
    assert list(cluster.scratch_folder.iterdir()) == []


def test_a_file_that_changes_while_it_is_read_is_noticed(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large, "count_part", lambda part: part.count() + 1)
    with pytest.raises(DataError, match="changes while it is read"):
        read_files(csv(tmp_path / "a.csv"), cluster=cluster)


def test_without_a_cluster_one_is_started_and_the_files_go_with_the_data_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "LARGE_BYTES", 0)
    monkeypatch.setattr(
        paramserver.local_cluster, "LocalCluster", lambda: nullcontext(OneProcess(Path()))
    )
    found = read_files(csv(tmp_path / "a.csv"))
    assert found.rows is not None
    folder = Path(found.rows.folder)
    assert folder.is_dir()
    del found
    gc.collect()
    assert not folder.exists()
