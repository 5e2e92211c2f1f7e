"""What staleness does, and how much of it there is.

Theorem (delayed gradient). ``x[t+1] = x[t] - a x[t-tau]`` is stable if and only if
``0 < a < 2 sin(pi / (2 (2 tau + 1)))`` [1]_: a known delay sets a limit to the learning rate.

Theorem (conservation). Let p workers be always busy, each pulling in the same moment in which its
push is applied. A push of staleness s closes a gap of s versions and opens one of 1 for each of the
p - 1 others. So after N pushes the staleness of all of them and the gaps that are open add up to
``N (p - 1)``, whatever the speeds are, and the mean goes to p - 1.

Theorem (bound). With a staleness bound of s nobody is more than s steps ahead of the slowest [2]_.

References
----------
.. [1] Levin, May (1976), "A note on difference-delay equations".
.. [2] Ho et al. (2013), "More effective distributed ML via a stale synchronous parallel parameter
   server".
"""

from __future__ import annotations

from math import pi, sin

import numpy as np
import pytest

from paramserver.training.optimizers import SGD
from paramserver.training.push_pull import ParameterServer, Push, PushPullRules, Verdict
from tests.numerics.inprocess import Pushing
from tests.numerics.learners import Ledger, numbered_rows


def growth(tau: int, a: float, steps: int) -> float:
    """Fit the growth of ``x[t+1] = x[t] - a * x[t - tau]`` in a step, run by the machine itself."""
    server = ParameterServer(np.ones(1), SGD(a), [1 << 40], 1)
    server.join(1, 0, 0)
    history = [server.w]
    for t in range(steps):
        seen = max(0, t - tau)
        g = history[max(0, len(history) - 1 - tau)].copy()
        verdict = server.push(Push(1, t + 1, 0, 0, t, seen), g, np.empty(1))
        assert verdict is Verdict.APPLIED
        server.take_due()
        history.append(server.w)
        del history[: -tau - 1]
        if t >= tau:
            assert server.staleness[tau] == t - tau + 1
        # The sizes at two times, over a whole window so that the oscillation does not matter.
        if t == steps // 2:
            half = max(float(abs(x[0])) for x in history)
    end = max(float(abs(x[0])) for x in history)
    return float((end / half) ** (1.0 / (steps - steps // 2)))


@pytest.mark.parametrize(
    ("tau", "bound", "steps"),
    [(0, 2.0, 400), (1, 1.0, 400), (2, 0.618, 1000), (4, 0.3473, 2000), (9, 0.1652, 8000),
     (29, 0.0532, 40000)],
)  # fmt: skip
def test_a_delayed_gradient_is_stable_just_below_the_bound_and_not_above(
    tau: int, bound: float, steps: int
) -> None:
    exact = 2 * sin(pi / (2 * (2 * tau + 1)))
    assert exact == pytest.approx(bound, abs=5e-5)
    assert growth(tau, 0.99 * exact, steps) < 1
    assert growth(tau, 1.01 * exact, steps) > 1


@pytest.mark.parametrize("p", [1, 2, 3, 7])
@pytest.mark.parametrize("speeds", ["equal", "wild"])
def test_staleness_is_conserved(p: int, speeds: str) -> None:
    """With p workers always busy, the sum of staleness and of what is pending is N (p - 1)."""
    n = 40 * p
    rows = numbered_rows(n, p)
    pushing = Pushing(Ledger(n), rows, np.zeros(n), SGD(1.0), batch_size=1)
    pushing.open_epoch(0)
    rng = np.random.default_rng(p)
    rate = np.ones(p) if speeds == "equal" else rng.pareto(0.8, p) + 0.01
    ready = rng.exponential(1 / rate)
    server = pushing.server
    while pushing.can_step(k := int(ready.argmin())):  # until the first has nothing left to do
        pushing.step(k)
        ready[k] += rng.exponential(1 / rate[k])
    done = sum(value * count for value, count in server.staleness.items())
    pending = sum(server.version - view.version for view in pushing.views)
    assert done + pending == server.version * (p - 1)


def test_every_batch_is_applied_once_whatever_the_schedule() -> None:
    rng = np.random.default_rng(1)
    rows = numbered_rows(60, 3)
    w = Pushing(Ledger(60), rows, np.zeros(60), SGD(1.0), batch_size=4).run(
        1, lambda able: int(rng.choice(able))
    )
    assert np.array_equal(w, np.ones(60))


@pytest.mark.parametrize("bound", [1, 2, 5])
def test_no_partition_is_further_ahead_than_the_bound(bound: int) -> None:
    rows = numbered_rows(90, 3)
    rules = PushPullRules(staleness_bound=bound)
    pushing = Pushing(Ledger(90), rows, np.zeros(90), SGD(1.0), batch_size=1, rules=rules)
    furthest = 0

    def greedy(able: list[int]) -> int:
        nonlocal furthest
        unfinished = [pushing.cursor[k] for k in range(3) if pushing.cursor[k] < 30]
        furthest = max(furthest, max(unfinished) - min(unfinished))
        return able[0]  # the first one runs ahead as far as it may

    w = pushing.run(1, greedy)
    assert np.array_equal(w, np.ones(90))
    assert furthest == bound
