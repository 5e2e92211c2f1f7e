"""Functions that the tests run on workers of another machine, found there by their names."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from paramserver.runtime import relay


def add(a: int, b: int) -> int:
    return a + b


def where(_: object = None) -> int:
    return os.getpid()


def double(values: Any) -> Any:
    return 2 * values


def fail(message: str) -> None:
    raise ValueError(message)


def fail_twice(folder: str) -> int:
    """Raise on the first two calls with this folder; return the number of the call."""
    n = len(os.listdir(folder)) + 1
    Path(folder, str(n)).touch()
    if n < 3:
        raise OSError(f"call {n}")
    return n


def wait_for(path: str) -> int:
    """Return the pid when the file is there, however long that takes."""
    while not os.path.exists(path):
        time.sleep(0.005)
    return os.getpid()


def note_and_wait(note: str, path: str) -> int:
    """Write the pid into `note`, wait for `path`, return the pid."""
    Path(f"{note}.{os.getpid()}").touch()
    return wait_for(path)


def spin() -> None:
    while True:
        pass


def die(_: object = None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(path: str) -> int:
    """Kill the worker, unless the file is there already."""
    if os.path.exists(path):
        return os.getpid()
    Path(path).touch()
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def slow_square(number: int) -> int:
    time.sleep(0.02)
    return number * number


def scratch_folder() -> str:
    from paramserver.runtime.context import current

    return current().scratch_disk


def make_vector(n: int) -> Any:
    return np.arange(n, dtype=np.float64)


def sum_of_inputs(inputs: list[Any], offset: int) -> int:
    return int(sum(inputs)) + offset


class AnObject:
    """A result that is no plain value."""


def count_words(block: bytes) -> Counter[bytes]:
    return Counter(block.lower().split())


def read_by_relay(path: str, n_bytes: int) -> bytes:
    return relay.read_file(path, 0, n_bytes)


def write_by_relay(data: bytes, path: str) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        relay.send_file(file.name, path)
