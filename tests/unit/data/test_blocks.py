"""Byte ranges hold each record exactly once, however the file was cut."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramserver.data.blocks import LINES, WORDS, Boundary, FileRange, read_blocks
from paramserver.errors import DataError

TEXT = st.lists(st.sampled_from([b"a", b"bc", b"\n", b" ", b"\t", b"\r\n", b"\x00", b"\xff" * 9]))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("blocks") / "text"


def blocks_of(path: Path, cuts: list[int], boundary: Boundary, block_bytes: int) -> list[bytes]:
    size = path.stat().st_size
    edges = [0, *sorted(min(cut, size) for cut in cuts), size]
    ranges = [FileRange(str(path), a, b, size) for a, b in pairwise(edges)]
    return [block for piece in ranges for block in read_blocks(piece, boundary, block_bytes)]


@given(
    parts=TEXT,
    cuts=st.lists(st.integers(0, 60), max_size=8),
    block_bytes=st.integers(1, 40),
    boundary=st.sampled_from([LINES, WORDS]),
)
def test_the_blocks_of_all_ranges_are_the_file(
    path: Path, parts: list[bytes], cuts: list[int], block_bytes: int, boundary: Boundary
) -> None:
    data = b"".join(parts)
    path.write_bytes(data)
    blocks = blocks_of(path, cuts, boundary, block_bytes)
    assert b"".join(blocks) == data
    for block in blocks[:-1]:
        assert block.endswith(boundary.separators), "a record was cut"
    if boundary is WORDS:
        assert [w for block in blocks for w in block.split()] == data.split()


def test_a_line_belongs_to_the_range_in_which_it_begins(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"one\ntwo\nthree")

    def lines(start: int, stop: int) -> list[bytes]:
        return list(read_blocks(FileRange(str(path), start, stop, 13), LINES, 100))

    assert lines(0, 1) == [b"one\n"]
    assert lines(1, 4) == []
    assert lines(1, 5) == [b"two\n"]
    assert lines(4, 8) == [b"two\n"]
    assert lines(8, 13) == [b"three"]
    assert lines(9, 13) == []


def test_a_line_longer_than_a_block_comes_whole(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"x" * 1000 + b"\ny\n" + b"z" * 500)
    assert blocks_of(path, [100, 300, 1001], LINES, 10) == [
        b"x" * 1000 + b"\n", b"y\n", b"z" * 500,
    ]  # fmt: skip


def test_bytes_appended_after_the_planning_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a\nb")
    piece = FileRange(str(path), 0, 3, 3)
    path.write_bytes(b"a\nbcd\ne\n")
    assert b"".join(read_blocks(piece, LINES, 100)) == b"a\nb"


def test_a_file_that_has_become_shorter_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a\n")
    with pytest.raises(DataError, match="has become shorter") as caught:
        list(read_blocks(FileRange(str(path), 0, 9, 9), LINES, 100))
    assert caught.value.path == str(path)


def test_a_file_that_is_gone_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = str(tmp_path / "gone")
    with pytest.raises(DataError, match="No such file") as caught:
        list(read_blocks(FileRange(path, 0, 9, 9), LINES, 100))
    assert caught.value.path == path


def test_the_file_is_closed_when_a_mapper_gives_up(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"a\n" * 100)
    before = len(os.listdir("/proc/self/fd"))
    blocks = read_blocks(FileRange(str(path), 0, 200, 200), LINES, 4)
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == before
