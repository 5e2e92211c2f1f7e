"""A master that a test stops and continues: ``python -m tests.integration.paused_master KEYS``."""

from __future__ import annotations

import sys

from paramserver.cluster import Cluster
from tests.integration import remote_jobs as jobs
from tests.integration.remote import PATIENCE_S


def main(keys: str) -> None:
    with Cluster("tcp://127.0.0.1:0", keys, grace_s=0.5, verbose=False) as cluster:
        print(cluster.address, flush=True)
        cluster.wait_for_workers(2, PATIENCE_S)
        results = cluster.map(jobs.slow_square, range(60))
        first = next(results)
        print("running", flush=True)
        n_results = len([first, *results])
        counters = cluster.status().counters
        joined, lost = counters["workers_joined"], counters.get("workers_lost", 0)
        print(f"{n_results} results, joined {joined}, lost {lost}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
