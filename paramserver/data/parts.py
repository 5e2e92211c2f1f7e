"""The parts of a data set in files, each of which can be read for itself, anywhere.

Rule 1: a part is small and travels in messages; reading it twice gives the same rows.
Rule 2: what is wrong is said with the file and the line (or row) and column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from paramserver.data.blocks import FileRange
from paramserver.data.csv_table import CsvForm
from paramserver.data.labels import Column
from paramserver.data.lines import line_number, read_rows
from paramserver.data.svmlight import SvmlightForm
from paramserver.data.tables import BadCell, Table
from paramserver.errors import DataError
from paramserver.training.array_file import ArrayFile
from paramserver.training.checked import first_unfit

TextForm: TypeAlias = CsvForm | SvmlightForm


class Part(Protocol):
    """Some consecutive rows of a file."""

    @property
    def name(self) -> str:
        """What the user calls the file."""

    @property
    def n_bytes(self) -> int:
        """Size in the file."""

    def count(self) -> int:
        """Count the rows."""

    def read(self, dtype: np.dtype[Any]) -> Table:
        """Return the rows, with all numbers in X finite."""


@dataclass(frozen=True)
class TextPart:
    """Rows in lines of text.

    Attributes
    ----------
    name : str
    piece : FileRange
        Of the plain text.
    form : CsvForm or SvmlightForm
    n_skipped : int
        Rows at its beginning that are a header.
    """

    name: str
    piece: FileRange
    form: TextForm
    n_skipped: int = 0

    @property
    def n_bytes(self) -> int:
        """Size in the file."""
        return self.piece.stop - self.piece.start

    def count(self) -> int:
        """Count the rows."""
        return self._rows().count(b"\n")

    def read(self, dtype: np.dtype[Any]) -> Table:
        """Return the rows, with all numbers in X finite."""
        try:
            return self.form.parse(self._rows(), dtype)
        except BadCell as bad:
            line = line_number(self.piece, bad.row + self.n_skipped, self._comment)
            where = f"line {line}" if bad.column is None else f"line {line}, column {bad.column}"
            raise DataError(f"{self.name}: {where}: {bad.reason}.", path=self.name) from bad

    @property
    def _comment(self) -> bytes:
        return self.form.comment

    def _rows(self) -> bytes:
        text = read_rows(self.piece, self._comment)
        if self.piece.start == 0:
            text = text.removeprefix(b"\xef\xbb\xbf")
        for _ in range(self.n_skipped):
            text = text[text.find(b"\n") + 1 :]
        return text


@dataclass(frozen=True)
class ArrayPart:
    """Rows of arrays in files.

    Attributes
    ----------
    name : str
    X, y : ArrayFile
    start, stop : int
        Rows.
    weight, key : ArrayFile, optional
    """

    name: str
    X: ArrayFile
    y: ArrayFile
    start: int
    stop: int
    weight: ArrayFile | None = None
    key: ArrayFile | None = None

    @property
    def n_bytes(self) -> int:
        """Size in the file."""
        return (self.stop - self.start) * self.X.row_bytes

    def count(self) -> int:
        """Count the rows."""
        return self.stop - self.start

    def read(self, dtype: np.dtype[Any]) -> Table:
        """Return the rows, with all numbers in X finite."""
        given = self.X.open()[self.start : self.stop]
        with np.errstate(over="ignore"):
            X = given.astype(dtype)
        if not np.isfinite(_sum(X)) and not np.isfinite(X).all():
            row, column = map(int, np.argwhere(~np.isfinite(X))[0])
            value = given[row, column]
            reason = " Fill or remove such values first."
            if np.isfinite(value):
                reason = f" It is too large for {dtype}."
            raise DataError(
                f"{self.name}: row {self.start + row} has {value} in feature {column} (counted "
                f"from 0).{reason}",
                path=self.name,
            )
        y = self.column("y")
        assert y is not None
        return Table(X, y, self._weights(dtype), self.column("key"))

    def column(self, name: str) -> Column | None:
        """Return the labels (``"y"``) or the keys (``"key"``); None where there are none."""
        file = {"y": self.y, "key": self.key}.get(name)
        return None if file is None else self._column(file, "label" if name == "y" else name)

    def _weights(self, dtype: np.dtype[Any]) -> npt.NDArray[Any] | None:
        if self.weight is None:
            return None
        given = self.weight.open()[self.start : self.stop]
        with np.errstate(over="ignore"):
            weight = given.astype(dtype)
        row = first_unfit(weight)
        if row is not None:
            raise DataError(
                f"{self.name}: the weight of row {self.start + row} is {given[row]}; weights must "
                f"be finite in {dtype}, and 0 or more.",
                path=self.name,
            )
        return weight

    def _column(self, file: ArrayFile, what: str) -> Column:
        given = file.open()[self.start : self.stop]
        if given.dtype.kind in "US":
            return Column.of_texts(text.encode() for text in given.astype(str).tolist())
        values = given.astype(np.float64)
        if not np.isfinite(values).all():
            row = int(np.argmin(np.isfinite(values)))
            raise DataError(
                f"{self.name}: the {what} of row {self.start + row} is {values[row]}.",
                path=self.name,
            )
        return Column(values)


def _sum(X: npt.NDArray[Any]) -> Any:
    with np.errstate(all="ignore"):
        return X.sum()
