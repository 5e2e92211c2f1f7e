"""What jobs have raised: each traceback once, and how often. It does not grow with the errors.

Rule 1: errors are the same when they were raised by the same lines of code; what they say may
        differ, and the last of it is told.
Rule 2: what a worker sent is text here; nothing of it is unpickled.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from paramserver.core.commands import AnnounceAttempt
from paramserver.errors import PeerLost, RemoteProtocolError
from paramserver.protocol.failures import error_text

KINDS_MAX: Final = 20
"""Errors that are told apart; of more, only how many there were is known."""
HUNG_UP: Final = f"{PeerLost.__module__}.{PeerLost.__qualname__}"
"""What ends a job whose line the master has closed."""


@dataclass(slots=True)
class Trouble:
    """An error, and how often it was raised.

    Attributes
    ----------
    error : str
        Type and message, as they were last.
    traceback : str
        As it was first.
    phase, worker_id : str
        Where it was raised last.
    n : int
    at : float
        When, last; the clock of the master.
    """

    error: str
    traceback: str
    phase: str
    worker_id: str
    n: int
    at: float


class Troubles:
    """Collects the errors of jobs.

    Attributes
    ----------
    n_others : int
        Errors beyond those that are told apart.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[str, ...], Trouble] = {}
        self.n_others = 0

    def __iter__(self) -> Iterator[Trouble]:
        return iter(list(self._found.values()))

    def __len__(self) -> int:
        return len(self._found)

    def note(self, attempt: AnnounceAttempt) -> None:
        """Take in an attempt whose function raised; others are passed over."""
        if attempt.error is None:
            return
        try:
            text = error_text(attempt.error)
        except RemoteProtocolError as error:
            kind, message, traceback = type(error).__name__, str(error), ""
        else:
            kind, message, traceback = text.error_type, text.message, text.traceback
        if kind == HUNG_UP:  # our own doing: the job is not wanted any more
            return
        said = f"{kind}: {message}" if kind else message
        known = self._found.get(key := (kind, *_places(traceback)))
        if known is not None:
            known.error, known.n, known.at = said, known.n + 1, attempt.ended
            known.phase, known.worker_id = attempt.phase, attempt.worker_id
        elif len(self._found) < KINDS_MAX:
            self._found[key] = Trouble(
                said, traceback, attempt.phase, attempt.worker_id, 1, attempt.ended
            )
        else:
            self.n_others += 1


def _places(traceback: str) -> Iterator[str]:
    """Yield the lines that say where in the code something was."""
    return (line for line in traceback.splitlines() if line.lstrip().startswith('File "'))
