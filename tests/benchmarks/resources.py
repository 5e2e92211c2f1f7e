"""What a stretch of work costs: wall time, processor time of all processes, memory of this one."""

from __future__ import annotations

import resource
from time import perf_counter

import psutil


class Meter:
    """Measures what happens inside of its `with`.

    Attributes
    ----------
    wall_s : float
    cpu_s : float
        Of this process and all that descend from it, those that have ended included.
    peak_mb : float
        The largest resident size that this process has ever had; pages that it shares count.
    """

    def __enter__(self) -> Meter:
        self._cpu_s = _cpu_s()
        self._began = perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s = perf_counter() - self._began
        self.cpu_s = _cpu_s() - self._cpu_s
        self.peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _cpu_s() -> float:
    own = psutil.Process()
    total = 0.0
    for process in [own, *own.children(recursive=True)]:
        try:
            # Of those that have ended, their parents know.
            total += sum(process.cpu_times()[:4])
        except psutil.NoSuchProcess:
            continue
    return total
