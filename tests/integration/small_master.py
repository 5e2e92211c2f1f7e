"""A master with few open files, in a process of its own: ``python -m tests.integration.small_master
KEYS``. At the end of its standard input it says how it fared."""

from __future__ import annotations

import resource
import sys

from paramserver.cluster import Cluster


def main(keys: str) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    with Cluster("tcp://127.0.0.1:0", keys, grace_s=60.0, verbose=False) as cluster:
        print(cluster.address, flush=True)
        sys.stdin.read()
        status = cluster.status()
        print(f"workers {status.counters['workers_joined']}")
        print(f"3 = 1 + 2; refused {status.counters['no_room']}")


if __name__ == "__main__":
    main(sys.argv[1])
