"""How much memory there is for us. It changes nothing."""

from __future__ import annotations

import os
import resource

from paramserver.runtime.cgroups import Groups


def memory_bytes(groups: Groups | None = None) -> int:
    """Return how much memory the processes of this machine, or of this container, have together.

    Parameters
    ----------
    groups : Groups, optional
        By default those that this process is in.
    """
    import psutil

    total = int(psutil.virtual_memory().total)
    allowed = (groups or Groups.read()).memory_bytes()
    return total if allowed is None else min(total, allowed)


def memory_of_one_bytes(groups: Groups | None = None) -> int:
    """Return how much of it one process may take if there is one for each processor.

    No more than it may by itself (``ulimit -v``, `memory_limit_bytes` of a cluster). Those of the
    machine, or the container, count: a process may be bound to one processor among many.
    """
    groups = groups or Groups.read()
    n_there = os.cpu_count() or 1
    share = memory_bytes(groups) // min(n_there, groups.n_processors() or n_there)
    mine, _ = resource.getrlimit(resource.RLIMIT_AS)
    return share if mine == resource.RLIM_INFINITY else min(share, mine)
