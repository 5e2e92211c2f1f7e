"""A wait that is not silent: when it is to be said, and why nobody answers.

Rule 1: a wait is said after `first_s`, then after 5 s, 10 s, 20 s ..., at last each minute.
Rule 2: the reason is looked for on a thread of its own, since a name server may be slow.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from paramserver.transport.reachability import why_unreachable

REMIND_S, REMIND_MAX_S = 5.0, 60.0


class ToldWait:
    """What an agent waits for at the moment, if it does. Starts no clock: all is told `now`."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._remind_at = 0.0
        self._remind_s = REMIND_S
        self._reason = ""

    def begin(self, now: float, first_s: float = REMIND_S) -> None:
        """Wait from now on, for something new; to be said for the first time after `first_s`."""
        self._since = now
        self._remind_at = now + first_s
        self._remind_s = REMIND_S

    def end(self) -> None:
        """Wait no longer."""
        self._since = None

    @property
    def is_on(self) -> bool:
        """Whether anything is waited for."""
        return self._since is not None

    def lasted_s(self, now: float) -> float:
        """How long it has lasted; 0 when nothing is waited for."""
        return 0.0 if self._since is None else now - self._since

    def next_deadline(self) -> float | None:
        """When it is to be said (again)."""
        return None if self._since is None else self._remind_at

    def take_reminder(self, now: float) -> bool:
        """Return whether it is to be said now; if so, the next time is twice as far away."""
        if self._since is None or now < self._remind_at:
            return False
        self._remind_at = now + self._remind_s
        self._remind_s = min(2 * self._remind_s, REMIND_MAX_S)
        return True

    def look_for_reason(self, address: str, on_found: Callable[[], None]) -> None:
        """Find out why nobody answers at an address; `on_found` is called on another thread."""

        def look() -> None:
            self._reason = why_unreachable(address)
            on_found()

        threading.Thread(target=look, name="diagnosis", daemon=True).start()

    def take_reason(self) -> str:
        """Return the reason that was found since the last time, or ''."""
        reason, self._reason = self._reason, ""
        return reason
