"""Where an estimator trains: on a cluster of its user's, on the one that all share, or right here.

Rule 1: rows that make less than two partitions' worth of work are trained in this process: starting
        processes costs more. So is a fit inside a worker, whose cores are at work already.
Rule 2: for the same number of partitions, averaging gives the same bits in either place.
Rule 3: the estimators of one process that were given no cluster share a local one. It is started
        when it is first needed, and ends with the process.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from typing import TYPE_CHECKING, Final, NamedTuple

from paramserver.errors import ConfigError, LocalProtocolError
from paramserver.runtime.context import current
from paramserver.runtime.cores import n_cores

if TYPE_CHECKING:
    from paramserver.cluster import Cluster
    from paramserver.local_cluster import LocalCluster

ROWS_WORTH_A_PROCESS: Final = 512
"""A pass over fewer rows takes no longer than the messages about it."""


class Place(NamedTuple):
    """Where to train, and in how many partitions."""

    cluster: Cluster | None
    n_partitions: int


def choose_place(
    n_rows: int, n_workers: int | None, n_partitions: int | None, cluster: Cluster | None
) -> Place:
    """Return where to train on so many rows.

    Raises
    ------
    ConfigError
        If a number is below 1.
    NoWorkers
        If nobody joins a cluster that has no workers.
    """
    for name, value in (("n_workers", n_workers), ("n_partitions", n_partitions)):
        if value is not None and value < 1:
            raise ConfigError(f"{name} must be 1 or more, not {value}.", field=name, value=value)
    worth = n_rows // ROWS_WORTH_A_PROCESS
    stays = worth < 2 or is_in_worker()
    if stays and (n_partitions or worth < 2):
        return Place(None, n_partitions or 1)
    if cluster is not None and not stays:
        cluster.wait_for_workers(1)
    if n_workers is None:
        n_workers = n_cores() if cluster is None or stays else cluster.n_wanted
    p = n_partitions or max(1, min(n_workers, worth))
    if stays or p == 1:
        return Place(None, p)
    return Place(cluster or SHARED.get(min(n_workers, p)), p)


def workers_of(n_jobs: int, cluster: Cluster | None) -> int | None:
    """Return how many workers joblib's `n_jobs` means: -1 are all, -2 all but one.

    Returns
    -------
    int or None
        None for all.

    Raises
    ------
    ValueError
        If it is 0, which has no meaning.
    """
    if n_jobs == 0:
        raise ValueError("n_jobs == 0 has no meaning: 1 is one worker, -1 are all.")
    if n_jobs == -1:
        return None
    there = n_cores() if cluster is None or is_in_worker() else cluster.n_wanted
    return n_jobs if n_jobs > 0 else max(1, there + 1 + n_jobs)


def is_in_worker() -> bool:
    """Say whether this process works for another one already."""
    if multiprocessing.parent_process() is not None:
        return True
    try:
        current()
    except LocalProtocolError:
        return False
    return True


class SharedCluster:
    """The local cluster of all estimators of this process that were given none."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._cluster: LocalCluster | None = None
        self._inherited: list[LocalCluster | None] = []
        """Those of the process that this one was forked from: not ours to end."""

    def get(self, n_workers: int) -> LocalCluster:
        """Return it, with at least so many workers."""
        from paramserver.local_cluster import LocalCluster

        if self._pid != os.getpid():
            self._inherited.append(self._cluster)
            self._lock, self._pid, self._cluster = threading.Lock(), os.getpid(), None
        with self._lock:
            if self._cluster is None:
                self._cluster = LocalCluster(n_workers)
            elif self._cluster.n_workers < n_workers:
                self._cluster.scale(n_workers)
                self._cluster.wait_for_workers(n_workers)
            return self._cluster

    def close(self) -> None:
        """End it; the next `get` starts another one."""
        with self._lock:
            cluster, self._cluster = self._cluster, None
        if cluster is not None and self._pid == os.getpid():
            cluster.shutdown()


SHARED: Final = SharedCluster()
"""Of this process. The one thing here that is not an estimator's own: processes are dear."""
