"""Jobs that suffer, for tests/integration/test_failures.py: importable by workers."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np


def note(folder: str, word: str) -> None:
    """Leave a trace of one execution."""
    fd = os.open(Path(folder) / word, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, f"{os.getpid()}\n".encode())
    os.close(fd)


def leave(code: int) -> None:
    """End the process at once. (os._exit itself is something else while coverage is measured.)"""
    os._exit(code)


def square_unless_doomed(n: int) -> int:
    """End the process, on a machine that was started so; elsewhere take a moment."""
    if os.environ.get("DOOMED"):
        leave(3)
    time.sleep(0.02)
    return n * n


def square_slowly(folder: str, n: int, seconds: float) -> int:
    note(folder, f"job-{n}")
    time.sleep(seconds)
    return n * n


def wait_for(folder: str, n: int, key: str) -> int:
    """Run until the key is there; each execution leaves a trace."""
    note(folder, f"job-{n}")
    end_at = time.monotonic() + 60
    while not (Path(folder) / key).exists():
        if time.monotonic() > end_at:
            raise TimeoutError(key)
        time.sleep(0.005)
    return n * n


def slow_the_first_time(folder: str, n: int) -> int:
    """A straggler: only its first execution takes for ever, or until it is set free."""
    first = not (Path(folder) / f"job-{n}").exists()
    if first and n == 7:
        return wait_for(folder, n, "free")
    note(folder, f"job-{n}")
    time.sleep(0.05)
    return n * n


def hold_the_lock(seconds: float) -> str:
    """Hold the interpreter's lock in C."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    return "done"


def spin() -> None:
    while True:
        pass


def crash() -> None:
    faulthandler.disable()
    ctypes.string_at(0)


def close_descriptors() -> None:
    """Break the process so that it cannot even send the result."""
    faulthandler.disable()
    os.closerange(3, 300)


def kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def take_memory(n_bytes: int) -> int:
    return len(np.ones(n_bytes, np.uint8))


def count_words(block: bytes) -> Counter[bytes]:
    time.sleep(random.Random(len(block)).uniform(0.0, 0.05))
    return Counter(block.lower().split())


def add(key: bytes, values: Iterable[int]) -> int:
    return sum(values)


def add_and_die_once(key: bytes, values: Iterable[int]) -> int:
    """Kill the worker that comes to the word, the first time."""
    if key == b"dies" and not Path(os.environ["DIES_ONCE"]).exists():
        Path(os.environ["DIES_ONCE"]).touch()
        kill_myself()
    return sum(values)


def hold_the_lock_and_say_so(seconds: int, path: str) -> None:
    """Keep the interpreter, all of its threads, from running; then say so."""
    ctypes.PyDLL(None).sleep(seconds)
    Path(path).touch()
