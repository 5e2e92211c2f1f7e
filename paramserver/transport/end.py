"""What every end over descriptors shares: a bell, duties at certain times, and others' descriptors.

Rule 1: nothing waits but `poll`.
Rule 2: descriptors that are watched for others are no reason to let the caller look at everything.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Final, Self

from paramserver.transport.bell import Bell

_MAX_MS: Final = 2**31 - 1


class End:
    """The waiting of one end. Who derives from it waits once at a time, in `_poll_once`."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._closed = False
        self._bell = Bell()
        self._watched: dict[int, Callable[[], None]] = {}

    def poll(self, timeout_s: float | None) -> None:
        """Wait until a message may be there, `wake` is called, or the time is over."""
        due_s = self._next_duty_s()
        now_s = time.monotonic()
        end_s = None if timeout_s is None else now_s + timeout_s
        if due_s is not None and (end_s is None or due_s < end_s):
            end_s = due_s
        while self._poll_once(-1 if end_s is None else as_ms(end_s - now_s)):
            now_s = time.monotonic()
            if end_s is not None and now_s >= end_s:
                break
        if due_s is not None and time.monotonic() >= due_s:
            self._do_duty()

    def _poll_once(self, timeout_ms: int) -> bool:
        """Wait once; return whether watched descriptors, and nothing else, were ready.

        Parameters
        ----------
        timeout_ms : int
            -1 for no end.
        """
        raise NotImplementedError

    def _next_duty_s(self) -> float | None:
        """Return when (by time.monotonic) `_do_duty` wants to be called by `poll`, if at all."""
        return None

    def _do_duty(self) -> None:
        """Do what has to be done at certain times."""

    def wake(self) -> None:
        """End a `poll` at once, the current or else the next one. From any thread."""
        self._bell.ring()

    @property
    def _is_forked(self) -> bool:
        """Whether this is a forked copy: sockets, files and threads belong to the parent."""
        return os.getpid() != self._pid

    def close(self, linger_s: float = 0.0) -> None:
        """Close, giving frames already taken up to `linger_s` to leave. May be called twice."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def as_ms(timeout_s: float | None) -> int:
    """Round up to milliseconds, as poll(2) counts time; -1 for no end.

    More than fits, infinity included, is cut to what fits: some weeks.
    """
    if timeout_s is None:
        return -1
    ms = timeout_s * 1000.0
    return 0 if ms < 0 else math.ceil(ms) if ms < _MAX_MS else _MAX_MS
