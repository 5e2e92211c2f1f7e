"""Which rows of a file are held out, and how chance deals out the others. Arithmetic on numbers.

Rule 1: it follows from the number of the row and the seed alone, so whoever reads any piece of a
        file knows it of its rows, and nobody needs a list of all rows.
Rule 2: of every `HELD_OUT` rows in a row one is held out; of every p rows to train on in a row each
        partition gets one. So a file that is sorted by label makes partitions that are alike.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

HELD_OUT: Final = 5
"""One row of so many is held out."""


class Split(NamedTuple):
    """Which of some consecutive rows of a file are held out.

    Attributes
    ----------
    is_train : ndarray of shape (n,), bool
    number : ndarray of int64
        Numbers of the rows to train on, among all rows to train on of the file.
    """

    is_train: npt.NDArray[np.bool_]
    number: npt.NDArray[np.int64]


def split_rows(first: int, n: int, seed: int, *, hold_out: bool = True) -> Split:
    """Return which of n rows are held out.

    Parameters
    ----------
    first, n : int
        Number of the first of these rows in its file, and how many they are.
    seed : int
    hold_out : bool
        False: none is.
    """
    row = np.arange(first, first + n, dtype=np.int64)
    if not hold_out:
        return Split(np.ones(n, bool), row)
    block, at = np.divmod(row, HELD_OUT)
    chosen = _chosen(block, seed)
    is_train = chosen != at
    return Split(is_train, (row - block - (chosen < at))[is_train])


def n_held_out(n: int, seed: int) -> int:
    """Return how many of the first n rows are held out."""
    block, rest = divmod(n, HELD_OUT)
    return block + int(_chosen(np.array([block]), seed)[0] < rest)


def deal(number: npt.NDArray[np.int64], p: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the partition of each row to train on: its rank by chance among the p of its block.

    Parameters
    ----------
    number : ndarray of int64
        Numbers of rows; of a block of p in a row, each partition gets one.
    p : int
        Number of partitions.
    seed : int
    """
    if p == 1 or not len(number):
        return np.zeros(len(number), np.int64)
    low = int(number.min()) // p * p
    high = -(-(int(number.max()) + 1) // p) * p
    chance = _mix(np.arange(low, high), seed, 2).reshape(-1, p)
    rank = np.argsort(np.argsort(chance, axis=1, kind="stable"), axis=1, kind="stable")
    return rank.reshape(-1)[number - low]


def _chosen(block: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """Return which row of each block is held out."""
    return (_mix(block, seed, 1) % np.uint64(HELD_OUT)).astype(np.int64)


def _mix(number: npt.NDArray[np.int64], seed: int, stream: int) -> npt.NDArray[np.uint64]:
    """Return 64 bits of chance for each number.

    References
    ----------
    .. [1] Steele, Lea, Flood (2014), "Fast splittable pseudorandom number generators", fig. 17.
    """
    start = np.random.SeedSequence(seed, spawn_key=(stream,)).generate_state(1, np.uint64)
    z = number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + start
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
