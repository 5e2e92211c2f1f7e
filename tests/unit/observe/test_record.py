"""Runs read back from their folders, whatever became of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from paramserver.errors import ConfigError, DataError
from paramserver.observe.events import RunEnded
from paramserver.observe.record import Moment, WorkerRecord, read_run
from paramserver.training.timeline import JobSpan
from tests.unit.observe.run_files import (
    BEGAN,
    STARTED,
    STORY,
    SUMMARY,
    progressed,
    resumed,
    write_run,
)


def test_a_run_reads_back_as_it_went(tmp_path: Path) -> None:
    history = [[1, 1.0, 0.4, 0.5, 0.875, 1.0], [3, 3.0, 2.0, 0.25, "", ""]]
    timeline = "worker_id,number,partition,begun_s,ended_s\nlocal1-0,4,1,0.5,1.25\n"
    run = read_run(
        write_run(tmp_path / "run", STORY, summary=SUMMARY, history=history, timeline=timeline)
    )
    assert (run.started, run.started_at, run.outcome) == (STARTED, BEGAN, "done")
    assert run.ended_at == BEGAN + 2.5
    assert run.moments == [
        Moment(1, 1.0, 0.4, 0.5, 0.875, 1.0),
        Moment(3, 3.0, 2.0, 0.25, None, None),
    ]
    assert run.summary == SUMMARY
    assert run.timeline == [JobSpan("local1-0", 4, 1, 0.5, 1.25)]
    assert run.config == {"mode": "async", "data": "digits", "workers": 2}
    assert run.workers == [
        WorkerRecord("local1-0", 1, "here", 70, 9),
        WorkerRecord("local1-1", 2, "here", 71, 9, None, 1.0, "lost: killed by SIGKILL"),
        WorkerRecord("local1-1", 3, joined_s=1.25),
    ]


def test_how_far_learners_were_apart_reads_back(tmp_path: Path) -> None:
    event = replace(progressed(1, 0.4), staleness=None, divergence=0.125)
    moment = Moment(1, 1.0, 0.4, 0.5, 0.875, None, 0.125)
    story = [(0.0, STARTED), (0.5, event)]
    assert read_run(write_run(tmp_path / "a", story)).moments == [moment]
    history = [[1, 1.0, 0.4, 0.5, 0.875, "", 0.125]]
    assert read_run(write_run(tmp_path / "b", story[:1], history=history)).moments == [moment]


def test_a_run_of_a_release_without_a_column_is_read(tmp_path: Path) -> None:
    history = [[1, 1.0, 0.4, 0.5, 0.875, 1.0]]
    folder = write_run(tmp_path / "run", STORY[:1], history=history)
    text = (folder / "history.csv").read_text()
    (folder / "history.csv").write_text(text.replace(",divergence", ""))
    assert read_run(folder).moments == [Moment(1, 1.0, 0.4, 0.5, 0.875, 1.0, None)]


def test_a_run_that_was_killed_is_told_by_its_events(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", STORY[:-2])
    with (folder / "events.jsonl").open("a") as file:
        file.write('{"event": "Progr')
    run = read_run(folder)
    assert (run.outcome, run.ended_at, run.summary) == ("unfinished", None, {})
    assert [(moment.unit, moment.wall_s) for moment in run.moments] == [(1, 0.4), (2, 1.4)]


def test_what_a_resumed_run_does_once_more_is_told_once(tmp_path: Path) -> None:
    story = [
        *STORY[:-2],
        (3.0, RunEnded(outcome="interrupted")),
        (9.0, resumed()),
        (9.5, progressed(2, 1.0, loss=0.375)),
        (9.9, progressed(3, 1.8)),
    ]
    run = read_run(write_run(tmp_path / "run", story))
    assert run.outcome == "unfinished"
    assert run.resumed_at == [BEGAN + 9.0]
    assert [(moment.unit, moment.train_loss) for moment in run.moments] == [
        (1, 0.5), (2, 0.375), (3, 0.5)
    ]  # fmt: skip


def test_the_history_of_before_a_resumption_does_not_hide_what_came_after(tmp_path: Path) -> None:
    history = [[1, 1.0, 0.4, 0.5, 0.875, 1.0]]
    run = read_run(write_run(tmp_path / "run", STORY[:-2], history=history))
    assert [moment.unit for moment in run.moments] == [1, 2]


def test_damaged_files_beside_the_events_are_passed_over(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", STORY)
    (folder / "summary.json").write_text('{"mode": ')
    (folder / "history.csv").write_text("what,is,this\n1,2,3\n")
    (folder / "timeline.csv").write_text("what,is,this\n1,2,3\n")
    (folder / "config.toml").write_text("= =")
    run = read_run(folder)
    assert (run.config, len(run.moments), run.summary["speedup"]) == ({}, 2, 2.0)
    assert run.timeline == []


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not the folder of a run"):
        read_run(tmp_path)


def test_a_run_that_never_began_is_refused_in_words(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", STORY[1:])
    with pytest.raises(DataError, match="tells of no run"):
        read_run(folder)
    (folder / "events.jsonl").unlink()
    with pytest.raises(DataError, match=r"events\.jsonl cannot be read"):
        read_run(folder)
