"""The staleness of many updates, in a few numbers. Arithmetic only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def summarise(staleness: Mapping[int, int]) -> dict[str, Any]:
    """Return mean, percentiles and histogram of a count of updates by staleness.

    A percentile is the least staleness that so many percent of the updates do not pass.

    Examples
    --------
    >>> from paramserver.training.staleness import summarise
    >>> summarise({0: 90, 1: 7, 9: 3})
    {'mean': 0.34, 'p50': 0, 'p95': 1, 'max': 9, 'histogram': {'0': 90, '1': 7, '9': 3}}
    """
    counts = sorted((value, n) for value, n in staleness.items() if n)
    total = sum(n for _, n in counts)
    if not total:
        return {"mean": 0.0, "p50": 0, "p95": 0, "max": 0, "histogram": {}}
    return {
        "mean": sum(value * n for value, n in counts) / total,
        "p50": _percentile(counts, 50, total),
        "p95": _percentile(counts, 95, total),
        "max": counts[-1][0],
        "histogram": {str(value): n for value, n in counts},
    }


def _percentile(counts: list[tuple[int, int]], q: int, total: int) -> int:
    seen = 0
    for value, n in counts:
        seen += n
        if 100 * seen >= q * total:
            return value
    raise AssertionError("the counts add up to the total")
