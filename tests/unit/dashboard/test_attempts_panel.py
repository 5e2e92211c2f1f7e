"""The panel of jobs that their owners do not show."""

from __future__ import annotations

from paramserver.core.commands import AnnounceAttempt, AttemptEnd
from paramserver.dashboard.attempts_panel import PAUSE_S, PHASES_MAX, AttemptsPanel
from paramserver.drawing.gantt import BARS_MAX
from paramserver.protocol.calls import encode_error


def attempt(
    job: int,
    phase: str = "map",
    begun: float = 0.0,
    end: AttemptEnd = AttemptEnd.DONE,
    *,
    is_backup: bool = False,
    told_by_owner: bool = False,
) -> AnnounceAttempt:
    error = encode_error(OSError("disk"), trusted=False) if end is AttemptEnd.FAILED else None
    return AnnounceAttempt(
        phase, job, 1, f"w{job % 3}", begun, begun + 0.5, end, is_backup, error, told_by_owner
    )


def panel(*attempts: AnnounceAttempt) -> AttemptsPanel:
    made = AttemptsPanel()
    for each in attempts:
        made.note(each)
    return made


def test_before_the_first_job_there_is_nothing() -> None:
    assert panel().html() == ""
    assert list(panel().readings()) == []


def test_jobs_of_each_phase_are_drawn_and_counted() -> None:
    text = panel(
        attempt(1), attempt(2, end=AttemptEnd.LOST), attempt(3, is_backup=True),
        attempt(4, "reduce", 1.0), attempt(5, "reduce", 1.0, AttemptEnd.FAILED),
    ).html()  # fmt: skip
    for words in (
        "map: 2 done, 1 lost; reduce: 1 done, 1 failed.", "w1: map, job 1, try 1, 0.500 s",
        "backup copy", "lost with its worker", "raised an error", "OSError: disk",
        'class="key c1"></i>map', 'class="key c3"></i>reduce',
    ):  # fmt: skip
        assert words in text, words


def test_what_a_training_shows_itself_is_left_out() -> None:
    assert panel(attempt(1, told_by_owner=True)).html() == ""


def test_what_was_before_a_long_pause_is_not_drawn() -> None:
    text = panel(attempt(1), attempt(2, begun=PAUSE_S + 9.0)).html()
    assert "job 2" in text
    assert "job 1" not in text


def test_it_does_not_grow() -> None:
    made = panel(*(attempt(job, f"phase {job % 50}") for job in range(5_000)))
    assert len(made._attempts) == BARS_MAX
    assert len(made._phases) == PHASES_MAX
