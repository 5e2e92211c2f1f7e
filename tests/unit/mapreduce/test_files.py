"""Files that appear whole or not at all, and a disk that is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from paramserver.errors import DataError
from paramserver.mapreduce.files import NewFile, disk_errors, unique_name


def test_what_is_written_is_there_with_its_checksum(tmp_path: Path) -> None:
    with NewFile(str(tmp_path / "new")) as file:
        file.write(b"abc")
        file.write(b"")
        file.write(b"def")
        assert file.read(1, 3) == b"bcd"
    assert (tmp_path / "new").read_bytes() == b"abcdef"
    assert (file.n_bytes, file.crc) == (6, 0x4B8E39EF)


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"precious")
    with pytest.raises(DataError, match="File exists"):
        NewFile(str(tmp_path / "old"))
    assert (tmp_path / "old").read_bytes() == b"precious"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_an_error_that_names_folder_and_need_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    written = []

    def write(fd: int, data: memoryview) -> int:
        if written:
            raise OSError(number, os.strerror(number))
        written.append(len(data))
        return 400

    monkeypatch.setattr("paramserver.mapreduce.files.os.write", write)
    path = str(tmp_path / "big")
    with pytest.raises(DataError, match="No space left") as caught, NewFile(path) as file:
        file.write(b"x" * 1000)
    assert "600 bytes more were needed" in str(caught.value)
    assert f"Make room in {tmp_path}" in str(caught.value)
    assert caught.value.path == path
    assert list(tmp_path.iterdir()) == []


def test_any_other_error_of_the_disk_is_told_as_it_is(tmp_path: Path) -> None:
    with (
        pytest.raises(DataError, match="cannot be written: Input/output error"),
        disk_errors(str(tmp_path / "file"), 10),
    ):
        raise OSError(errno.EIO, "Input/output error")


def test_a_file_whose_folder_has_gone_may_fail_without_a_second_error(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()

    def lose_the_folder() -> None:
        with NewFile(str(folder / "file")):
            os.unlink(folder / "file")
            folder.rmdir()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        lose_the_folder()


def test_names_are_unique() -> None:
    assert len({unique_name("part-00007") for _ in range(100)}) == 100
