"""Initializers, and jobs that look for what they have left: importable in workers."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.conformance.executor_jobs import wait_for_file

SET: list[Any] = []
"""What `remember` was given in this process."""


def remember(*values: Any) -> None:
    SET.append(values)


def remembered() -> list[Any]:
    return SET


def pid_and_remembered(_: object = None) -> tuple[int, list[Any]]:
    return os.getpid(), SET


def scale_in_place(rows: np.ndarray) -> None:
    rows *= 2
    SET.append(rows)


def total_of_remembered() -> float:
    return float(sum(rows.sum() for rows in SET))


def fail(words: str) -> None:
    raise ValueError(words)


def leave(code: int) -> None:
    raise SystemExit(code)


def fail_while_there(path: str) -> None:
    """Raise while there is a file at a path."""
    if Path(path).exists():
        raise OSError(f"{path} is in the way")
    SET.append(path)


def wait_if_there(path: str, end: str) -> None:
    """Say that it waits by emptying a file, if there is one, and wait for another."""
    if Path(path).exists():
        Path(path).unlink()
        wait_for_file(end)


def fork(_: object = None) -> None:
    """A child comes back from this, too, and must not become a worker."""
    pid = os.fork()
    if pid:
        SET.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def nap(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()
