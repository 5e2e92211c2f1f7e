"""How many processors there are for us. It changes nothing."""

from __future__ import annotations

import os

from paramserver.runtime.cgroups import Groups


def n_cores(groups: Groups | None = None) -> int:
    """Return how many processors this process may use.

    Fewer than the machine has where it was told so (by ``taskset`` or a batch system), or where its
    container is allowed no more (``docker run --cpus``).

    Parameters
    ----------
    groups : Groups, optional
        By default those that this process is in.
    """
    bound_to = _n_bound_to()
    allowed = (groups or Groups.read()).n_processors()
    return bound_to if allowed is None else min(bound_to, allowed)


def _n_bound_to() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
