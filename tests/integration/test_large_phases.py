"""Phases larger than any message: what is handed to the next phase goes in parts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import paramserver as ps
from paramserver.runtime.plan import Call, PhaseCalls
from tests.integration.phase_jobs import checksum, doubled, ones, sum_of_all

N_JOBS = 20_000
"""More than a list (8,192 items) or a header (64 KiB) of a message may hold."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[ps.LocalCluster]:
    with ps.LocalCluster(n_workers=2) as cluster:
        yield cluster


def test_a_phase_may_have_more_jobs_than_a_message_has_room_for(cluster: ps.LocalCluster) -> None:
    phases = [
        PhaseCalls("many", [Call(doubled, (number,)) for number in range(N_JOBS)]),
        PhaseCalls("few", [Call(checksum), Call(sum_of_all)], wants_inputs=True),
    ]
    many, few = cluster.run_plan(phases)
    assert many == [2 * number for number in range(N_JOBS)]
    order = [number * value for number, value in enumerate(many)]
    assert few == [sum(order), sum(many)]


def test_inputs_may_have_more_arrays_than_a_message_has_frames(cluster: ps.LocalCluster) -> None:
    phases = [
        PhaseCalls("arrays", [Call(ones, (600, 512)) for _ in range(9)]),
        PhaseCalls("sum", [Call(sum_of_all)], wants_inputs=True),
    ]
    arrays, (total,) = cluster.run_plan(phases)
    assert total == np.sum(arrays) == 9 * 600 * 512
