"""The first minutes of a new user, timed: ``make bench-first-minutes`` (some two minutes).

Each command runs as it is typed, in a process of its own, before a terminal and in an empty folder;
what it prints is read as it comes, so that "first output" is the moment in which a user sees it.
Shown are the median of the wall time, its least and most, and the processor time of the command
with all its workers: on a shared machine the wall time says little, the processor time still does.
Raw figures go to ``results/first-minutes-DATE.json``, the table beside it.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import re
import resource
import select
import shlex
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import termios
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

import psutil
from rich.console import Console
from rich.table import Table

from tests.benchmarks import machine
from tests.benchmarks.corpus import cached_corpus

REPOSITORY: Final = Path(__file__).resolve().parents[2]
RESULTS: Final = Path(__file__).with_name("results")
PATIENCE_S: Final = 120.0
LEAVING_S: Final = 2.0
"""In which all workers are gone, whatever has become of their master."""
CORPUS, CORPUS_BYTES = "40-MB.txt", 40_000_000
SIZES: Final = ("COLUMNS", "LINES")
"""Would be believed instead of the terminal."""
COLOURS: Final = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
DONE: Final = b"held-out accuracy"
"""In the line that says what a training brought; before the comparison begins."""


@dataclass(frozen=True)
class Line:
    """What is timed of a command.

    Attributes
    ----------
    name : str
    command : tuple of str
        As a user types it; ``python`` is this interpreter, ``paramserver`` the command beside it.
    goals : dict of str to float
        What is timed -> seconds it may take.
    interrupt_at : bytes
        Press Ctrl-C when this has been printed; empty: never.
    exit_code : int
        Which end is a good one.
    """

    name: str
    command: tuple[str, ...]
    goals: Mapping[str, float]
    interrupt_at: bytes = b""
    exit_code: int = 0


@dataclass
class Timing:
    """One run of a command: seconds by what was timed."""

    wall_s: dict[str, float] = field(default_factory=dict)
    cpu_s: float = 0.0


TRAIN: Final = ("python", "-m", "paramserver.train", "--mode")
TRAINED: Final = {"first output": 1.0, "trained": 3.0, "all with the comparison": 7.0}


def lines() -> list[Line]:
    """Return what is timed, with the goals that we have set ourselves."""
    iris = ("--data", "iris", "--model", "logistic", "--partitions", "10", "--rounds", "3")
    return [
        Line("import", ("python", "-c", "import paramserver"), {"it is there": 0.1}),
        Line("--help", ("paramserver", "--help"), {"the prompt": 0.3}),
        Line("avg", (*TRAIN, "avg"), TRAINED),
        Line("async", (*TRAIN, "async"), TRAINED),
        Line("iris", (*TRAIN, "avg", *iris, "--no-baseline"), {"the prompt": 2.0}),
        Line("word count", ("python", "examples/wordcount.py", CORPUS), {"the prompt": 10.0}),
        Line(
            "word count, one killed",
            ("python", "examples/wordcount.py", CORPUS, "--kill-worker"),
            {"the prompt": 10.0},
        ),
        Line(
            "Ctrl-C",
            (*TRAIN, "avg", "--rounds", "10000000"),
            {"the prompt, from Ctrl-C on": 2.0},
            interrupt_at=b"examples/s",
            exit_code=75,
        ),
        Line("doctor", ("paramserver", "doctor"), {"the prompt": 3.0}),
    ]


def measure(line: Line, folder: Path) -> Timing:
    """Run a command before a terminal, and read what it prints as it comes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    kept = {name: value for name, value in os.environ.items() if name not in SIZES}
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (30, 100))
    began = time.perf_counter()
    process = subprocess.Popen(
        list(_as_typed(line.command)),
        cwd=folder,
        env=kept | {"PYTHONPATH": str(REPOSITORY), "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    os.close(theirs)
    timing = Timing()
    said = b""
    interrupted_at = None
    for moment, piece in _pieces(ours, began + PATIENCE_S):
        timing.wall_s.setdefault("first output", moment - began)
        said += piece
        shown = COLOURS.sub(b"", said)
        if DONE in shown:
            timing.wall_s.setdefault("trained", moment - began)
        if line.interrupt_at and interrupted_at is None and line.interrupt_at in shown:
            children = psutil.Process(process.pid).children(recursive=True)
            os.write(ours, b"\x03")  # the workers are hit, too, as they are by the key
            interrupted_at = time.perf_counter()
    os.close(ours)
    code = process.wait(PATIENCE_S)
    ended = time.perf_counter()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    timing.cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if code != line.exit_code:
        raise SystemExit(f"{line.name}: exit code {code}\n{said.decode(errors='replace')}")
    if interrupted_at is not None:
        _, left = psutil.wait_procs(children, timeout=LEAVING_S)
        if left:
            raise SystemExit(f"{line.name} has left {left}")
        timing.wall_s["the prompt, from Ctrl-C on"] = ended - interrupted_at
    whole = ended - began
    if line.name == "import":
        whole -= _bare_interpreter()
    for name in ("it is there", "the prompt", "all with the comparison"):
        timing.wall_s[name] = whole
    return timing


def _take_terminal() -> None:
    """Make standard input the terminal whose Ctrl-C this process and its children get."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where a shell has put us behind
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _as_typed(command: Iterable[str]) -> Iterator[str]:
    for word in command:
        if word == "python":
            yield sys.executable
        elif word == "paramserver":
            yield str(Path(sysconfig.get_path("scripts")) / word)
        elif word.startswith("examples/"):
            yield str(REPOSITORY / word)
        elif word == CORPUS:
            yield str(cached_corpus(CORPUS_BYTES))
        else:
            yield word


def _pieces(terminal: int, deadline: float) -> Iterator[tuple[float, bytes]]:
    """Yield what is printed with its moment, to the end of who prints it."""
    while True:
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.perf_counter()))
        if not ready:
            raise SystemExit(f"no end in {PATIENCE_S:.0f} s")
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            return
        if not piece:
            return
        yield time.perf_counter(), piece


def _bare_interpreter() -> float:
    """Return what starting Python alone takes here."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - began


def main() -> None:
    """Time everything in turns, show it, and keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument("--lines", nargs="+", metavar="NAME", help="those of these names only")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR", help="for the figures")
    options = parser.parse_args()
    chosen = [line for line in lines() if not options.lines or line.name in options.lines]
    console = Console()
    begun = datetime.now().astimezone()
    about = {"begun": begun.isoformat(timespec="seconds"), **machine.describe(REPOSITORY)}
    timings: dict[str, list[Timing]] = defaultdict(list)
    for repeat in range(options.repeats):
        for line in chosen:
            console.print(f"[dim]{line.name}, {repeat + 1} of {options.repeats}")
            with tempfile.TemporaryDirectory() as folder:
                timings[line.name].append(measure(line, Path(folder)))
    rows = list(figures(chosen, timings))
    console.print(table(rows))
    about["load_after"] = os.getloadavg()[0]
    options.out.mkdir(parents=True, exist_ok=True)
    place = options.out / f"first-minutes-{begun:%Y-%m-%d}"
    place.with_suffix(".json").write_text(
        json.dumps({"about": about, "figures": rows}, indent=1) + "\n", encoding="utf-8"
    )
    place.with_suffix(".md").write_text(markdown(rows, about), encoding="utf-8")
    console.print(f"Kept in {place}.json and .md")


def figures(
    chosen: Iterable[Line], timings: Mapping[str, list[Timing]]
) -> Iterator[dict[str, object]]:
    """Yield a row for each thing that was timed."""
    for line in chosen:
        runs = timings[line.name]
        for what, goal_s in line.goals.items():
            seconds = [run.wall_s[what] for run in runs]
            yield {
                "line": line.name,
                "command": shlex.join(line.command),
                "what": what,
                "goal_s": goal_s,
                "median_s": statistics.median(seconds),
                "least_s": min(seconds),
                "most_s": max(seconds),
                "cpu_s": statistics.median(run.cpu_s for run in runs),
                "wall_s": seconds,
            }


HEADS: Final = ("until", "goal", "median", "least", "most", "processor time")


def cells(row: Mapping[str, object]) -> tuple[str, ...]:
    """Return a row as it is shown, in seconds."""
    times = [f"{row[name]:.2f} s" for name in ("median_s", "least_s", "most_s", "cpu_s")]
    return str(row["what"]), f"{row['goal_s']:g} s", *times


def table(rows: Iterable[Mapping[str, object]]) -> Table:
    """The table for the terminal; what is above its goal stands out."""
    shown = Table(title="The first minutes", title_justify="left")
    for head in ("line", *HEADS):
        shown.add_column(head, justify="left" if head in ("line", "until") else "right")
    for row in rows:
        is_late = float(str(row["median_s"])) > float(str(row["goal_s"]))
        shown.add_row(str(row["line"]), *cells(row), style="yellow" if is_late else "")
    return shown


def markdown(rows: Iterable[Mapping[str, object]], about: Mapping[str, object]) -> str:
    """The table for the README."""
    out = [
        f"Measured on {about['begun']}: {about['processor']}, {about['cores']} cores, "
        f"Python {about['python']}, commit {str(about['commit'])[:12]}, load before "
        f"{about['load_before']:.1f}. Processor time is that of the whole command, workers "
        "included.",
        "",
        "| " + " | ".join(["you type", *HEADS]) + " |",
        "|---|---|" + "---:|" * (len(HEADS) - 1),
    ]
    out += ["| " + " | ".join([f"`{row['command']}`", *cells(row)]) + " |" for row in rows]
    return "\n".join(out) + "\n"


if __name__ == "__main__":
    main()
