"""What is read from text is what `float` and numpy read, wherever the text was cut."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from paramserver.data import tables
from paramserver.data.blocks import FileRange
from paramserver.data.header import detect
from paramserver.data.lines import cut, line_number, read_rows
from paramserver.data.numbers import parse_cells
from paramserver.data.svmlight import SvmlightForm

numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(10**18), 10**18).map(str),
    st.decimals(-(10**9), 10**9, places=6).map(str),
    st.tuples(st.sampled_from(["", "-", "+"]), st.text("0123456789", max_size=18),
              st.sampled_from(["", "."]), st.text("0123456789", max_size=18)).map("".join),
)  # fmt: skip
cells = st.one_of(numbers, st.text("0123456789.+-eEnaif_ xX", max_size=9))


def as_float(cell: str) -> float:
    try:
        return math.nan if "_" in cell else float(cell)
    except ValueError:
        return math.nan


@given(st.lists(cells, min_size=1))
@example(["-0", "-.0", "+0", "-0.00"])
def test_a_cell_is_the_number_that_float_makes_of_it_to_the_last_bit(found: list[str]) -> None:
    text = ",".join(found).encode() + b"\n"
    values = parse_cells(text, b",\n").values
    expected = np.array([as_float(cell) for cell in found])
    assert np.array_equal(values, expected, equal_nan=True)
    known = ~np.isnan(expected)
    assert np.array_equal(np.signbit(values)[known], np.signbit(expected)[known])


def n_rows(piece: FileRange) -> int:
    return read_rows(piece).count(b"\n")


lines = st.lists(st.sampled_from([b"", b" ", b"1,2", b"long,line,of,text", b"\t", b"x\r"]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines, st.integers(1, 40), st.booleans())
def test_pieces_hold_each_row_once_and_know_its_line(
    tmp_path: Path, given_lines: list[bytes], piece_bytes: int, ends: bool
) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\n".join(given_lines) + b"\n" * ends)
    pieces = cut(str(path), piece_bytes)
    rows = [line.rstrip(b"\r") for line in given_lines if line.strip()]
    assert b"".join(map(read_rows, pieces)).split(b"\n")[:-1] == rows
    assert sum(map(n_rows, pieces)) == len(rows)
    found = [line_number(piece, row) for piece in pieces for row in range(n_rows(piece))]
    assert found == [i for i, line in enumerate(given_lines, 1) if line.strip()]


tables_of_numbers = st.integers(2, 6).flatmap(
    lambda width: st.lists(
        st.lists(
            st.floats(-1e30, 1e30).map(repr) | st.integers(-99, 999).map(str),
            min_size=width,
            max_size=width,
        ),
        min_size=1,
        max_size=30,
    )
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tables_of_numbers, st.integers(1, 200), st.sampled_from(",;\t"), st.integers(0, 5))
def test_a_table_is_what_numpy_reads(
    monkeypatch: pytest.MonkeyPatch,
    rows: list[list[str]],
    block_bytes: int,
    separator: str,
    label: int,
) -> None:
    monkeypatch.setattr(tables, "BLOCK_BYTES", block_bytes)
    text = "".join(separator.join(row) + "\n" for row in rows)
    expected = np.loadtxt(io.StringIO(text), delimiter=separator, ndmin=2)
    label = min(label, len(rows[0]) - 1)
    form = replace(detect(text.split("\n")[0]), label=label)
    found = form.parse(text.encode(), np.dtype("float64"))
    assert np.array_equal(found.X, np.delete(expected, label, axis=1))
    assert np.array_equal(found.y.values, expected[:, label])


sparse_rows = st.lists(
    st.tuples(
        st.integers(-3, 3),
        st.dictionaries(st.integers(0, 2**31), st.floats(-1e30, 1e30), max_size=6),
    ),
    min_size=1,
    max_size=30,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sparse_rows, st.integers(1, 200), st.sampled_from([" ", "  ", "\t"]))
def test_sparse_rows_come_back_as_they_were_written(
    monkeypatch: pytest.MonkeyPatch,
    rows: list[tuple[int, dict[int, float]]],
    block_bytes: int,
    blank: str,
) -> None:
    monkeypatch.setattr(tables, "BLOCK_BYTES", block_bytes)
    text = "".join(
        blank.join([str(label), *(f"{j}:{row[j]!r}" for j in sorted(row))]) + "\n"
        for label, row in rows
    )
    found = SvmlightForm().parse(text.encode(), np.dtype("float64"))
    assert found.y.values.tolist() == [label for label, _ in rows]
    assert found.X.lengths.tolist() == [len(row) for _, row in rows]
    assert found.X.columns.tolist() == [j for _, row in rows for j in sorted(row)]
    assert found.X.data.tolist() == [row[j] for _, row in rows for j in sorted(row)]
