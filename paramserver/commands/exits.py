"""With which code the commands exit: the same for all of them. It imports nothing."""

from __future__ import annotations

from typing import Final

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_RESUMABLE: Final = 75
"""Stopped before its end, and it can go on (EX_TEMPFAIL of ``sysexits.h``)."""
EXIT_CONFIG: Final = 77
"""A setting or a file that cannot be."""
EXIT_STOPPED: Final = 130
"""Stopped by Ctrl-C with nothing to go on from: 128 + SIGINT, as shells have it."""

_USAGE: Final = 2
"""What parsers of command lines say of what they do not understand."""


def code_of(end: SystemExit) -> int:
    """Return the exit code of what a parser has ended.

    Examples
    --------
    >>> code_of(SystemExit(2)), code_of(SystemExit(75)), code_of(SystemExit())
    (77, 75, 0)
    """
    return EXIT_CONFIG if end.code == _USAGE else int(end.code or 0)
