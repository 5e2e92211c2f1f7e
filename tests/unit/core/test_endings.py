"""How the latest jobs ended."""

from __future__ import annotations

from paramserver.core.commands import SettleJob
from paramserver.core.endings import KEPT, Endings
from paramserver.core.jobs import Job, JobState, Phase, PhaseSpec, Verdict
from tests.unit.core.board import specs


def end(endings: Endings, number: int, verdict: Verdict = Verdict.SUCCEEDED) -> None:
    (spec,) = specs(number)
    job = Job(spec, Phase(PhaseSpec(1, "map")), JobState.GRANTED)
    job.tries = 1
    job.state = JobState.SUCCEEDED if verdict is Verdict.SUCCEEDED else JobState.FAILED
    endings.note(job, SettleJob(number, verdict, worker_id="w1", text="text"))


def test_a_good_end_is_one_sentence() -> None:
    endings = Endings()
    end(endings, 7)
    assert endings.tell(7) == "Job 7 of phase 'map' SUCCEEDED at its first try, on w1."
    assert endings.tell(8) == ""


def test_only_the_latest_are_kept_and_many_good_ones_push_out_no_other() -> None:
    endings = Endings()
    end(endings, 0, Verdict.ERROR)
    for number in range(1, 3 * KEPT):
        end(endings, number)
    assert len(endings) == KEPT + 1
    assert endings.tell(0) == (
        "Job 0 of phase 'map' ended: ERROR (on w1).\n"
        "1 tries: 0 errors, 0 timeouts, 0 workers lost; now FAILED"
    )
    told = [number for number in range(3 * KEPT) if endings.tell(number)]
    assert told == [0, *range(2 * KEPT, 3 * KEPT)]


def test_without_a_worker_the_words_of_the_verdict_are_told() -> None:
    endings = Endings()
    (spec,) = specs(1)
    job = Job(spec, Phase(PhaseSpec(1, "map")), JobState.FAILED)
    endings.note(job, SettleJob(1, Verdict.NO_WORKERS, text="60.0"))
    assert endings.tell(1).startswith("Job 1 of phase 'map' ended: NO_WORKERS (60.0).\n")
