"""The staleness that real processes have: p - 1 in the mean, as the theorem in `test_staleness`.

It holds while all are busy: from when the last one has joined to when the first one has nothing
left to do. So the pushes of a real training are written down, and those between two moments of
alternation are looked at: there the open gaps are equal, and the mean is p - 1 to the last push.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest

import paramserver as ps
from paramserver.training.push_pull import ParameterServer, Push, Verdict
from paramserver.training.vector import FloatVector
from tests.numerics.learners import Ledger


class Applied(NamedTuple):
    partition: int
    version: int
    seen: int


@pytest.fixture
def applied(monkeypatch: pytest.MonkeyPatch) -> list[Applied]:
    """What the parameter server, which is in this process, applies."""
    log: list[Applied] = []
    original = ParameterServer.push

    def push(self: ParameterServer, push: Push, g: FloatVector, spare: FloatVector) -> Verdict:
        version = self.version
        verdict = original(self, push, g, spare)
        if verdict is Verdict.APPLIED:
            log.append(Applied(push.partition, version, push.seen))
        return verdict

    monkeypatch.setattr(ParameterServer, "push", push)
    return log


def test_two_busy_processes_have_a_mean_staleness_of_one(applied: list[Applied]) -> None:
    n = 1200
    rows = np.arange(n)
    with ps.LocalCluster(2) as cluster:
        result = ps.fit(
            Ledger(n, pause_s=0.001),
            (rows[:, None].astype(np.float64), rows),
            mode=ps.AsyncSGD(epochs=1, n_partitions=2),
            cluster=cluster,
            batch_size=1,
            lr=1.0,
        )
    assert np.array_equal(result.weights, np.ones(n))
    assert [push.version for push in applied] == list(range(n))
    assert result.staleness == Counter(push.version - push.seen for push in applied)
    # Right after a push that follows one of the other's, the own gap is 0 and the other's is 1.
    alternations = [i for i in range(1, n) if applied[i].partition != applied[i - 1].partition]
    first, last = alternations[0], alternations[-1]
    window = applied[first + 1 : last + 1]
    assert len(window) > n / 4  # both were at work for a good part of it
    assert sum(push.version - push.seen for push in window) == len(window) * (2 - 1)
