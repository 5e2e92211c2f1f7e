"""Functions and classes that the tests of the executor send to workers: importable there."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import numpy as np


class Thing:
    """Something that can be weakly referenced, and that carries its arguments."""

    def __init__(self, value: object = None) -> None:
        self.value = value

    def method(self) -> object:
        return self.value


class TwoArguments(Exception):
    """Cannot be rebuilt from `args`, as the standard pools would."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


class PlainError(Exception):
    pass


def identity(value: Any) -> Any:
    return value


def capture(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def make_thing(value: object) -> Thing:
    return Thing(value)


def fail_at(bad: int, value: int) -> int:
    if value == bad:
        raise PlainError(value)
    return value


def raise_it(error: BaseException) -> NoReturn:
    raise error


def raise_two_arguments() -> NoReturn:
    raise TwoArguments(1, 2)


def raise_with_lock() -> NoReturn:
    raise ValueError(threading.Lock())


def raise_from() -> NoReturn:
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise RuntimeError(123) from error  # some comment


def make_lock(_: object = None) -> Any:
    return threading.Lock()


def lock_at(bad: int, value: int) -> Any:
    return threading.Lock() if value == bad else value


def recurse(n: int = 0) -> int:
    return recurse(n + 1)


def touch(path: str) -> None:
    with open(path, "a") as file:
        file.write("x")


def touch_and_wait(path: str, until: str) -> str:
    """Say that it runs by making a file, and run until another one is there."""
    touch(path)
    wait_for_file(until)
    return "waited"


def wait_for_file(path: str, timeout_s: float = 60.0) -> None:
    end_at = time.monotonic() + timeout_s
    while not Path(path).exists():
        if time.monotonic() > end_at:
            raise TimeoutError(f"{path} did not come")
        time.sleep(0.005)


def is_writable(array: np.ndarray) -> bool:
    array[0] = 5
    return array.flags.writeable


_REUSED = np.zeros(200_000)


def fill_reused(value: float) -> np.ndarray:
    """Return an array that the next call overwrites."""
    _REUSED[:] = value
    return _REUSED


def many_arrays(n: int) -> list[np.ndarray]:
    return [np.full(1000, i) for i in range(n)]


def fork_and_return() -> int:
    """A child that comes back from the fork, and must not come back from the job."""
    pid = os.fork()
    if pid == 0:
        return -1
    os.waitpid(pid, 0)
    return 1


def fork_and_exit() -> int:
    pid = os.fork()
    if pid == 0:
        sys.exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def start_thread() -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(41))
    thread.start()
    thread.join()
    return found[0] + 1


def change_signals() -> bool:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    return True


class ErrorAtPickle:
    def __reduce__(self) -> NoReturn:
        raise ArithmeticError("no pickle of me")


class ExitAtPickle:
    def __reduce__(self) -> NoReturn:
        sys.exit(1)


class ErrorAtUnpickle:
    def __reduce__(self) -> Any:
        return divmod, (1, 0)


class ExitAtUnpickle:
    def __reduce__(self) -> Any:
        return sys.exit, (1,)


def make(kind: type) -> Any:
    return kind()
