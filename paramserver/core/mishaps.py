"""What has gone wrong with one job so far, counted by class, and in words. Pure.

Rule 1: only a job with which something has gone wrong has one: most never do, and are spared it.
Rule 2: classes are counted apart, for each has a limit of its own.
"""

from __future__ import annotations

NOTES_KEPT = 20


class Mishaps:
    """The bad luck of one job."""

    __slots__ = ("last_incarnation", "n_errors", "n_lost", "n_remade", "n_timeouts", "notes")

    def __init__(self) -> None:
        self.n_errors = 0
        """Tries whose function raised."""
        self.n_timeouts = 0
        """Tries that passed their deadline."""
        self.n_lost = 0
        """Workers lost under it."""
        self.n_remade = 0
        """How often its result was lost and had to be made again."""
        self.last_incarnation = 0
        """Where the last attempt failed; the next one goes elsewhere if it can."""
        self.notes: list[str] = []
        """One line for each mishap, oldest first."""

    def note(self, text: str) -> None:
        """Keep a line of the story, if there are not too many."""
        if len(self.notes) < NOTES_KEPT:
            self.notes.append(text)
