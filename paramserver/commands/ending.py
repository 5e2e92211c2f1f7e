"""How a run ends, in its folder and in words, whatever ends it.

Rule 1: to each `RunStarted` in ``events.jsonl`` there is one `RunEnded`, unless the process was
        killed or the folder cannot be written any more; what was noted first counts.
Rule 2: what ends before its time leaves a folder that can be resumed, and says how.
"""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path

from paramserver.commands.exits import EXIT_DONE, EXIT_RESUMABLE, EXIT_STOPPED
from paramserver.commands.interrupts import Interrupts
from paramserver.observe.events import RunEnded
from paramserver.observe.run_folder import RunFolder


class Ending:
    """Notes and tells how one run ends.

    Parameters
    ----------
    interrupts : Interrupts
        A second Ctrl-C ends the process by what is noted and told here.
    resumed : Path or None
        The folder of a run that is to go on: it can be resumed before anything is done.

    Attributes
    ----------
    interrupts : Interrupts
    folder : RunFolder or None
        Of the run, from `has` on.
    """

    def __init__(self, interrupts: Interrupts, resumed: Path | None = None) -> None:
        self.interrupts = interrupts
        self.folder: RunFolder | None = None
        self._path = resumed
        self._outcome = ""
        interrupts.last_words = self._end_at_once

    def has(self, folder: RunFolder) -> None:
        """Know the folder of the run."""
        self.folder, self._path = folder, folder.path

    def note(self, event: RunEnded) -> None:
        """Note how the run ended, if it has begun and its end is not noted yet."""
        with self.interrupts.undisturbed():
            self._note(event)

    def tell(self, why: str, otherwise: int = EXIT_STOPPED) -> int:
        """Say why a run has ended before its time, and how to go on; return the exit code.

        Parameters
        ----------
        why : str
        otherwise : int
            The exit code where nothing was kept.
        """
        words, code = self._words(why, otherwise)
        print(words, end="", file=sys.stderr, flush=True)
        return code

    def _note(self, event: RunEnded) -> None:
        folder = self.folder
        if folder is None or not folder.has_begun or self._outcome:
            return
        self._outcome = event.outcome
        try:
            folder.note(event)
        except OSError as error:
            with suppress(OSError, RuntimeError):  # in a handler the stream may be in use
                print(f"paramserver: {folder.path}: {error.strerror or error}", file=sys.stderr)

    def _words(self, why: str, otherwise: int) -> tuple[str, int]:
        if self._outcome == "done":
            return f"\nparamserver: {why}; the run itself is complete\n", EXIT_DONE
        if self._path is None:
            return f"\nparamserver: {why}; nothing was kept that could be resumed\n", otherwise
        command = f"python -m paramserver.train --resume {shlex.quote(str(self._path))}"
        return f"\nparamserver: {why}; go on with:  {command}\n", EXIT_RESUMABLE

    def _end_at_once(self) -> int:
        """Note and tell that a second Ctrl-C ends it, by what a handler of signals may call."""
        self._note(RunEnded(outcome="interrupted", reason="ended at once by a second Ctrl-C"))
        words, code = self._words("stopped at once", EXIT_STOPPED)
        os.write(2, words.encode())
        return code
