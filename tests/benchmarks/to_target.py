"""How long it takes until a model is good enough: one rule for us and all peers.

Rule 1: a score counts as reached with a pass when it is at the target then and with the next one;
        the time is that of the second, as who trains can stop no sooner.
Rule 2: evaluation is never on the clock; every copy that a contender needs is.
Rule 3: everyone has the pick of the same learning rates, made on a seed that does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple, TypeAlias

from tests.benchmarks.resources import Meter
from tests.benchmarks.row import Measured, Metric

BUDGET_S = 15.0
"""For a contender's runs that count, evaluation included; at least one is made."""


class Pass(NamedTuple):
    """How far a training was after one more pass over the data."""

    wall_s: float
    cpu_s: float
    score: float


Trainer: TypeAlias = Callable[[float, int], Iterator[Pass]]
"""(learning rate, seed) -> what there is after each pass; it goes on until nobody asks."""


@dataclass(frozen=True)
class Task:
    """What is to be reached.

    Parameters
    ----------
    target : float
    rates : sequence of float
        Learning rates to choose from; whatever is slower than the best so far is given up, so
        likely ones come first.
    max_passes : int
        Who has not reached the target by then does not.
    n_seeds : int
    """

    target: float
    rates: Sequence[float]
    max_passes: int
    n_seeds: int = 5

    def metrics(self, goal: float | None) -> tuple[Metric, ...]:
        """What `measure` tells."""
        return (
            Metric("time", "s", goal=goal),
            Metric("CPU", "s"),
            Metric("passes", "of the data"),
            Metric("memory", "MB"),
        )

    def measure(self, train: Trainer, *, quick: bool, has_rates: bool = True) -> Measured:
        """Pick the rate, then train with several seeds; the run in the middle is told."""
        if quick:
            return self._measure_quickly(train)
        rate = self._pick(train) if has_rates else self.rates[0]
        with Meter() as meter:
            runs: list[list[Pass]] = []
            began = perf_counter()
            while len(runs) < self.n_seeds and (not runs or perf_counter() - began < BUDGET_S):
                runs.append(self._run(train, rate, 1 + len(runs)))
        told = f"{len(runs)} seeds" + (f", rate {rate:g}" if has_rates else "")
        measured: Measured = {"memory": meter.peak_mb}
        middle = sorted(runs, key=self._order)[len(runs) // 2]
        if not self._is_reached(middle):
            top = max((after for run in runs for after in run), key=lambda after: after.score)
            found = f"best {top.score:.4f} after {top.wall_s:.2f} s"
            return measured | {"outcome": f"{self.target:g} not reached; {found}; {told}"}
        return measured | {
            "time": middle[-1].wall_s,
            "CPU": middle[-1].cpu_s,
            "passes": len(middle),
            "outcome": told,
        }

    def _measure_quickly(self, train: Trainer) -> Measured:
        """Take two passes, whatever score they lead to."""
        with Meter() as meter:
            passes = train(self.rates[0], 0)
            next(passes)
            last = next(passes)
        assert 0 <= last.score <= 1
        return {"time": last.wall_s, "CPU": last.cpu_s, "passes": 2, "memory": meter.peak_mb}

    def _order(self, run: list[Pass]) -> float:
        return run[-1].wall_s if self._is_reached(run) else float("inf")

    def _pick(self, train: Trainer) -> float:
        """Return the rate that is fastest with seed 0; without any, that with the best score."""
        best: tuple[bool, float, float] | None = None
        for rate in self.rates:
            limit_s = -best[1] if best is not None and best[0] else float("inf")
            run = self._run(train, rate, 0, limit_s)
            if self._is_reached(run):
                found = (True, -run[-1].wall_s, rate)
            else:
                found = (False, max(p.score for p in run), rate)
            best = found if best is None else max(best, found)
        assert best is not None
        return best[2]

    def _run(
        self, train: Trainer, rate: float, seed: int, limit_s: float = float("inf")
    ) -> list[Pass]:
        """Train until the target is reached, or cannot be reached within the limits."""
        run: list[Pass] = []
        for after in train(rate, seed):
            run.append(after)
            if self._is_reached(run) or len(run) == self.max_passes or after.wall_s > limit_s:
                break
        return run

    def _is_reached(self, run: list[Pass]) -> bool:
        return len(run) > 1 and all(p.score >= self.target for p in run[-2:])
