"""The panel of the jobs that their owners do not show: of map-reduces, `map` and `submit`.

Rule 1: attempts come in on the I/O thread, which only puts them aside; the page copies and draws.
Rule 2: it does not grow: the latest attempts, the latest phases, and a few errors.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Final

from paramserver.core.commands import AnnounceAttempt, AttemptEnd
from paramserver.drawing.charts import legend
from paramserver.drawing.gantt import BARS_MAX, KINDS_OF_JOBS, Bar, gantt
from paramserver.drawing.page import figure, section
from paramserver.drawing.panel import Reading
from paramserver.drawing.troubles import errors_section
from paramserver.runtime.troubles import Troubles

PHASES_MAX: Final = 6
"""Phases that are shown: the latest."""
PAUSE_S: Final = 20.0
"""What was before a pause as long as this is of another time, and is not drawn any more."""


class AttemptsPanel:
    """Shows how the latest jobs have ended."""

    name = "jobs"
    rank = 25

    def __init__(self) -> None:
        self._attempts: deque[AnnounceAttempt] = deque(maxlen=BARS_MAX)
        self._phases: dict[str, Counter[str]] = {}
        """How attempts of each phase have ended."""
        self._troubles = Troubles()

    def note(self, attempt: AnnounceAttempt) -> None:
        """Take in how an attempt ended; on the I/O thread."""
        if attempt.told_by_owner:
            return
        self._attempts.append(attempt)
        self._troubles.note(attempt)
        ends = self._phases.pop(attempt.phase, None) or Counter()
        ends[attempt.end.value] += 1
        self._phases[attempt.phase] = ends  # the latest stands last
        if len(self._phases) > PHASES_MAX:
            del self._phases[next(iter(self._phases))]

    def html(self) -> str:
        """Return the phases, and the latest attempts as a Gantt chart; nothing before the first."""
        attempts = _since_pause(list(self._attempts))
        if not attempts:
            return ""
        names = list(dict.fromkeys(attempt.phase for attempt in attempts))
        origin = min(attempt.begun for attempt in attempts)
        bars = [_bar(attempt, names.index(attempt.phase), origin) for attempt in attempts]
        picture = gantt(bars, x_title="seconds", label="jobs of each worker", colours=KINDS_OF_JOBS)
        keys = [(name, KINDS_OF_JOBS[i % len(KINDS_OF_JOBS)]) for i, name in enumerate(names)]
        what = f"of each worker, the latest {len(bars)}"
        about = "One bar is a job on its worker, one colour is one phase. " + self._in_words()
        drawn = figure("Jobs", what, picture + legend(keys))
        return section("Jobs as they ended", about, drawn) + errors_section(
            list(self._troubles), self._troubles.n_others
        )

    def readings(self) -> Iterable[Reading]:
        """Return nothing: counters of the cluster tell of all attempts."""
        return ()

    def _in_words(self) -> str:
        """Say how the attempts of each phase ended."""
        said = []
        for name, ends in list(self._phases.items()):
            counts = [f"{ends[end.value]:,} {end.value}" for end in AttemptEnd if ends[end.value]]
            said.append(f"{name}: {', '.join(counts)}")
        return f"{'; '.join(said)}."


def _since_pause(attempts: Sequence[AnnounceAttempt]) -> Sequence[AnnounceAttempt]:
    """Leave out what was before the last long pause."""
    for i in range(len(attempts) - 1, 0, -1):
        if attempts[i].begun - attempts[i - 1].ended > PAUSE_S:
            return attempts[i:]
    return attempts


def _bar(attempt: AnnounceAttempt, colour: int, origin: float) -> Bar:
    kind = attempt.end.value
    if attempt.end is AttemptEnd.DONE:
        kind = "backup" if attempt.is_backup else ""
    name = f"{attempt.worker_id}: {attempt.phase}, job {attempt.job}, try {attempt.number}"
    return Bar(
        attempt.worker_id, attempt.begun - origin, attempt.ended - origin, colour, name, kind
    )
