"""Signals at all moments of a training: it ends well, and once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from paramserver.observe.events import RunEnded, RunStarted, from_lines
from paramserver.runtime.scratch import sweep
from tests.integration.scripts import until

ROOT = Path(__file__).resolve().parents[2]
TRAIN = ("--mode", "avg", "--data", "iris", "--workers", "1", "--rounds", "3", "--out", "run")
STOPPED, STOPPED_AT_ONCE = (
    f"\nparamserver: {how}; go on with:  python -m paramserver.train --resume run\n"
    for how in ("stopped", "stopped at once")
)
NOTHING = "\nparamserver: stopped; nothing was kept that could be resumed\n"
INTERRUPTED, DONE = [("interrupted", "")], [("done", "")]
AT_ONCE = [("interrupted", "ended at once by a second Ctrl-C")]
BASELINE = "paramserver.commands.baseline"
IN_TRAINING = "paramserver.training.session:_watch"


def train(folder: Path, *moments: str) -> tuple[int, str]:
    """Train with signals at moments; return the exit code and what was said about the end."""
    needs_baseline = any(BASELINE in moment for moment in moments)
    arguments = (*TRAIN, *(() if needs_baseline else ("--no-baseline",)))
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.interrupted", *moments, "--", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def has_workers(folder: Path) -> bool:
    """Say whether a process still works there."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cwd() == str(folder):
                return True
    return False


def ends(folder: Path) -> list[tuple[str, str]]:
    """Return how the run in the folder ended and why, once for each line that says so."""
    path = folder / "run/events.jsonl"
    if not path.exists():
        return []
    lines = path.read_text().splitlines()
    assert all(json.loads(line) for line in lines)
    events = [event for _, event in from_lines(lines)]
    assert not events or isinstance(events[0], RunStarted)
    return [(event.outcome, event.reason) for event in events if isinstance(event, RunEnded)]


@pytest.mark.parametrize(
    ("moment", "code", "said", "outcome"),
    [
        ("paramserver.commands.prepare:load_data", 130, NOTHING, []),
        ("paramserver.observe.run_folder:RunFolder.make", 75, STOPPED, []),
        ("paramserver.local_cluster:LocalCluster.wait_for_workers", 75, STOPPED, []),
        ("paramserver.observe.watch:Watch.__enter__", 75, STOPPED, INTERRUPTED),
        (IN_TRAINING, 75, STOPPED, INTERRUPTED),
        ("paramserver.training.keeper:Keeper.save", 75, STOPPED, INTERRUPTED),
        ("paramserver.observe.watch:Watch.__exit__", 0, "", DONE),
        ("paramserver.cluster:Cluster.__exit__", 0, "", DONE),
        (f"{BASELINE}:compare", 0, "", DONE),
        ("paramserver.observe.run_folder:RunFolder.write_summary", 0, "", DONE),
        ("paramserver.commands.report:write_report", 0, "", DONE),
    ],
)
def test_signals_that_come_together_end_a_run_well_whenever_they_come(
    tmp_path: Path, moment: str, code: int, said: str, outcome: list[tuple[str, str]]
) -> None:
    assert train(tmp_path, f"{moment}=SIGTERM+SIGINT+SIGHUP") == (code, said)
    assert ends(tmp_path) == outcome


@pytest.mark.parametrize(
    ("moment", "outcome"),
    [
        ("paramserver.observe.watch:Watch.__exit__", AT_ONCE),
        ("paramserver.cluster:Cluster.__exit__", AT_ONCE),
        ("paramserver.commands.ending:Ending._note", INTERRUPTED),  # that line is waited for
        ("paramserver.commands.report:write_report", INTERRUPTED),
    ],
)
def test_a_second_ctrl_c_ends_it_at_once_and_leaves_whole_files(
    tmp_path: Path, moment: str, outcome: list[tuple[str, str]]
) -> None:
    said = train(tmp_path, f"{IN_TRAINING}=SIGINT", f"{moment}=SIGINT")
    assert said == (75, STOPPED_AT_ONCE)
    assert ends(tmp_path) == outcome
    until(lambda: not has_workers(tmp_path), "its workers have left")
    sweep()  # as the next start does


IN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "paramserver.train", *sys.argv[1:]])
"""


def test_a_terminal_that_is_closed_ends_a_run_well(tmp_path: Path) -> None:
    """Though nothing can be shown any more."""
    ours, theirs = os.openpty()
    popen = subprocess.Popen(
        [sys.executable, "-c", IN_TERMINAL, *TRAIN, "--rounds", "100000", "--no-baseline"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PARAMSERVER_CHECKPOINT_EVERY": "0.02"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    os.set_blocking(ours, False)

    def is_on_its_way() -> bool:
        with suppress(BlockingIOError):
            os.read(ours, 65_536)
        return any(tmp_path.glob("run/checkpoints/*.checkpoint"))

    until(is_on_its_way, "a checkpoint is written")
    os.close(ours)
    popen.wait(60)
    assert ends(tmp_path) == INTERRUPTED
    assert (tmp_path / "run/report.html").exists()
