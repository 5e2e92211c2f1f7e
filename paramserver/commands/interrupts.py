"""What Ctrl-C, SIGTERM and a hang-up do to a run: the first ends it well, a second Ctrl-C at once.

Rule 0: before there is anything to end well, Ctrl-C ends the process there and then, with one line
        (`end_at_once`): an exception amid the import of a library could become anything.
Rule 1: the first signal is a `KeyboardInterrupt` in the main thread: one, and only in a block of
        `allowed`, at once or where the next one begins. So nothing cuts in two what closes files
        and workers and writes down how the run ended.
Rule 2: what comes after it changes nothing (a SIGTERM with a Ctrl-C, say), but for a second Ctrl-C:
        that ends the process there and then, after the `last_words`. Its workers notice that by
        themselves, and a checkpoint that was being written does not count.
Rule 3: a signal that is ignored stays so (by `nohup`, in the background of a shell).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn, Self

from paramserver.commands.exits import EXIT_STOPPED

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
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
    os._exit(EXIT_STOPPED)


class Interrupts:
    """Handles the signals for the time of a ``with`` block, in the main thread.

    Attributes
    ----------
    n_received : int
    last_words : callable
        Called when a second Ctrl-C ends the process; returns its exit code. It runs in the handler
        of a signal: between any two steps of what it interrupts.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self.n_received = 0
        self.last_words: Callable[[], int] = lambda: EXIT_STOPPED
        self._n_ctrl_c = 0
        self._is_allowed = False
        self._has_raised = False
        self._leaves_later = False

    def __enter__(self) -> Self:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._received)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            # A run was begun, and is over: what `end_at_once` would say is not so any more.
            signal.signal(number, signal.SIG_IGN if handler is _end else handler)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Let the first signal interrupt this block, also one that came before.

        Raises
        ------
        KeyboardInterrupt
            Once in all, but for `insist`.
        """
        self._is_allowed = True
        try:
            if self.n_received and not self._has_raised:
                self._interrupt()
            yield
        finally:
            self._is_allowed = False

    def insist(self, _: object) -> None:
        """Interrupt once more where the first time was in vain; called from within the training.

        What is raised amid a finaliser is dropped by the interpreter, and the training goes on.
        """
        if self._has_raised:
            self._interrupt()

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Let also a second Ctrl-C wait for the end of this block, which has to be short."""
        self._leaves_later = True
        try:
            yield
        finally:
            self._leaves_later = False
            self._leave_if_asked()

    def _received(self, number: int, frame: FrameType | None) -> None:
        self.n_received += 1
        self._n_ctrl_c += number == signal.SIGINT
        self._leave_if_asked()
        if self._is_allowed and not self._has_raised:
            self._interrupt()

    def _interrupt(self) -> NoReturn:
        self._has_raised = True
        raise KeyboardInterrupt

    def _leave_if_asked(self) -> None:
        if self._n_ctrl_c < 2 or self._leaves_later:
            return
        code = EXIT_STOPPED
        try:
            code = self.last_words()
        finally:
            if sys.stdout.isatty():
                os.write(sys.stdout.fileno(), SHOW_CURSOR)
            os._exit(code)
