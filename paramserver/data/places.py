"""Where each row of a file goes: held out, or into a partition. Arithmetic on row numbers.

Rule 1: it follows from the number of the row and the seed alone, so whoever reads any piece of a
        file knows the places of its rows, and nobody needs a list of all rows.
Rule 2: of every `HELD_OUT` rows in a row one is held out; of every p rows to train on in a row each
        partition gets one. So a file that is sorted by label makes partitions that are alike.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

HELD_OUT: Final = 5
"""One row of so many is held out."""


class Places(NamedTuple):
    """Where some consecutive rows of a file go.

    Attributes
    ----------
    group : ndarray of shape (n,), int64
        The partition; -1 for rows held out.
    position : ndarray of shape (n,), int64
        The place of each row in its group.
    """

    group: npt.NDArray[np.int64]
    position: npt.NDArray[np.int64]


def place_rows(first: int, n: int, p: int, seed: int, *, hold_out: bool) -> Places:
    """Return where n rows go.

    Parameters
    ----------
    first, n : int
        Number of the first of these rows in its file, and how many they are.
    p : int
        Number of partitions.
    seed : int
    hold_out : bool
        Whether some are held out.
    """
    row = np.arange(first, first + n, dtype=np.int64)
    if not hold_out:
        return Places(_deal(row, p, seed), row // p)
    block, at = np.divmod(row, HELD_OUT)
    chosen = _chosen(block, seed)
    number = row - block - (chosen < at)  # among the rows to train on
    is_test = chosen == at
    group = np.where(is_test, -1, _deal(number, p, seed))
    return Places(group, np.where(is_test, block, number // p))


def n_held_out(n: int, seed: int) -> int:
    """Return how many of the first n rows are held out."""
    block, rest = divmod(n, HELD_OUT)
    return block + int(_chosen(np.array([block]), seed)[0] < rest)


def sizes(n: int, p: int, seed: int) -> list[int]:
    """Return how many of n rows to train on each of p partitions gets."""
    rest = _deal(np.arange(n // p * p, n), p, seed)
    counts = np.bincount(rest, minlength=p) + n // p
    return [int(count) for count in counts]


def _chosen(block: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """Return which row of each block is held out."""
    return (_mix(block, seed, 1) % np.uint64(HELD_OUT)).astype(np.int64)


def _deal(number: npt.NDArray[np.int64], p: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the partition of each row: its rank by chance among the p rows of its block."""
    if p == 1 or not len(number):
        return np.zeros(len(number), np.int64)
    low = int(number.min()) // p * p
    high = -(-(int(number.max()) + 1) // p) * p
    chance = _mix(np.arange(low, high), seed, 2).reshape(-1, p)
    rank = np.argsort(np.argsort(chance, axis=1, kind="stable"), axis=1, kind="stable")
    return rank.reshape(-1)[number - low]


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
