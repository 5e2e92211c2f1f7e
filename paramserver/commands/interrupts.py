"""What Ctrl-C and SIGTERM do to a run: the first one ends it well, the second one at once.

Rule 0: before there is anything to end well, Ctrl-C ends the process there and then, with one line
        (`end_at_once`): an exception amid the import of a library could become anything.
Rule 1: the first is a `KeyboardInterrupt` in the main thread: whatever is open closes, the last
        checkpoint is written, workers are told.
Rule 2: the second ends the process there and then. Its workers notice that by themselves, and a
        checkpoint that was being written does not count.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn, Self

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
STOPPED: Final = 128 + signal.SIGINT
"""Exit code of what was stopped by Ctrl-C and cannot be gone on with, as shells have it."""
SHOW_CURSOR: Final = b"\x1b[?25h"
"""For terminals: a live table hides the cursor."""


def end_at_once() -> None:
    """From now on let Ctrl-C end this process, with one line and exit code 130.

    Where it is ignored (by `nohup`, in the background of a shell) it stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def interrupt_again() -> None:
    """Let Ctrl-C be a `KeyboardInterrupt` again, after `end_at_once`."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def all_is_done() -> None:
    """From now on pass over Ctrl-C, after `end_at_once`: the process ends by itself, and well."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    os.write(2, b"\nparamserver: stopped before anything was begun\n")
    os._exit(STOPPED)


class Interrupts:
    """Handles the signals for the time of a ``with`` block, in the main thread.

    Attributes
    ----------
    n_received : int
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self.n_received = 0

    def __enter__(self) -> Self:
        for number in SIGNALS:
            self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _received(self, number: int, frame: FrameType | None) -> NoReturn:
        self.n_received += 1
        if self.n_received == 1:
            raise KeyboardInterrupt
        if sys.stdout.isatty():
            os.write(sys.stdout.fileno(), SHOW_CURSOR)
        os._exit(128 + number)
