"""Where the user's thread looks at a training: copies of its weights, words, its end and its error.

Rule 1: no thread is woken for a round or a push: the user's thread gets a copy when it has asked
        for one, and the end.
Rule 2: a training ends once; what is said afterwards changes nothing.
Rule 3: `wait`, `take_words` and `wait_until` are for the user's thread, everything else for the
        I/O thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from paramserver.training.measures import Snapshot


class Lookout:
    """What one training shows.

    Parameters
    ----------
    clock : callable
        Returns the time in seconds.
    in_step : bool
        Show the weights whenever they are offered, whether somebody waits for them or not.

    Attributes
    ----------
    final : Snapshot or None
        The weights at the end; None while it runs, and after an error.
    has_ended : bool
    ended_at : float
        By `clock`; 0 while it runs.
    is_asked : bool
        Whether the user's thread has asked for a copy, so that one had better be offered.
    """

    def __init__(self, clock: Callable[[], float], *, in_step: bool) -> None:
        self.in_step = in_step
        self.is_asked = False
        self.has_ended = False
        self.ended_at = 0.0
        self.final: Snapshot | None = None
        self._clock = clock
        self._changed = threading.Condition()
        self._not_before = 0.0
        self._snapshot: Snapshot | None = None
        self._error: BaseException | None = None
        self._words: list[str] = []
        self._said: set[str] = set()

    # --- the user's thread ------------------------------------------------------------------------

    def wait(self, timeout_s: float, *, look: bool, not_before_s: float) -> Snapshot | None:
        """Wait for the end, for words or (with `look`) for a copy of the weights.

        See `runs.Run.wait`.

        Raises
        ------
        BaseException
            What ended the training before its time.
        """
        with self._changed:
            self._not_before = self._clock() + not_before_s
            self.is_asked = look
            self._changed.wait_for(
                lambda: self._snapshot or self._words or self.has_ended, timeout_s
            )
            if self._error is not None:
                raise self._error
            snapshot, self._snapshot = self._snapshot, None
            return snapshot

    def take_words(self) -> list[str]:
        """Return what was said since the last time."""
        with self._changed:
            words, self._words = self._words, []
            return words

    def wait_until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        """Wait for something else of the training; whoever brings it about calls `look_again`."""
        with self._changed:
            self._changed.wait_for(condition, timeout_s)

    # --- the I/O thread ---------------------------------------------------------------------------

    def offer(self, take: Callable[[], Snapshot]) -> None:
        """Give the user's thread a copy of the weights, if it is time for one.

        Parameters
        ----------
        take : callable
            Returns it; called only if it is time.
        """
        if self.in_step or (self.is_asked and self._clock() >= self._not_before):
            snapshot = take()
            with self._changed:
                self.is_asked = False
                self._snapshot = snapshot
                self._changed.notify_all()

    def say(self, words: str) -> None:
        """Have the user told something, if it was not said before."""
        with self._changed:
            if words not in self._said:
                self._said.add(words)
                self._words.append(words)
                self._changed.notify_all()

    def finish(self, final: Snapshot) -> None:
        """End the training, with its weights."""
        with self._changed:
            self.final = final
            self._end()

    def fail(self, error: BaseException) -> None:
        """End the training with an error, unless it has ended."""
        with self._changed:
            if not self.has_ended:
                self._error = error
                self._end()

    def break_off(self) -> None:
        """End the training as it is, unless it has ended."""
        with self._changed:
            if not self.has_ended:
                self._end()

    def look_again(self) -> None:
        """Have who waits in `wait_until` look again."""
        with self._changed:
            self._changed.notify_all()

    def _end(self) -> None:
        self.has_ended = True
        self.ended_at = self._clock()
        self._changed.notify_all()
