"""Signals at all moments of a training: it ends well, and once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from paramserver.observe.events import RunEnded, RunStarted, from_lines

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ("--mode", "avg", "--data", "iris", "--workers", "1", "--rounds", "3", "--out", "run")
STOPPED, STOPPED_AT_ONCE = (
    f"\nparamserver: {how}; go on with:  python -m paramserver.train --resume run\n"
    for how in ("stopped", "stopped at once")
)
NOTHING = "\nparamserver: stopped; nothing was kept that could be resumed\n"
IN_TRAINING = "paramserver.training.session:_watch"


def train(folder: Path, *moments: str) -> tuple[int, str]:
    """Train with signals at moments; return the exit code and what was said about the end."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.interrupted", *moments, "--", *TRAIN],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def ends(folder: Path) -> list[str]:
    """Return how the run in the folder ended, once for each line that says so after a beginning."""
    path = folder / "run/events.jsonl"
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    assert all(json.loads(line) for line in lines)
    events = [event for _, event in from_lines(lines)]
    assert not events or isinstance(events[0], RunStarted)
    return [event.outcome for event in events if isinstance(event, RunEnded)]


@pytest.mark.parametrize(
    ("moment", "code", "said", "outcomes"),
    [
        ("paramserver.commands.prepare:load_data", 130, NOTHING, []),
        ("paramserver.observe.run_folder:RunFolder.make", 75, STOPPED, []),
        ("paramserver.local_cluster:LocalCluster.wait_for_workers", 75, STOPPED, []),
        ("paramserver.observe.watch:Watch.__enter__", 75, STOPPED, ["interrupted"]),
        (IN_TRAINING, 75, STOPPED, ["interrupted"]),
        ("paramserver.training.keeper:Keeper.save", 75, STOPPED, ["interrupted"]),
        ("paramserver.observe.watch:Watch.__exit__", 0, "", ["done"]),
        ("paramserver.cluster:Cluster.__exit__", 0, "", ["done"]),
        ("paramserver.commands.baseline:compare", 0, "", ["done"]),
        ("paramserver.observe.run_folder:RunFolder.write_summary", 0, "", ["done"]),
        ("paramserver.commands.report:write_report", 0, "", ["done"]),
    ],
)
@pytest.mark.parametrize("signals", ["SIGTERM+SIGINT+SIGHUP"])
def test_signals_that_come_together_end_a_run_well_whenever_they_come(
    tmp_path: Path, moment: str, signals: str, code: int, said: str, outcomes: list[str]
) -> None:
    assert train(tmp_path, f"{moment}={signals}") == (code, said)
    assert ends(tmp_path) == outcomes


@pytest.mark.parametrize(
    "moment",
    [
        "paramserver.observe.watch:Watch.__exit__",
        "paramserver.cluster:Cluster.__exit__",
        "paramserver.commands.ending:Ending.note",
        "paramserver.commands.report:write_report",
    ],
)
def test_a_second_ctrl_c_ends_it_at_once_and_leaves_whole_files(
    tmp_path: Path, moment: str
) -> None:
    said = train(tmp_path, f"{IN_TRAINING}=SIGINT", f"{moment}=SIGINT")
    assert said == (75, STOPPED_AT_ONCE)
    assert ends(tmp_path) == ["interrupted"]


def test_a_second_ctrl_c_amid_the_last_line_waits_for_it(tmp_path: Path) -> None:
    """The line is on its way: there is one, and it says what was so."""
    moment = "paramserver.observe.run_folder:to_line"
    said = train(tmp_path, f"{IN_TRAINING}=SIGINT", f"{moment}=SIGINT")
    assert said == (75, STOPPED_AT_ONCE)
    assert ends(tmp_path) == ["interrupted"]
