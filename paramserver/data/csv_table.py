"""Tables with one row a line: comma, semicolon or tab between the cells.

Rule 1: all cells but the labels are numbers; there are as many in each line.
Rule 2: the first line is a header if no cell but the last one is a number there.
Rule 3: a cell may be in double quotes, and hold separators then, and a quote as two of them. It
        ends in its line: files are read by pieces of whole lines.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paramserver.data.labels import Column
from paramserver.data.numbers import Cells, parse_cells
from paramserver.data.tables import BadCell, Table, blocks
from paramserver.errors import DataError

SEPARATORS: Final = (",", ";", "\t")
WITHIN_QUOTES: Final = {
    separator: bytes([mark]) for mark, separator in enumerate(SEPARATORS, start=0x1C)
}
"""What stands for a separator within quotes while lines are cut: characters that no text holds."""
QUOTED: Final = {
    separator: re.compile(rb'(?<![^%s\n])[ ]*"((?:[^"\n]|"")*)"[ ]*(?=[%s\n])' % ((at,) * 2))
    for separator, at in ((separator, separator.encode()) for separator in SEPARATORS)
}
"""A cell in quotes."""
SHOWN: Final = 40
"""Characters of a bad cell that are shown."""


@dataclass(frozen=True)
class CsvForm:
    """How the lines of a table are built.

    Attributes
    ----------
    n_cells : int
        In each line.
    label : int
        Place of the label, from 0.
    separator : str
    names : tuple of str, optional
        Those in the header, if there is one.
    comment : bytes
        What begins a comment: nothing does.
    """

    n_cells: int
    label: int
    separator: str = ","
    names: tuple[str, ...] | None = None
    comment: bytes = b""

    @property
    def n_features(self) -> int:
        """Columns of X."""
        return self.n_cells - 1

    @property
    def what(self) -> str:
        """The label's column in words."""
        if self.names is None:
            return f"column {self.label + 1}"
        return f"column '{self.names[self.label]}'"

    def parse(self, text: bytes, dtype: np.dtype[Any]) -> Table:
        """Read rows.

        Raises
        ------
        BadCell
            If a line has too few or too many cells, or a feature is no finite number.
        """
        if b'"' in text:
            text = self._without_quotes(text)
        n = text.count(b"\n")
        X = np.empty((n, self.n_features), dtype)
        numbers = np.empty(n)
        texts: list[bytes] = []
        separators = (self.separator + "\n").encode()
        labels = slice(self.label, None, self.n_cells)
        for row, block in blocks(text):
            cells = parse_cells(block, separators, labels if texts else slice(0))
            values = self._as_rows(row, block, cells)
            stop = row + len(values)
            with np.errstate(over="ignore"):  # said below
                X[row:stop, : self.label] = values[:, : self.label]
                X[row:stop, self.label :] = values[:, self.label + 1 :]
            self._refuse_features(row, X[row:stop], block, cells)
            numbers[row:stop] = values[:, self.label]
            if texts or not np.isfinite(numbers[row:stop]).all():
                if not texts:  # numbers so far
                    texts = self._labels_of_first(row, text)
                places = zip(cells.starts[labels], cells.ends[labels], strict=True)
                texts += [self._bare(block[start:end]) for start, end in places]
        return Table(X, self._column(numbers, texts))

    def _without_quotes(self, text: bytes) -> bytes:
        """Return the text with its cells bare, and marks for the separators that were within."""
        separator = self.separator.encode()
        mark = WITHIN_QUOTES[self.separator]

        def bare(match: re.Match[bytes]) -> bytes:
            return match[1].replace(b'""', b'"').replace(separator, mark)

        return QUOTED[self.separator].sub(bare, text)

    def _as_rows(self, row: int, block: bytes, cells: Cells) -> npt.NDArray[np.float64]:
        """Return the values of a block by rows."""
        newlines = np.flatnonzero(np.frombuffer(block, np.uint8)[cells.ends] == ord("\n"))
        if len(cells.ends) != len(newlines) * self.n_cells or not np.array_equal(
            newlines, np.arange(self.n_cells - 1, len(cells.ends), self.n_cells)
        ):
            counts = np.diff(newlines, prepend=-1)
            bad = int(np.argmax(counts != self.n_cells))
            reason = f"there are {counts[bad]} cells, not {self.n_cells} as in line 1"
            if b'"' in block.split(b"\n", bad + 1)[bad]:
                reason += "; a cell in quotes must end in its line"
            raise BadCell(row + bad, None, reason)
        return cells.values.reshape(-1, self.n_cells)

    def _refuse_features(self, row: int, X: npt.NDArray[Any], block: bytes, cells: Cells) -> None:
        with np.errstate(all="ignore"):
            if np.isfinite(X.sum()):
                return
        bad = np.argwhere(~np.isfinite(X))
        if not len(bad):
            return
        i, j = map(int, bad[0])
        j += j >= self.label
        at = i * self.n_cells + j
        bare = self._bare(block[cells.starts[at] : cells.ends[at]])
        cell = bare.decode("utf-8", "replace")
        value = cells.values[at]
        if not cell:
            reason = "the cell is empty. Fill such cells, or remove the line"
        elif np.isfinite(value):
            reason = f"{cell} is too large for {X.dtype}"
        elif _is_float(cell):
            reason = f"the value is {cell}. Fill such values, or remove the line"
        else:
            reason = f"'{cell[:SHOWN]}' is no number; features must be numbers"
        raise BadCell(row + i, j + 1, reason)

    def _labels_of_first(self, n: int, text: bytes) -> list[bytes]:
        """Return the cells with the labels of the first rows, as they are written."""
        separator = self.separator.encode()
        lines = text.split(b"\n", n)[:n]
        return [self._bare(line.split(separator)[self.label]) for line in lines]

    def _bare(self, cell: bytes) -> bytes:
        """Return a cell as it was in its quotes."""
        return cell.strip().replace(WITHIN_QUOTES[self.separator], self.separator.encode())

    def _column(self, numbers: npt.NDArray[np.float64], texts: list[bytes]) -> Column:
        if not texts:
            return Column(numbers)
        bad = texts.index(b"") if b"" in texts else int(np.argmin(np.isfinite(numbers)))
        if not texts[bad] or _is_float(texts[bad].decode("utf-8", "replace")):
            word = texts[bad].decode("utf-8", "replace") or "empty"
            raise BadCell(bad, self.label + 1, f"the label is {word}")
        return Column.of_texts(texts)


def detect(line: str, label: str | None, path: str) -> CsvForm:
    """Return the form of a table by its first line.

    Parameters
    ----------
    line : str
    label : str, optional
        Name of the column with the labels; by default the last one.
    path : str

    Raises
    ------
    DataError
        If there is only one column, or none of that name.
    """
    unquoted = re.sub('"[^"]*"', "", line)
    separator = max(SEPARATORS, key=unquoted.count)
    names = split_line(line, separator)
    if len(names) < 2:
        raise DataError(
            f"{path}: line 1 has {len(names)} column; a label and at least one feature, separated "
            "by commas, are needed.",
            path=path,
        )
    has_header = not any(_is_float(name) for name in names[:-1])
    column = len(names) - 1
    if label is not None:
        if not has_header or label not in names:
            known = ", ".join(names) if has_header else "none: line 1 holds numbers"
            raise DataError(f"{path} has no column '{label}'. Its columns are: {known}.", path=path)
        column = names.index(label)
    return CsvForm(len(names), column, separator, names if has_header else None)


def split_line(line: str, separator: str) -> tuple[str, ...]:
    """Return the cells of a header."""
    (cells,) = csv.reader([line], delimiter=separator, skipinitialspace=True)
    return tuple(cell.strip() for cell in cells or [""])


def _is_float(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
