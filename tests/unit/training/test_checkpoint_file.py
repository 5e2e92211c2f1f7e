"""The file of a checkpoint: what is written is read, and nothing else is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramserver.errors import DataError
from paramserver.training.checkpoint_file import (
    DIGEST_BYTES,
    LENGTHS,
    MAGIC,
    TrainingState,
    pieces,
    read_score,
    read_state,
)

META = {"unit": 7, "nested": {"a": [1, 2.5, None, "ä"]}, "tiny": 5e-324, "third": 1 / 3}


def some_state() -> TrainingState:
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "w": rng.standard_normal(5).astype(np.float32),
        "m": rng.standard_normal((3, 2)),
        "n": np.array([-(2**63), 2**63 - 1]),
        "none": np.empty(0, np.float32),
        "flags": np.array([0, 255], np.uint8),
    }
    return TrainingState(META, arrays)


def file_of(state: TrainingState, score: float | None = None) -> bytes:
    return b"".join(bytes(piece) for piece in pieces(state, score))


def test_what_is_written_is_read_bit_for_bit(tmp_path: Path) -> None:
    path, state = tmp_path / "x", some_state()
    path.write_bytes(file_of(state, 0.25))
    found = read_state(path)
    assert found.meta == META
    assert sorted(found.arrays) == sorted(state.arrays)
    for name, array in state.arrays.items():
        assert found.arrays[name].dtype == array.dtype
        assert found.arrays[name].shape == array.shape
        assert found.arrays[name].tobytes() == array.tobytes()
    assert read_score(path) == 0.25


def test_numbers_of_numpy_among_the_facts_are_read_as_those_of_python(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(file_of(TrainingState({"n": np.int64(3), "loss": np.float32(0.5)})))
    assert read_state(path).meta == {"n": 3, "loss": 0.5}
    with pytest.raises(TypeError, match="set cannot be written"):
        file_of(TrainingState({"x": {1}}))


def test_a_file_says_what_it_is_in_its_first_line_and_its_facts_can_be_read() -> None:
    whole = file_of(some_state())
    first, _, _ = whole.partition(b"\n")
    assert first == b"paramserver checkpoint 1"
    n_facts, n_arrays = LENGTHS.unpack_from(whole, len(MAGIC))
    start = len(MAGIC) + LENGTHS.size
    assert json.loads(whole[start : start + n_facts]) == {"score": None, "meta": META}
    assert len(whole) == start + n_facts + n_arrays + DIGEST_BYTES


def test_arrays_of_any_byte_order_and_layout_are_read_as_the_same_numbers(tmp_path: Path) -> None:
    path, strange = tmp_path / "x", np.arange(6, dtype=">f8").reshape(2, 3).T
    path.write_bytes(file_of(TrainingState({}, {"w": strange})))
    assert np.array_equal(read_state(path).arrays["w"], strange)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@given(data=st.data())
def test_no_changed_byte_goes_unnoticed(scratch: Path, data: st.DataObject) -> None:
    whole = bytearray(file_of(some_state()))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    path = scratch / "changed"
    path.write_bytes(whole)
    with pytest.raises(DataError, match="changed"):
        read_state(path)


@given(data=st.data())
def test_no_missing_or_added_byte_goes_unnoticed(scratch: Path, data: st.DataObject) -> None:
    whole = file_of(some_state())
    end = data.draw(st.integers(0, len(whole) - 1))
    path = scratch / "length"
    for other in (whole[:end], whole + whole[:end] + b"x", whole[end + 1 :]):
        path.write_bytes(other)
        with pytest.raises(DataError):
            read_state(path)


@given(junk=st.binary(max_size=300), with_magic=st.booleans())
def test_a_foreign_file_is_refused(scratch: Path, junk: bytes, with_magic: bool) -> None:
    path = scratch / "foreign"
    path.write_bytes(MAGIC * with_magic + junk)
    for read in (read_state, read_score):
        with pytest.raises(DataError, match="foreign"):
            read(path)


def test_a_file_of_another_version_is_called_that(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(file_of(some_state()).replace(b"checkpoint 1", b"checkpoint 2"))
    with pytest.raises(DataError, match="another version"):
        read_state(path)


def test_lengths_that_promise_terabytes_allocate_nothing(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(MAGIC + LENGTHS.pack(2**63, 2**63) + b"{}")
    with pytest.raises(DataError, match="promises"):
        read_score(path)
