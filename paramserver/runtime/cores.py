"""How many processors there are for us. It changes nothing."""

from __future__ import annotations

import os


def n_cores() -> int:
    """Return how many processors this process may use.

    Fewer than the machine has where it was told so (by ``taskset``, a batch system or a container).
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
