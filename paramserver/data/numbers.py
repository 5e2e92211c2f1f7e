"""Text into numbers, many at a time. Arithmetic only.

Rule 1: every number is the one that `float` makes of the same characters, to the last bit.
Rule 2: what is no number becomes NaN and is reported by its place; nothing is guessed.

Most cells of tables are short: a sign, digits, perhaps a point and more digits. Eight characters
are one machine word, and three multiplications turn a word of digits into the number they spell
[1]_. With 15 digits at most, the digits without the point and the power of ten below them are both
exact, so their quotient is rounded once, correctly [2]_. All other cells are given to `float`.

References
----------
.. [1] Lemire (2021), "Number parsing at a gigabyte per second".
.. [2] Clinger (1990), "How to read floating point numbers accurately", PLDI.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

_ZERO, _NINE, _POINT, _MINUS, _PLUS = b"09.-+"
_WORD: Final = 8
"""Characters of one word."""
_MAX_DIGITS: Final = 15
"""As many digits always fit into the 53 bits of a float64."""
_TENS: Final = 10.0 ** np.arange(_MAX_DIGITS + 1)
_TENS_INT: Final = 10 ** np.arange(_MAX_DIGITS + 1, dtype=np.int64)
_LOW: Final = np.uint64(0x0F0F0F0F0F0F0F0F)
_STEPS: Final = tuple(
    (np.uint64(mask), np.uint64(factor), np.uint64(shift))
    for mask, factor, shift in (
        (0x0F0F0F0F0F0F0F0F, 10 * 2**8 + 1, 8),
        (0x00FF00FF00FF00FF, 100 * 2**16 + 1, 16),
        (0x0000FFFF0000FFFF, 10_000 * 2**32 + 1, 32),
    )
)
"""Pairs of digits become numbers below 100, pairs of these numbers below 10,000, and so on."""


class Cells(NamedTuple):
    """The cells of a text.

    Attributes
    ----------
    values : ndarray of shape (n,), float64
        NaN where a cell is no number (or says "nan").
    starts, ends : ndarray of shape (n,)
        Where each lies in the text; the character at its end is the separator.
    """

    values: npt.NDArray[np.float64]
    starts: npt.NDArray[np.intp]
    ends: npt.NDArray[np.intp]


def parse_cells(text: bytes, separators: bytes, no_numbers: slice = slice(0)) -> Cells:
    """Read all cells of a text that ends with a separator.

    Parameters
    ----------
    text : bytes
    separators : bytes
        Each of its characters ends a cell. Neither digits nor signs nor the point.
    no_numbers : slice
        Cells that are not worth a look, because they are known to be text.

    Notes
    -----
    Takes some 40 passes over arrays as long as there are cells: give it pieces that fit the cache.
    """
    padded = np.empty(len(text) + 2 * _WORD, np.uint8)  # words may begin before the text
    padded[:_WORD] = padded[-_WORD:] = 0
    padded[_WORD:-_WORD] = np.frombuffer(text, np.uint8)
    symbols = padded[_WORD:-_WORD]
    places = np.flatnonzero((symbols - np.uint8(_ZERO)) > _NINE - _ZERO)  # of all but digits
    kinds = symbols[places]
    is_end = np.zeros(256, bool)
    is_end[list(separators)] = True
    last = np.flatnonzero(is_end[kinds])
    ends = places[last]
    starts = np.empty_like(ends)
    starts[:1] = 0
    np.add(ends[:-1], 1, out=starts[1:])
    digits_from, point, is_plain, minus = _find_digits(places, kinds, last, starts, ends)
    n_whole = point - digits_from
    n_part = np.maximum(ends - point - 1, 0)
    n_digits = n_whole + n_part
    is_plain &= (n_digits > 0) & (n_digits <= _MAX_DIGITS)
    words = np.ndarray(len(padded) - _WORD + 1, np.dtype("<u8"), padded, strides=(1,))
    number = _digits(words, point, n_whole, is_plain)
    if n_part.any():
        n_part = np.where(is_plain, n_part, 0)
        number *= _TENS_INT.take(n_part)
        number += _digits(words, ends, n_part, is_plain)
        values = number.astype(np.float64)
        values /= _TENS.take(n_part)
    else:
        values = number.astype(np.float64)
    if minus is not None:
        np.negative(values, out=values, where=minus)  # -0 is a number of its own
    cells = Cells(values, starts, ends)
    is_plain[no_numbers] = True
    _parse_rest(text, separators, cells, np.flatnonzero(~is_plain))
    values[no_numbers] = np.nan
    return cells


def _find_digits(
    places: npt.NDArray[np.intp],
    kinds: npt.NDArray[np.uint8],
    last: npt.NDArray[np.intp],
    starts: npt.NDArray[np.intp],
    ends: npt.NDArray[np.intp],
) -> tuple[
    npt.NDArray[np.intp], npt.NDArray[np.intp], npt.NDArray[np.bool_], npt.NDArray[np.bool_] | None
]:
    """Return where in each cell its digits begin, and its point or its end.

    Parameters
    ----------
    places, kinds : ndarray
        Of all characters but digits: where, and which.
    last : ndarray of shape (n,)
        Which of these ends each cell.
    starts, ends : ndarray of shape (n,)
        Where each cell begins, and that character.

    Returns
    -------
    digits_from, point : ndarray of shape (n,)
    is_plain : ndarray of shape (n,), bool
        Whether there is nothing else but a sign at the beginning.
    minus : ndarray of shape (n,), bool, or None
        Whether that is a minus; None if there is none anywhere.
    """
    n_other = np.diff(last, prepend=-1) - 1  # signs, points and what else is in each cell
    if not n_other.any():
        return starts, ends, n_other == 0, None
    first = last - n_other
    first_kind = kinds[first]
    is_minus = first_kind == _MINUS
    has_sign = (n_other > 0) & (is_minus | (first_kind == _PLUS)) & (places[first] == starts)
    before = np.maximum(last - 1, 0)
    has_point = (n_other > 0) & (kinds[before] == _POINT)
    is_plain = n_other == has_sign.view(np.uint8) + has_point.view(np.uint8)
    point = np.where(has_point, places[before], ends)
    return starts + has_sign, point, is_plain, has_sign & is_minus


def _digits(
    words: npt.NDArray[np.uint64],
    ends: npt.NDArray[np.intp],
    lengths: npt.NDArray[np.intp],
    is_plain: npt.NDArray[np.bool_],
) -> npt.NDArray[np.int64]:
    """Return the numbers spelt by runs of digits that end at `ends`; 0 for runs of none."""
    short = np.minimum(lengths, _WORD)
    number = _word_of_digits(words[ends], short)  # the padding makes the word END there
    long = np.flatnonzero((lengths > _WORD) & is_plain)
    if len(long):
        high = _word_of_digits(words[ends[long] - _WORD], lengths[long] - _WORD)
        number[long] += high * 10**_WORD
    return number


def _word_of_digits(
    word: npt.NDArray[np.uint64], n_digits: npt.NDArray[np.intp]
) -> npt.NDArray[np.int64]:
    """Return the number that the last `n_digits` characters of each word spell."""
    foreign = ((_WORD - n_digits) * 8).astype(np.uint64)  # bits of characters before the digits
    word = np.left_shift(np.right_shift(word, foreign), foreign)
    for mask, factor, shift in _STEPS:
        word &= mask
        word *= factor
        word >>= shift
    return word.view(np.int64)


def _parse_rest(text: bytes, separators: bytes, cells: Cells, which: npt.NDArray[np.intp]) -> None:
    """Give the cells that are not plain to `float`."""
    if len(which) > len(cells.values) // 4:  # cutting all of them is cheaper then
        same = bytes.maketrans(separators, separators[:1] * len(separators))
        found = text.translate(same).split(separators[:1])[:-1]
        which = np.arange(len(found))
    else:
        places = zip(cells.starts[which].tolist(), cells.ends[which].tolist(), strict=True)
        found = [text[start:end] for start, end in places]
    try:
        if b"_" in text:
            raise ValueError
        cells.values[which] = list(map(float, found))
    except ValueError:
        cells.values[which] = list(map(_number_or_nan, found))


def _number_or_nan(cell: bytes) -> float:
    try:
        return float(cell) if b"_" not in cell else np.nan  # 1_000 is Python, not data
    except ValueError:
        return np.nan
