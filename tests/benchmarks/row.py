"""A row of the benchmark: who takes part, what is measured, what we want to reach."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Measured: TypeAlias = dict[str, float | int | str]
"""Numbers by the name of the metric; `outcome` says in words why some are missing."""


@dataclass(frozen=True)
class Metric:
    """One number of a row."""

    name: str
    unit: str
    goal: float | None = None
    more_is_better: bool = False


@dataclass(frozen=True)
class Row:
    """One workload.

    `measure(contender, quick)` runs in a fresh process of its own, and raises ModuleNotFoundError
    where the contender is not installed. `quick` asks for a size that only shows that it works.
    """

    key: str
    title: str
    contenders: tuple[str, ...]
    metrics: tuple[Metric, ...]
    measure: Callable[[str, bool], Measured]
    limit_s: float = 300.0
    n_repeats: int = 5
    note: str = ""
    """What a reader of the table must know."""


def median_time(action: Callable[[], object], n_repeats: int = 5, budget_s: float = 10.0) -> float:
    """Return the median duration of an action, repeated as often as the budget allows."""
    durations: list[float] = []
    while len(durations) < n_repeats and sum(durations) < budget_s:
        start = time.perf_counter()
        action()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)
