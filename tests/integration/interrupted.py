"""``python -m paramserver.train``, with signals at moments that are chosen to the call.

    python -m tests.integration.interrupted MODULE:CALL=SIGNAL+SIGNAL ... -- ARGUMENTS OF TRAIN

Before the call is made for the first time, this process sends the signals to itself.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from typing import Any

from paramserver.commands.interrupts import end_at_once


def send_before(place: str, signals: str) -> None:
    """Let a function send signals to this process before its first call begins."""
    module, _, path = place.partition(":")
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    call, to_come = getattr(owner, name), [signal.Signals[each] for each in signals.split("+")]

    @functools.wraps(call)
    def sending(*args: Any, **kwargs: Any) -> Any:
        while to_come:
            os.kill(os.getpid(), to_come.pop(0))
        return call(*args, **kwargs)

    setattr(owner, name, sending)


def main() -> int:
    """Run the command; return its exit code."""
    from paramserver import train

    end = sys.argv.index("--")
    for moment in sys.argv[1:end]:
        send_before(*moment.split("="))
    sys.argv[1:] = sys.argv[end + 1 :]
    return train.main()


if __name__ == "__main__":
    end_at_once()
    sys.exit(main())
