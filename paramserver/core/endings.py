"""How the latest jobs ended, for whoever asks afterwards. Pure.

Rule 1: it is bounded: the latest jobs that ended at their first try, and, apart from them, the
        latest that did not, so that a million good ends do not push out the one that is asked for.
Rule 2: words and numbers only: nothing that a job was given, and nothing that it returned.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from paramserver.core.commands import SettleJob
from paramserver.core.jobs import Job, Verdict

_SUCCEEDED: Final = Verdict.SUCCEEDED
KEPT = 1_000
"""Endings of each kind; some 100 KB for a cluster whose jobs fare well."""


class Endings:
    """See the rules of the module."""

    def __init__(self) -> None:
        self._smooth: deque[tuple[int, str, str]] = deque(maxlen=KEPT)
        """(job, name of its phase, worker) of those that succeeded at their first try."""
        self._others: deque[tuple[int, str, Verdict, str, Sequence[str]]] = deque(maxlen=KEPT)
        """(job, name of its phase, verdict, words of the verdict, story)."""

    def __len__(self) -> int:
        return len(self._smooth) + len(self._others)

    def note(self, job: Job, ended: SettleJob) -> None:
        """Keep how a job ended; it is settled already."""
        name = job.phase.spec.name
        if ended.verdict is _SUCCEEDED and job.tries == 1 and job.mishaps is None:
            self._smooth.append((job.number, name, ended.worker_id))
            return
        words = f"on {ended.worker_id}" if ended.worker_id else ended.text
        self._others.append((job.number, name, ended.verdict, words, job.story()))

    def tell(self, number: int) -> str:
        """Say in words how a job ended; an empty text if that is not remembered."""
        for job, name, verdict, words, story in reversed(self._others):
            if job == number:
                end = f"Job {job} of phase '{name}' ended: {verdict.name}"
                return "\n".join([f"{end} ({words})." if words else f"{end}.", *story])
        for job, name, worker_id in self._smooth:
            if job == number:
                return f"Job {job} of phase '{name}' SUCCEEDED at its first try, on {worker_id}."
        return ""
