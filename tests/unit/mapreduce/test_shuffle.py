"""One file a map job: every pair is in its part, in order; what is damaged is a lost input."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramserver.errors import DataError
from paramserver.mapreduce.keys import stable_hash
from paramserver.mapreduce.pairs import into_lanes
from paramserver.mapreduce.shuffle import MapOutput, ShuffleWriter, read_piece
from paramserver.runtime.context import LostInput

KEYS = st.one_of(
    st.sampled_from([b"a", b"b", "a", b"long" * 9, 1, 2.0, None]), st.binary(max_size=20)
)


def write(
    folder: Path, stretches: list[list[tuple[Any, Any]]], n_parts: int, limit: int = 1 << 20
) -> MapOutput:
    with ShuffleWriter(str(folder), 3, n_parts, limit, trusted=True) as writer:
        for pairs in stretches:
            writer.add(into_lanes([key for key, _ in pairs], [value for _, value in pairs]))
        output = writer.finish()
        assert writer.n_pairs == sum(map(len, stretches))
        return output


def read(output: MapOutput, part: int) -> list[tuple[Any, Any]]:
    return [
        pair
        for batch, _ in read_piece(output, part, job=3, trusted=True)
        for pair in zip(batch.key_list(), batch.value_list(), strict=True)
    ]


@given(
    st.lists(st.lists(st.tuples(KEYS, st.integers(-9, 9)))), st.integers(1, 80),
    st.sampled_from([1, 500, 1 << 20]),
)  # fmt: skip
def test_each_pair_is_in_its_part_and_those_of_a_key_are_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    stretches: list[list[tuple[Any, Any]]],
    n_parts: int,
    limit: int,
) -> None:
    output = write(tmp_path_factory.mktemp("shuffle"), stretches, n_parts, limit)
    pairs = [pair for stretch in stretches for pair in stretch]
    n_found = 0
    for part in range(n_parts):
        found = read(output, part)
        n_found += len(found)
        for key in {key for key, _ in found}:
            assert stable_hash(key) % n_parts == part
            values = [v for k, v in found if k == key and type(k) is type(key)]
            assert values == [v for k, v in pairs if k == key and type(k) is type(key)]
    assert n_found == len(pairs)


def test_pairs_beyond_the_memory_limit_are_written_as_segments(tmp_path: Path) -> None:
    stretches = [[(b"%d" % n, n)] for n in range(100)]
    assert write(tmp_path, stretches, 4).n_segments == 1
    assert write(tmp_path, stretches, 4, limit=1000).n_segments > 5


def test_two_attempts_of_a_job_write_two_files(tmp_path: Path) -> None:
    first, second = (write(tmp_path, [[(b"a", 1)]], 2) for _ in range(2))
    assert first.path != second.path
    assert read(first, stable_hash(b"a") % 2) == read(second, stable_hash(b"a") % 2) == [(b"a", 1)]


def test_a_job_without_pairs_has_an_output(tmp_path: Path) -> None:
    output = write(tmp_path, [], 5)
    assert [read(output, part) for part in range(5)] == [[]] * 5


def test_a_failed_attempt_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be a key"):
        write(tmp_path, [[((1, [2]), 0)]], 2)
    assert os.listdir(tmp_path) == []


def test_a_missing_file_is_a_lost_input(tmp_path: Path) -> None:
    output = write(tmp_path, [[(b"a", 1)]], 1)
    os.unlink(output.path)
    with pytest.raises(LostInput, match="map job 3 cannot be read") as caught:
        read(output, 0)
    assert caught.value.index == 3


def test_any_changed_byte_that_matters_to_a_part_is_a_lost_input(tmp_path: Path) -> None:
    output = write(tmp_path, [[(b"%d" % n, n) for n in range(20)], [(b"x" * 40, "y")]], 1)
    whole = Path(output.path).read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x40
        Path(output.path).write_bytes(damaged)
        with pytest.raises(LostInput):
            read(output, 0)


@pytest.mark.parametrize("length", [0, 10, -1])
def test_a_file_that_is_cut_off_is_a_lost_input(tmp_path: Path, length: int) -> None:
    output = write(tmp_path, [[(b"a", 1)]], 1)
    data = Path(output.path).read_bytes()
    Path(output.path).write_bytes(data[:length])
    with pytest.raises(LostInput):
        read(output, 0)


def test_a_folder_that_is_gone_is_not_brought_back(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(DataError, match="cannot be written: No such file"):
        write(gone, [], 1)
    assert not gone.exists()
