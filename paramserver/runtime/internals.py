"""What a cluster lets the layers above it use: they hand in jobs without futures, and serve calls.

Rule 1: everything here is the cluster's own; who gets it closes nothing.
Rule 2: owners and services are called on the I/O thread: they must not block, and what they raise
        would end the master, so they catch their own errors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from paramserver.drawing.panel import Panel
from paramserver.runtime.master import Master


@dataclass(frozen=True, slots=True)
class Internals:
    """The parts of a running cluster.

    Attributes
    ----------
    master : Master
    next_job, next_phase : callables
        Give numbers that nobody has had.
    trusted : bool
        Whether the workers are inside the local trust domain.
    fast_folder : Path
        A private folder on this machine, in memory where there is such a place.
    n_workers : callable
        How many workers there are now; any thread may ask.
    panels : list of Panel
        What a dashboard shows; append to it, and remove what you have appended.
    ship_code : bool
        Whether what workers elsewhere cannot find by its name may be sent to them as code.
    """

    master: Master
    next_job: Callable[[], int]
    next_phase: Callable[[], int]
    trusted: bool
    fast_folder: Path
    n_workers: Callable[[], int]
    panels: list[Panel]
    ship_code: bool = False
