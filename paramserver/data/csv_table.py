"""Tables with one row a line: comma, semicolon or tab between the cells.

Rule 1: all cells but labels and keys are numbers; there are as many in each line.
Rule 2: a cell may be in double quotes, and hold separators then, and a quote as two of them. It
        ends in its line: files are read by pieces of whole lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import isfinite
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paramserver.data.labels import Column
from paramserver.data.numbers import Cells, parse_cells
from paramserver.data.tables import BadCell, Table, blocks
from paramserver.training.checked import first_unfit

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
MISSING: Final = frozenset({"NA", "N/A", "n/a", "#N/A", "<NA>", "null", "NULL", "?"})
"""What programs write where there is no value; so no label or key is called like that."""
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
    weight, key : int, optional
        Places of the weight and of the key.
    left_out : tuple of int
        Places of columns that are nothing at all.
    comment : bytes
        What begins a comment: nothing does.
    """

    n_cells: int
    label: int
    separator: str = ","
    names: tuple[str, ...] | None = None
    weight: int | None = None
    key: int | None = None
    left_out: tuple[int, ...] = ()
    comment: bytes = b""

    @cached_property
    def features(self) -> list[int]:
        """Places of the columns of X."""
        taken = {self.label, self.weight, self.key, *self.left_out}
        return [place for place in range(self.n_cells) if place not in taken]

    @property
    def n_features(self) -> int:
        """Columns of X."""
        return len(self.features)

    @property
    def feature_names(self) -> tuple[str, ...] | None:
        """Names of the columns of X, if they have some."""
        if self.names is None:
            return None
        return tuple(self.names[place] for place in self.features)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the columns that are no features were taken for, in words."""
        said = [f"the label is {self._called(self.label)}"]
        if self.weight is not None:
            said.append(f"the weight of a row is {self._called(self.weight)}")
        if self.key is not None:
            said.append(f"rows are dealt out by {self._called(self.key)}")
        said += [f"column {place + 1} has no name, and is left out" for place in self.left_out]
        return tuple(said)

    def parse(self, text: bytes, dtype: np.dtype[Any]) -> Table:
        """Read rows.

        Raises
        ------
        BadCell
            If a line has too few or too many cells, a feature or a weight is no finite number, a
            weight is below 0, or a label or key is missing.
        """
        if b'"' in text:
            text = self._without_quotes(text)
        n = text.count(b"\n")
        X = np.empty((n, self.n_features), dtype)
        weight = None if self.weight is None else np.empty(n, dtype)
        label = _Words(self, self.label, "label", n)
        key = None if self.key is None else _Words(self, self.key, "key", n)
        separators = (self.separator + "\n").encode()
        for row, block in blocks(text):
            cells = parse_cells(block, separators, label.known_texts)
            values = self._as_rows(row, block, cells)
            rows = slice(row, row + len(values))
            with np.errstate(over="ignore"):  # said below
                for to, start, stop in self._runs:
                    X[rows, to : to + stop - start] = values[:, start:stop]
                if weight is not None and self.weight is not None:
                    weight[rows] = values[:, self.weight]
                    self._refuse_weights(row, weight[rows], block, cells)
            self._refuse_features(row, X[rows], block, cells)
            for words in (label, key):
                if words is not None:
                    words.take(row, values, block, cells, text)
        return Table(X, label.column(), weight, None if key is None else key.column())

    @cached_property
    def _runs(self) -> list[tuple[int, int, int]]:
        """Where columns that stand side by side go in X: (there, first, behind the last)."""
        bounds = [-1, *sorted(set(range(self.n_cells)) - set(self.features)), self.n_cells]
        runs, to = [], 0
        for before, stop in pairwise(bounds):
            if stop > before + 1:
                runs.append((to, before + 1, stop))
                to += stop - before - 1
        return runs

    def _called(self, place: int) -> str:
        return f"column {place + 1}" if self.names is None else f"column '{self.names[place]}'"

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
        if len(bad):
            i, j = map(int, bad[0])
            raise self._no_number(row, i, self.features[j], block, cells, X.dtype, "features")

    def _refuse_weights(
        self, row: int, weight: npt.NDArray[Any], block: bytes, cells: Cells
    ) -> None:
        i = first_unfit(weight)
        if i is None:
            return
        assert self.weight is not None
        if np.isfinite(weight[i]):
            raise BadCell(
                row + i,
                self.weight + 1,
                f"the weight is {weight[i]:g}; weights must be 0 or more",
            )
        raise self._no_number(row, i, self.weight, block, cells, weight.dtype, "weights")

    def _no_number(
        self, row: int, i: int, place: int, block: bytes, cells: Cells, dtype: Any, what: str
    ) -> BadCell:
        """Return what is wrong with a cell that should be a finite number."""
        cell = self.cell(i, place, block, cells).decode("utf-8", "replace")
        value = cells.values[i * self.n_cells + place]
        if not cell:
            reason = "the cell is empty. Fill such cells, or remove the line"
        elif np.isfinite(value):
            reason = f"{cell} is too large for {dtype}"
        elif is_float(cell) or cell in MISSING:
            reason = f"the value is {cell}. Fill such values, or remove the line"
        else:
            reason = f"'{cell[:SHOWN]}' is no number; {what} must be numbers"
            if is_float(cell.replace(",", ".")):
                reason += ", with a point before their decimals and nothing between thousands"
            elif what == "features":
                reason += (
                    ". Make numbers of that column (pandas.get_dummies gives each value a column "
                    "of its own), or leave it out; if it is the label, name it with --label"
                )
        return BadCell(row + i, place + 1, reason)

    def cell(self, i: int, place: int, block: bytes, cells: Cells) -> bytes:
        """Return a cell of row i of a block as it was in its quotes."""
        at = i * self.n_cells + place
        return self.bare(block[cells.starts[at] : cells.ends[at]])

    def bare(self, cell: bytes) -> bytes:
        """Return a cell as it was in its quotes."""
        return cell.strip().replace(WITHIN_QUOTES[self.separator], self.separator.encode())


class _Words:
    """Collects a column of labels or keys: numbers as long as all of them are, else texts."""

    def __init__(self, form: CsvForm, place: int, what: str, n: int) -> None:
        self._form = form
        self._place = place
        self._what = what
        self._numbers = np.empty(n)
        self._texts: list[bytes] = []

    @property
    def known_texts(self) -> slice:
        """Which cells are known to be no numbers."""
        return slice(self._place, None, self._form.n_cells) if self._texts else slice(0)

    def take(
        self, row: int, values: npt.NDArray[Any], block: bytes, cells: Cells, text: bytes
    ) -> None:
        """Take in the rows of a block, which begin with this row of the text."""
        rows = slice(row, row + len(values))
        self._numbers[rows] = values[:, self._place]
        if self._texts or not np.isfinite(self._numbers[rows]).all():
            if not self._texts:  # numbers so far
                self._texts = self._of_first(row, text)
            which = slice(self._place, None, self._form.n_cells)
            places = zip(cells.starts[which], cells.ends[which], strict=True)
            self._texts += [self._form.bare(block[start:end]) for start, end in places]

    def column(self) -> Column:
        """Return the whole column.

        Raises
        ------
        BadCell
            If a cell is empty or no finite number.
        """
        texts = self._texts
        if not texts:
            return Column(self._numbers)
        column = Column.of_texts(texts)
        for number, word in enumerate(column.texts or ()):
            if not word or word in MISSING or (is_float(word) and not isfinite(float(word))):
                bad = int(np.argmax(column.values == number))
                raise BadCell(bad, self._place + 1, f"the {self._what} is {word or 'empty'}")
        return column

    def _of_first(self, n: int, text: bytes) -> list[bytes]:
        """Return the cells of the first rows, as they are written."""
        separator = self._form.separator.encode()
        lines = text.split(b"\n", n)[:n]
        return [self._form.bare(line.split(separator)[self._place]) for line in lines]


def is_float(text: str) -> bool:
    """Say whether `float` makes a number of it."""
    try:
        float(text)
    except ValueError:
        return False
    return True
