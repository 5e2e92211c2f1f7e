"""How long a round, or an update, takes when the speeds of the workers are left to chance.

Theorem. Let p workers need independent, exponentially distributed times of rate mu. With the
harmonic numbers ``H_n = 1 + 1/2 + ... + 1/n``, in the mean

- a synchronous step takes ``H_p / mu``: the last of p arrivals;
- waiting for k of p, the late ones cancelled and all started anew, ``(H_p - H_{p-k}) / mu``;
- an update of asynchronous SGD ``1 / (p mu)``: the arrivals of p workers are a Poisson process.

Here the package's own machines run under a clock that is simulated: they are told who is done next,
and what they ask for takes its time.

References
----------
.. [1] Renyi (1953), "On the theory of order statistics": the mean of the k-th of p exponentials.
.. [2] Chen, Pan, Monga, Bengio, Jozefowicz (2016), "Revisiting distributed synchronous SGD":
   backup workers, the k of p.
.. [3] Dutta, Joshi, Ghosh, Dube, Nagpurkar (2018), "Slow and stale gradients can win the race",
   section 4: the three formulas.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from math import sqrt

import numpy as np
import pytest

from paramserver.training.averaging import Averaging, Command, Finish, Fold, StartRound
from paramserver.training.optimizers import SGD
from paramserver.training.push_pull import PushPullRules
from tests.numerics.inprocess import Pushing
from tests.numerics.learners import LeastSquares, numbered_rows

MU = 0.5
STANDARD_ERRORS = 4.0


def harmonic(n: int) -> float:
    return sum(1 / i for i in range(1, n + 1))


class RoundClock:
    """Runs an `Averaging` machine; a partition's work takes as long as `draw` says."""

    def __init__(self, machine: Averaging, draw: Callable[[], float]) -> None:
        self.machine = machine
        self.draw = draw
        self.now = 0.0
        self.folds: list[float] = []
        """When each round was folded."""
        self._ends: list[tuple[float, int, int]] = []
        """Of the work that is going on: when it will end, its round, its partition."""

    def run(self) -> None:
        self._perform(self.machine.start())
        while self._ends:
            self.now, number, k = heapq.heappop(self._ends)
            self._perform(self.machine.done(number, k))

    def _perform(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case StartRound(number, partitions):
                    for k in partitions:
                        heapq.heappush(self._ends, (self.now + self.draw(), number, k))
                case Fold(number, late=late):
                    self.folds.append(self.now)
                    self._perform(self.machine.folded())
                    self._cancel(number, late)
                case Finish():
                    self._ends.clear()

    def _cancel(self, number: int, late: tuple[int, ...]) -> None:
        """Stop the work of a round that is over; its workers say so at once."""
        self._ends = [end for end in self._ends if end[1] != number or end[2] not in late]
        heapq.heapify(self._ends)
        for k in late:
            self._perform(self.machine.done(number, k))


def assert_mean(durations: np.ndarray, expected: float) -> None:
    error = float(durations.std(ddof=1)) / sqrt(len(durations))
    assert error < 0.03 * expected  # else the test would say little
    assert float(durations.mean()) == pytest.approx(expected, abs=STANDARD_ERRORS * error)


@pytest.mark.parametrize(
    ("p", "wait_for", "expected"),
    [(1, None, 1.0), (4, None, 2.0833), (10, None, 2.929), (10, 8, 1.429), (10, 1, 0.1)],
)  # fmt: skip
def test_a_round_takes_as_long_as_the_order_statistics_say(
    p: int, wait_for: int | None, expected: float
) -> None:
    k = wait_for or p
    formula = harmonic(p) - harmonic(p - k)
    assert formula == pytest.approx(expected, abs=5e-4)
    rounds = 4000
    rng = np.random.default_rng([p, k])
    clock = RoundClock(
        Averaging([1] * p, rounds, wait_for=wait_for), lambda: float(rng.exponential(1 / MU))
    )
    clock.run()
    assert len(clock.folds) == rounds
    assert clock.machine.counters["cancelled"] == rounds * (p - k)
    assert_mean(np.diff([0.0, *clock.folds]), formula / MU)


def run_pushes(p: int, n: int, bound: int | None) -> np.ndarray:
    """Let p workers push n times each, as their exponential speeds say; return the gaps between
    updates until the first of them has nothing left to do.
    """
    rng = np.random.default_rng([p, n])
    parts = numbered_rows(n * p, p)
    rules = PushPullRules(staleness_bound=bound)
    pushing = Pushing(LeastSquares(1), parts, np.zeros(1), SGD(1e-9), batch_size=1, rules=rules)
    pushing.open_epoch(0)
    ends = [(float(rng.exponential(1 / MU)), k) for k in range(p)]
    heapq.heapify(ends)
    updates = [0.0]
    while pushing.can_step(ends[0][1]):
        now, k = heapq.heappop(ends)
        before = pushing.server.version
        was_waiting = pushing.waiting | {k}
        pushing.step(k)
        updates += [now] * (pushing.server.version - before)
        for j in was_waiting - pushing.waiting:  # those who were answered go on
            heapq.heappush(ends, (now + float(rng.exponential(1 / MU)), j))
        if not ends:
            break
    return np.diff(updates)


@pytest.mark.parametrize("p", [1, 3, 10])
def test_an_asynchronous_update_takes_a_p_th_of_a_worker_s_time(p: int) -> None:
    assert_mean(run_pushes(p, 6000 // p, None), 1 / (p * MU))


@pytest.mark.parametrize("p", [2, 10])
def test_a_staleness_bound_of_zero_waits_for_the_slowest(p: int) -> None:
    assert_mean(run_pushes(p, 1500, 0), harmonic(p) / MU)
