"""Where an estimator trains; with real clusters see tests/integration/test_estimator_places.py."""

from __future__ import annotations

from typing import Any

import pytest

from paramserver.estimators.places import Place, choose_place, workers_of


class Replacing:
    """A cluster that keeps two workers, one of which has just been killed."""

    n_workers = 1
    n_wanted = 2
    n_waited_for = 0

    def wait_for_workers(self, n: int) -> None:
        self.n_waited_for = n


def test_a_worker_that_is_being_replaced_changes_no_number_of_partitions() -> None:
    """It would change the result."""
    cluster: Any = Replacing()
    assert choose_place(5000, None, None, cluster) == Place(cluster, 2)
    assert cluster.n_waited_for == 1
    assert [workers_of(n, cluster) for n in (-2, -1, 1)] == [1, None, 1]


def test_little_work_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paramserver.estimators.places.n_cores", None)
    cluster: Any = Replacing()
    for own in (None, cluster):
        assert choose_place(1023, None, None, own) == Place(None, 1)
        assert choose_place(1023, None, 3, own) == Place(None, 3)
    assert cluster.n_waited_for == 0
