"""How a run ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from paramserver.commands.ending import Ending
from paramserver.commands.interrupts import Interrupts
from paramserver.observe.events import Event, RunEnded, from_lines
from paramserver.observe.run_folder import EVENTS, RunFolder
from tests.unit.observe.run_files import STARTED

GO_ON = "go on with:  python -m paramserver.train --resume "


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    with Interrupts() as found:
        yield found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[RunFolder]:
    with RunFolder.make(tmp_path / "a run") as found:
        yield found


def events(folder: RunFolder) -> list[Event]:
    with (folder.path / EVENTS).open() as lines:
        return [event for _, event in from_lines(lines)]


def test_the_first_end_that_is_noted_counts(interrupts: Interrupts, folder: RunFolder) -> None:
    ending = Ending(interrupts)
    ending.has(folder)
    folder.note(STARTED)
    for outcome in ("done", "failed"):
        ending.note(RunEnded(outcome=outcome))
    assert events(folder) == [STARTED, RunEnded(outcome="done")]


def test_what_has_not_begun_has_no_end(interrupts: Interrupts, folder: RunFolder) -> None:
    ending = Ending(interrupts)
    ending.note(RunEnded(outcome="failed"))
    ending.has(folder)
    ending.note(RunEnded(outcome="failed"))
    assert events(folder) == []


def test_it_says_how_to_go_on_where_something_is_kept(
    interrupts: Interrupts, folder: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    ending = Ending(interrupts)
    assert (ending.tell("stopped"), ending.tell("no workers", 1)) == (130, 1)
    ending.has(folder)
    assert ending.tell("stopped") == 75
    assert Ending(interrupts, Path("runs/old")).tell("stopped") == 75
    assert capsys.readouterr().err.splitlines()[1::2] == [
        "paramserver: stopped; nothing was kept that could be resumed",
        "paramserver: no workers; nothing was kept that could be resumed",
        f"paramserver: stopped; {GO_ON}'{folder.path}'",
        f"paramserver: stopped; {GO_ON}runs/old",
    ]


AT_ONCE = RunEnded(outcome="interrupted", reason="ended at once by a second Ctrl-C")
DONE = RunEnded(outcome="done")


@pytest.mark.parametrize(
    ("noted", "found", "code", "words"),
    [
        ([], AT_ONCE, 75, f"stopped at once; {GO_ON}"),
        ([DONE], DONE, 0, "stopped at once; the run itself is complete"),
    ],
)
def test_a_second_ctrl_c_leaves_an_end_and_the_way_on(
    interrupts: Interrupts,
    folder: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    noted: list[RunEnded],
    found: RunEnded,
    code: int,
    words: str,
) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    ending = Ending(interrupts)
    ending.has(folder)
    folder.note(STARTED)
    for event in noted:
        ending.note(event)
    for _ in range(2):
        signal.raise_signal(signal.SIGINT)
    assert codes == [code]
    assert words in capfd.readouterr().err
    assert events(folder) == [STARTED, found]


def test_a_folder_that_cannot_be_written_costs_the_line_alone(
    interrupts: Interrupts,
    folder: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(_: Event) -> None:
        raise OSError(28, "No space left on device")

    ending = Ending(interrupts)
    ending.has(folder)
    folder.note(STARTED)
    monkeypatch.setattr(folder, "note", full)
    ending.note(RunEnded(outcome="done"))
    assert capsys.readouterr().err == f"paramserver: {folder.path}: No space left on device\n"
