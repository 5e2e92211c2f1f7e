"""What the user names as input, cut into shares; what is wrong with it is said at once."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramserver.data.blocks import FileRange
from paramserver.errors import ConfigError, DataError
from paramserver.mapreduce.splits import plan_inputs


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_bytes(b"a" * 10)
    (tmp_path / "b.txt").write_bytes(b"b" * 30)
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    return tmp_path


def test_files_are_cut_into_shares_of_equal_bytes_over_all_files(texts: Path) -> None:
    planned = plan_inputs(str(texts / "*.txt"), "lines", 4)
    a, b = str(texts / "a.txt"), str(texts / "b.txt")
    assert planned.n_bytes == 40
    assert planned.unit == "lines"
    assert planned.shares == [
        [FileRange(a, 0, 10, 10)],
        [FileRange(b, 0, 10, 30)],
        [FileRange(b, 10, 20, 30)],
        [FileRange(b, 20, 30, 30)],
    ]


def test_a_share_may_span_files(texts: Path) -> None:
    names = [texts / "a.txt", texts / "a.txt", texts / "b.txt"]
    shares = plan_inputs(names, "words", 2).shares
    assert [[(Path(p).name, i, j) for p, i, j, _ in share] for share in shares] == [
        [("a.txt", 0, 10), ("a.txt", 0, 10), ("b.txt", 0, 5)],
        [("b.txt", 5, 30)],
    ]


@given(sizes=st.lists(st.integers(0, 50), min_size=1, max_size=6), n_map=st.integers(1, 40))
def test_shares_cover_every_byte_once_and_differ_by_one_byte_at_most(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], n_map: int
) -> None:
    folder = tmp_path_factory.mktemp("shares")
    names = []
    for number, size in enumerate(sizes):
        names.append(folder / f"{number}")
        names[-1].write_bytes(b"x" * size)
    shares = plan_inputs(names, "line", n_map).shares
    assert len(shares) == n_map
    covered = [(p, i) for share in shares for p, a, b, _ in share for i in range(a, b)]
    assert covered == [(str(name), i) for name, size in zip(names, sizes, strict=True)
                       for i in range(size)]  # fmt: skip
    lengths = [sum(stop - start for _, start, stop, _ in share) for share in shares]
    assert max(lengths) - min(lengths) <= 1


def test_a_sequence_is_cut_into_shares_of_equal_items() -> None:
    planned = plan_inputs(range(10), "lines", 4)
    assert planned.unit == "item"
    assert [list(share) for share in planned.shares] == [[0, 1], [2, 3, 4], [5, 6], [7, 8, 9]]


def test_rows_of_an_array_are_items() -> None:
    shares = plan_inputs(np.arange(6).reshape(3, 2), "lines", 3).shares
    assert [share.tolist() for share in shares] == [[[0, 1]], [[2, 3]], [[4, 5]]]


def test_any_iterable_will_do() -> None:
    assert plan_inputs((n * n for n in range(3)), "lines", 2).shares == [[0], [1, 4]]


def test_no_items_are_no_work() -> None:
    assert plan_inputs([], "lines", 2).shares == [[], []]


def test_strings_are_items_when_asked_for() -> None:
    assert plan_inputs(["to be", "or not"], "item", 2).shares == [["to be"], ["or not"]]


def test_a_name_with_magic_characters_is_a_file_if_there_is_one(texts: Path) -> None:
    (texts / "[ab].txt").write_bytes(b"literal")
    planned = plan_inputs(str(texts / "[ab].txt"), "lines", 1)
    assert planned.shares == [[FileRange(str(texts / "[ab].txt"), 0, 7, 7)]]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing.txt", "There is no file"),
        ("*.csv", "No file matches the pattern"),
        ("folder", "is a directory. Name the files in it"),
        ("fold*", "No file matches the pattern"),
        ("pipe", "is no regular file"),
        ("a.txt/b", "Not a directory"),
    ],
)
def test_files_that_cannot_be_read_are_named(texts: Path, name: str, words: str) -> None:
    os.mkfifo(texts / "pipe")
    with pytest.raises(DataError, match=words) as caught:
        plan_inputs(str(texts / name), "lines", 3)
    assert caught.value.path == str(texts / name)


def test_an_empty_name_is_not_the_working_folder() -> None:
    with pytest.raises(DataError, match="An empty name is no file"):
        plan_inputs("", "lines", 3)


def test_an_unreadable_file_is_named(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("paramserver.mapreduce.splits.os.open", refuse)  # tests may run as root
    with pytest.raises(DataError, match=r"a\.txt cannot be read: Permission denied"):
        plan_inputs(str(texts / "a.txt"), "lines", 3)


def test_a_list_of_sentences_gets_a_hint() -> None:
    with pytest.raises(DataError, match='unit="item"'):
        plan_inputs(["to be or not to be"], "lines", 2)


@pytest.mark.parametrize("inputs", [b"abc", 17, None])
def test_what_cannot_be_iterated_over_is_refused(inputs: object) -> None:
    with pytest.raises(ConfigError, match="give file names"):
        plan_inputs(inputs, "lines", 2)


def test_a_single_name_is_no_sequence_of_items() -> None:
    with pytest.raises(ConfigError, match="single file name"):
        plan_inputs("a.txt", "item", 2)
