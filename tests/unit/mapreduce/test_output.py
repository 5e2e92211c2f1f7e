"""Lines that can be read back, or an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramserver.errors import DataError
from paramserver.mapreduce.output import PartOutput, as_lines, write_part
from paramserver.mapreduce.pairs import Batch, into_lanes

WORDS = st.binary(min_size=1, max_size=20).filter(lambda word: len(word.split()) == 1)


def lines(*pairs: tuple[Any, Any], to_line: Any = None) -> bytes:
    batches = into_lanes([key for key, _ in pairs], [value for _, value in pairs])
    return b"".join(as_lines(batch, to_line) for batch in batches)


@given(st.dictionaries(WORDS.map(lambda w: w.split()[0]), st.integers(), min_size=1))
def test_counts_of_words_can_be_read_back(counts: dict[bytes, int]) -> None:
    written = lines(*counts.items())
    rows = [line.split(b"\t") for line in written.removesuffix(b"\n").split(b"\n")]
    assert {key: int(value) for key, value in rows} == counts
    assert len(rows) == len(counts)


@pytest.mark.parametrize(
    ("pair", "line"),
    [
        ((b"\xff\x00", 1), b"\xff\x00\t1\n"),
        (("é", 1), "é\t1\n".encode()),
        ((1, 0.1), b"1\t0.1\n"),
        ((True, np.float32(0.5)), b"True\t0.5\n"),
        ((None, [1, "é", None]), 'null\t[1, "é", null]\n'.encode()),
        (((1, "a"), {"x": 1}), b'[1, "a"]\t{"x": 1}\n'),
        ((b"k" * 40, b"raw\tvalue"), b"k" * 40 + b"\traw\tvalue\n"),
        ((1j, "text"), b"1j\ttext\n"),
    ],
)
def test_values_of_all_kinds_have_a_line(pair: tuple[Any, Any], line: bytes) -> None:
    assert lines(pair) == line


@pytest.mark.parametrize(
    "pair", [(b"a\tb", 1), (b"a\nb", 1), ("a\nb", 1), (b"k", "two\nlines"), ("a\t", 1)], ids=repr
)
def test_what_would_not_be_one_line_is_refused(pair: tuple[Any, Any]) -> None:
    with pytest.raises(DataError, match="contains a tab or a line break"):
        lines(pair)


def test_a_tab_in_one_word_of_many_is_found() -> None:
    with pytest.raises(DataError, match=r"b'b\\tc'"):
        lines((b"a", 1), (b"b\tc", 2), (b"d", 3))


@pytest.mark.parametrize("value", [np.zeros(3), {1, 2}, object()], ids=lambda v: type(v).__name__)
def test_a_value_that_is_no_text_is_refused_in_words(value: Any) -> None:
    with pytest.raises(DataError, match=f"type {type(value).__name__} cannot be written as text"):
        lines((b"k", value))


def test_a_format_of_the_user_makes_the_lines() -> None:
    assert lines((b"a", 1), (b"b", 2), to_line=lambda k, v: b"%d,%b" % (v, k)) == b"1,a\n2,b\n"


@pytest.mark.parametrize("made", ["text", b"two\nlines", None])
def test_a_format_that_gives_no_line_is_told_so(made: Any) -> None:
    with pytest.raises(DataError, match="must return the bytes of one line"):
        lines((b"a", 1), to_line=lambda key, value: made)


def test_a_part_is_written_with_its_length_and_checksum(tmp_path: Path) -> None:
    path = str(tmp_path / "part")
    batches = [Batch(["x" * 30], [n]) for n in range(3)]
    part = write_part(path, batches, lambda batch: as_lines(batch, None))
    data = Path(path).read_bytes()
    assert part == PartOutput(path, len(data), crc32(data), 3)


def test_a_part_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        write_part(
            str(tmp_path / "part"), [Batch([b"k"], [object()])], lambda batch: as_lines(batch, None)
        )
    assert list(tmp_path.iterdir()) == []
