"""Are labels classes or numbers, and which class is which number?

Rule 1: it is decided once, from all rows: text is classes; whole numbers are, if they are few.
Rule 2: classes are numbered in the order of their names, or of their numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paramserver.errors import DataError

MAX_CLASSES: Final = 100
"""Whole numbers with more different values than this are taken for numbers to predict."""
MAX_TEXTS: Final = 1 << 16
"""More different texts than this are no labels."""


@dataclass(frozen=True)
class Column:
    """The labels of some rows: numbers, or texts by their numbers.

    Attributes
    ----------
    values : ndarray of shape (n,)
        float64 numbers; with `texts` the place of each row's text there.
    texts : tuple of str, optional
    """

    values: npt.NDArray[Any]
    texts: tuple[str, ...] | None = None

    @classmethod
    def of_texts(cls, cells: Iterable[bytes]) -> Column:
        """Number texts in UTF-8 as they come."""
        known: dict[bytes, int] = {}
        values = [known.setdefault(cell, len(known)) for cell in cells]
        texts = tuple(text.decode("utf-8", "replace") for text in known)
        return cls(np.array(values, np.int64), texts)

    def take(self, rows: npt.NDArray[Any]) -> Column:
        """Gather rows by their numbers."""
        return Column(self.values[rows], self.texts)

    def kinds(self) -> tuple[bool, tuple[Any, ...] | None]:
        """Return whether these are texts, and the different values; None if they are too many."""
        if self.texts is not None:
            return True, self.texts if len(self.texts) <= MAX_TEXTS else None
        found = np.unique(self.values)
        return False, tuple(found.tolist()) if len(found) <= MAX_TEXTS else None


@dataclass(frozen=True)
class Meaning:
    """What labels stand for.

    Attributes
    ----------
    classes : tuple or None
        By number; None if the labels are numbers to predict.
    """

    classes: tuple[Any, ...] | None

    def __str__(self) -> str:
        if self.classes is None:
            return "numbers to predict"
        names = ", ".join(map(str, self.classes[:5]))
        return f"classes ({names}{', ...' if len(self.classes) > 5 else ''})"

    def encode(self, column: Column, path: str) -> npt.NDArray[Any]:
        """Return class numbers, or the numbers.

        Raises
        ------
        DataError
            If there is a label that is none of the classes.
        """
        if self.classes is None:
            if column.texts is not None:
                text = next(text for text in column.texts if _number(text) is None)
                raise DataError(f"{path}: the label '{text}' is no number.", path=path)
            return column.values
        is_text = isinstance(self.classes[0], str)
        if column.texts is None and not is_text:
            known = np.array(self.classes)
            place = np.minimum(np.searchsorted(known, column.values), len(known) - 1)
            unknown = known[place] != column.values
            if unknown.any():
                raise _unknown(name_of(column.values[int(unknown.argmax())]), path)
            return place.astype(np.int64)
        texts, of_row = column.texts, column.values
        if texts is None:
            values, of_row = np.unique(column.values, return_inverse=True)
            texts = tuple(map(name_of, values.tolist()))
        numbers = {name_of(name): number for number, name in enumerate(self.classes)}
        names = [name_of(text) for text in texts]
        for name in names:
            if name not in numbers:
                raise _unknown(name, path)
        number_of = np.array([numbers[name] for name in names], np.int64)
        return number_of.take(of_row.reshape(-1))


def decide(found: Sequence[tuple[bool, tuple[Any, ...] | None]], path: str) -> Meaning:
    """Decide what labels stand for, from the `kinds` of all pieces.

    Raises
    ------
    DataError
        If they are different texts without number.
    """
    values: set[Any] | None = set()
    for _, some in found:
        values = None if values is None or some is None else values | set(some)
    if any(is_text for is_text, _ in found):
        names = None if values is None else sorted({name_of(value) for value in values})
        if names is None or len(names) > MAX_TEXTS:
            raise DataError(
                f"{path} has more than {MAX_TEXTS:,} different labels that are no numbers. Name "
                "the column of the label with --label.",
                path=path,
            )
        return Meaning(tuple(names))
    if values is None or len(values) > MAX_CLASSES or not all(map(float.is_integer, values)):
        return Meaning(None)
    return Meaning(tuple(int(value) for value in sorted(values)))


def name_of(label: Any) -> str:
    """Return how a label is written: numbers that are equal have one name."""
    number = _number(label) if isinstance(label, str) else label
    if number is None:
        return str(label)
    return str(int(number)) if float(number).is_integer() else repr(float(number))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _unknown(name: str, path: str) -> DataError:
    return DataError(f"{path} has the label '{name}', which no row to train on has.", path=path)
