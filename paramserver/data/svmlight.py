"""Rows in the format of SVMlight and LIBSVM: ``label column:value column:value ... # comment``.

Rule 1: columns are sorted in each row, none of them twice. Whether the first one is 0 or 1 is
        decided from the whole file: there is no 0 where they are counted from 1.
Rule 2: comments are left out, and so is ``qid:`` unless it is asked for as the key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from paramserver.data.labels import Column
from paramserver.data.numbers import parse_cells
from paramserver.data.tables import BadCell, Sparse, Table, blocks

COMMENT: Final = b"#"
MAX_COLUMN: Final = 2**53
"""A column beyond it cannot be told from its neighbours as a float64."""
QUERY: Final = "qid"
"""What the key is called, the number of a query: such rows belong together."""
_QUERY: Final = re.compile(rb"[ \t]qid:(\d+)")
_COLON, _SPACE, _TAB, _NEWLINE = b": \t\n"


@dataclass(frozen=True)
class SvmlightForm:
    """How the lines are built: there is one form only.

    Attributes
    ----------
    has_key : bool
        Whether ``qid:`` is wanted.
    """

    has_key: bool = False
    comment: bytes = COMMENT

    @property
    def notes(self) -> tuple[str, ...]:
        """What was taken for what, in words."""
        dealt = (f"rows are dealt out by {QUERY}",) if self.has_key else ()
        return ("the label is the first number of each line", *dealt)

    def parse(self, text: bytes, dtype: np.dtype[Any]) -> Table:
        """Read rows; columns are numbered as they are written.

        Raises
        ------
        BadCell
            If something is no number, columns are not sorted, or a query has no number.
        """
        key = self._queries(text) if self.has_key else None
        data, columns, lengths, labels = [], [], [], []
        for row, block in blocks(_QUERY.sub(b"", text) if b"qid:" in text else text):
            y, found = _parse_block(row, block, dtype)
            labels.append(y)
            data.append(found.data)
            columns.append(found.columns)
            lengths.append(found.lengths)
        none = [np.zeros(0, np.int64)]
        X = Sparse(
            np.concatenate(data or [np.zeros(0, dtype)]),
            np.concatenate(columns or none),
            np.concatenate(lengths or none),
        )
        return Table(X, Column(np.concatenate(labels or [np.zeros(0)])), key=key)

    def _queries(self, text: bytes) -> Column:
        """Return the number of each row's query."""
        found = _QUERY.findall(text)
        lines = text.split(b"\n")[:-1]
        if len(found) != len(lines) or not all(map(_QUERY.search, lines)):
            counts = [len(_QUERY.findall(line)) for line in lines]
            row = next(row for row, n in enumerate(counts) if n != 1)
            raise BadCell(row, None, f"there are {counts[row]} {QUERY}:number, not one")
        return Column(np.array(list(map(float, found))))


def _parse_block(
    row: int, block: bytes, dtype: np.dtype[Any]
) -> tuple[np.ndarray[Any, np.dtype[np.float64]], Sparse]:
    cells = parse_cells(block, b": \t\n")
    after = np.frombuffer(block, np.uint8)[cells.ends]
    row_of = np.cumsum(after == _NEWLINE) - (after == _NEWLINE)
    # Runs of blanks, and blanks at the end of a line, make empty cells: they are left out.
    kept = np.flatnonzero(
        (cells.ends > cells.starts) | (after == _COLON) | (np.roll(after, 1) == _COLON)
    )
    values, after, row_of = cells.values[kept], after[kept], row_of[kept]
    follows_colon = np.zeros(len(kept), bool)
    follows_colon[1:] = (after[:-1] == _COLON) & (row_of[1:] == row_of[:-1])
    is_first = np.ones(len(kept), bool)
    is_first[1:] = row_of[1:] != row_of[:-1]
    is_column = after == _COLON
    # A row is: a label, and then columns and values in turns.
    is_odd = (is_first & (is_column | follows_colon)) | (~is_first & (is_column == follows_colon))
    with np.errstate(over="ignore"):
        cast = values.astype(dtype)
    is_odd |= ~np.isfinite(cast)
    is_odd |= is_column & ((values < 0) | (values != np.rint(values)) | (values > MAX_COLUMN))
    if is_odd.any():
        at = int(np.argmax(is_odd))
        start, end = cells.starts[kept[at]], cells.ends[kept[at]]
        raise BadCell(row + int(row_of[at]), None, _reason(block, start, end, is_first[at]))
    columns = values[is_column].astype(np.int64)
    rows = row_of[is_column]
    is_low = (np.diff(columns) <= 0) & (rows[1:] == rows[:-1])
    if is_low.any():
        at = int(np.argmax(is_low))
        raise BadCell(
            row + int(rows[at]),
            None,
            f"column {columns[at + 1]} comes after column {columns[at]}; the columns of a row must "
            "be sorted, each once",
        )
    lengths = np.bincount(rows, minlength=block.count(b"\n")).astype(np.int64)
    return values[is_first], Sparse(cast[follows_colon], columns, lengths)


def _reason(block: bytes, start: int, end: int, is_label: bool) -> str:
    """Say what is wrong near a cell."""
    begin = max(block.rfind(b" ", 0, start), block.rfind(b"\n", 0, start)) + 1
    found = re.compile(rb"[^\s]*").match(block, begin)
    assert found is not None
    text = found[0][:40].decode("utf-8", "replace")
    if is_label:
        return f"'{text}' is no label; it must be one finite number"
    return f"'{text}' is not of the form column:value with finite numbers"
