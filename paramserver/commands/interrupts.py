"""What Ctrl-C and SIGTERM do to a run: the first one ends it well, the second one at once.

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
SHOW_CURSOR: Final = b"\x1b[?25h"
"""For terminals: a live table hides the cursor."""


class Interrupts:
    """Handles the signals for the time of a ``with`` block, in the main thread."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._n_received = 0

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
        self._n_received += 1
        if self._n_received == 1:
            raise KeyboardInterrupt
        if sys.stdout.isatty():
            os.write(sys.stdout.fileno(), SHOW_CURSOR)
        os._exit(128 + number)
