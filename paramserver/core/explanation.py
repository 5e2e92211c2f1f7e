"""Where a job is and why it is not further, in words. Pure; it looks, and changes nothing."""

from __future__ import annotations

from paramserver.core import endings
from paramserver.core.backlog import Backlog
from paramserver.core.jobs import JobState
from paramserver.core.roster import Roster


def explain(number: int, backlog: Backlog, roster: Roster) -> str:
    """Tell the story of a job that is on its way, or of one that ended not too long ago."""
    job = backlog.jobs.get(number)
    has_ended = job is None or job.state > JobState.GRANTED
    if has_ended and (story := backlog.endings.tell(number)):
        return story
    if job is None:
        return (
            f"Job {number} is not known: it never was, or it ended too long ago "
            f"(the latest {endings.KEPT:,} are remembered)."
        )
    lines = [f"Job {number} of phase '{job.phase.spec.name}' is {job.state.name}."]
    lines += job.story()
    for attempt in job.attempts:
        worker = roster.by_incarnation[attempt.incarnation]
        place = "running" if worker.head is attempt else "queued"
        lines.append(f"try {attempt.number} is {place} on {worker.worker_id}")
    if job.state is JobState.WAITING:
        lines.append(f"it waits for phase {job.phase.spec.after} to be complete")
    elif job.state is JobState.READY:
        n_workers = len(roster.workers)
        lines.append(f"{backlog.n_ready} jobs are queued, {n_workers} workers there")
    return "\n".join(lines)
