"""What the workers of all contenders run: the same functions, found by name."""

from __future__ import annotations

import os
import time
from pathlib import Path

MEETING_LIMIT_S = 60.0


def noop(_: object = None) -> None:
    """Do nothing."""


def nap(seconds: float) -> float:
    """Sleep and return for how long."""
    time.sleep(seconds)
    return seconds


def meet(place: tuple[str, int]) -> int:
    """Import numpy, wait for the other workers, return the process's id.

    `place` is an empty folder and how many will come: each leaves a file there and waits until
    all files are there. So all workers are up, each ran exactly one of these, and their ids differ.
    """
    import numpy  # noqa: F401 - "ready with numpy" is what is measured

    folder, n_expected = place
    Path(folder, str(os.getpid())).touch()
    deadline = time.monotonic() + MEETING_LIMIT_S
    while len(os.listdir(folder)) < n_expected:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{os.listdir(folder)} of {n_expected} workers came to the meeting")
        time.sleep(0.001)
    return os.getpid()
