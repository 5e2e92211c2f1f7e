"""Functions that the tests of the joblib backend send to workers."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np

from tests.conformance.executor_jobs import wait_for_file


def square(n: int) -> int:
    return n * n


def fail_at(bad: int, n: int) -> int:
    if n == bad:
        raise ZeroDivisionError(f"no {n} please")
    return n


def pid_of(_: int) -> int:
    return os.getpid()


def die_once(mark: str, n: int) -> int:
    """Kill the worker with nothing said, the first time that anybody comes here."""
    try:
        Path(mark).touch(exist_ok=False)
    except FileExistsError:
        return n
    os.kill(os.getpid(), signal.SIGKILL)
    return -1


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def touch_and_wait(folder: str, n: int) -> int:
    """Say that it runs, and wait until the folder has a file `open`."""
    (Path(folder) / f"runs-{n}").touch()
    wait_for_file(f"{folder}/open")
    return n


def fail_once_it_runs(folder: str, n: int) -> None:
    """Raise as soon as `touch_and_wait` of that number runs."""
    wait_for_file(f"{folder}/runs-{n}")
    raise ZeroDivisionError


def count_together(folder: str, n: int) -> int:
    """Return how many of these run now, this one included, at the most within 50 ms."""
    mark = Path(folder) / f"now-{n}"
    mark.touch()
    end_at = time.monotonic() + 0.05
    most = 0
    while time.monotonic() < end_at:
        most = max(most, len(list(Path(folder).glob("now-*"))))
    mark.unlink()
    return most


def nested(n: int) -> tuple[str, list[int], bool]:
    """Make a parallel call inside of a job; return its backend, its result, and if by threads."""
    parallel = joblib.Parallel(n_jobs=2)
    me = threading.get_ident()
    pairs = parallel(joblib.delayed(_square_and_thread)(i) for i in range(n))
    by_threads = all(pid == os.getpid() and thread != me for _, pid, thread in pairs)
    return type(parallel._backend).__name__, [value for value, _, _ in pairs], by_threads


def _square_and_thread(n: int) -> tuple[int, int, int]:
    return n * n, os.getpid(), threading.get_ident()


def look(array: Any, _: int) -> tuple[str, bool, float]:
    """Say what has arrived."""
    return type(array).__name__, array.flags.writeable, float(array.sum())


def look_into(matrix: Any, _: int) -> tuple[str, bool, float]:
    return type(matrix).__name__, matrix.data.flags.writeable, float(matrix.sum())


def look_at_table(table: Any, _: int) -> tuple[bool, Any]:
    """Say whether its numbers lie in a file, and give it back."""
    return is_mapped(table["number"].to_numpy()), table


def is_mapped(array: Any) -> bool:
    """Say whether an array is a part of a file."""
    while array is not None and not isinstance(array, np.memmap):
        array = array.obj if isinstance(array, memoryview) else getattr(array, "base", None)
    return array is not None


def look_for(array: Any, n: int) -> float:
    return float(array[n])


def write_at(array: Any, n: int) -> None:
    array[n] = n
