"""Vectors in shared memory."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from paramserver.errors import TransportError
from paramserver.transport.shm import SharedVector, reserve


def test_what_one_writes_the_other_reads(tmp_path: Path) -> None:
    made = SharedVector.create(tmp_path / "w", 5, np.float32)
    seen = SharedVector.open(tmp_path / "w", 5, np.float32)
    made.array[:] = np.arange(5)
    assert seen.array.tolist() == [0, 1, 2, 3, 4]
    assert seen.array.dtype == np.float32


def test_who_only_reads_cannot_write(tmp_path: Path) -> None:
    SharedVector.create(tmp_path / "w", 5, np.float32)
    seen = SharedVector.open(tmp_path / "w", 5, np.float32)
    with pytest.raises(ValueError, match="read-only"):
        seen.array[0] = 1


def test_a_vector_outlives_its_name(tmp_path: Path) -> None:
    made = SharedVector.create(tmp_path / "w", 5, np.float64)
    seen = SharedVector.open(tmp_path / "w", 5, np.float64, writable=True)
    made.unlink()
    made.unlink()
    seen.array[:] = 3
    assert made.array.sum() == 15
    with pytest.raises(FileNotFoundError):
        SharedVector.open(tmp_path / "w", 5, np.float64)


def test_a_name_is_taken_once(tmp_path: Path) -> None:
    SharedVector.create(tmp_path / "w", 5, np.float64)
    with pytest.raises(FileExistsError):
        SharedVector.create(tmp_path / "w", 5, np.float64)


def test_a_vector_of_another_size_is_refused(tmp_path: Path) -> None:
    SharedVector.create(tmp_path / "w", 5, np.float64)
    with pytest.raises(TransportError, match="40 bytes where 20 are expected"):
        SharedVector.open(tmp_path / "w", 5, np.float32)


def test_memory_that_is_not_there_is_an_error_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    free = os.statvfs(tmp_path)
    too_many = 2 * free.f_bavail * free.f_frsize
    with pytest.raises(TransportError, match="cannot be reserved"):
        SharedVector.create(tmp_path / "w", too_many, np.float64)
    assert list(tmp_path.iterdir()) == []


def test_an_empty_vector_is_no_special_case(tmp_path: Path) -> None:
    SharedVector.create(tmp_path / "w", 0, np.float64)
    assert SharedVector.open(tmp_path / "w", 0, np.float64).array.size == 0


@pytest.mark.parametrize("has_call", [True, False])
def test_what_is_reserved_has_its_room_and_keeps_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_call: bool
) -> None:
    if not has_call:  # as on macOS
        monkeypatch.delattr(os, "posix_fallocate")
    with (tmp_path / "file").open("xb", buffering=0) as file:
        file.write(b"head")
        reserve(file.fileno(), 5000)
        assert os.fstat(file.fileno()).st_blocks * 512 >= 5000
    assert (tmp_path / "file").read_bytes() == b"head" + bytes(4996)
