"""What the workers run in `test_large_phases`."""

from __future__ import annotations

from typing import Any

import numpy as np


def doubled(number: int) -> int:
    """Something that tells the jobs of a phase apart."""
    return 2 * number


def checksum(inputs: list[int]) -> int:
    """A number that changes when two inputs change places."""
    return sum(index * value for index, value in enumerate(inputs))


def sum_of_all(inputs: list[Any]) -> float:
    """Add up all there is."""
    return float(np.sum(inputs))


def ones(n_arrays: int, n: int) -> list[Any]:
    """Many arrays, each large enough for a frame of its own."""
    return [np.ones(n) for _ in range(n_arrays)]
