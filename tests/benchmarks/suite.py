"""How a benchmark is run: us and the peers on the same machine in the same run.

Every measurement runs in a fresh process; contenders take turns, so that a slow minute of the
machine hits all of them alike. Shown are medians, and how many times better or worse than ours
each one is. Raw figures go to ``results/SUITE-DATE.json``, the table for the README beside it, both
after each row: a run that is cut off keeps the rows before.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile

import psutil
from rich.console import Console

from tests.benchmarks import machine, report
from tests.benchmarks.row import Measured, Row
from tests.benchmarks.rows import load_row

REPOSITORY = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).with_name("results")
MARK = "PARAMSERVER_BENCH_RUN"


def main(
    suite: str, keys: Iterable[str], description: str | None, quick_keys: Sequence[str] = ()
) -> None:
    """Measure rows as the command line says, and keep the figures under the suite's name.

    `quick_keys` are the rows of a quick run, where that shall not take them all.
    """
    keys = list(keys)
    options = _options(keys, description)
    rows = options.rows or ((quick_keys or keys) if options.quick else keys)
    console = Console()
    begun = datetime.now().astimezone()
    about = {"begun": begun.isoformat(timespec="seconds"), **machine.describe(REPOSITORY)}
    rounds: list[report.Round] = []
    folder = options.out or (None if options.quick else RESULTS)
    for row in map(load_row, rows):
        contenders = [c for c in row.contenders if options.contenders in c]
        n_repeats = 1 if options.quick else options.repeats or row.n_repeats
        for repeat in range(n_repeats):
            # Each time another one begins.
            turn = repeat % len(contenders) if contenders else 0
            for contender in contenders[turn:] + contenders[:turn]:
                console.print(f"[dim]{row.key} {contender}, {repeat + 1} of {n_repeats}")
                measured = measure(row, contender, quick=options.quick)
                rounds.append(report.Round(row.key, contender, repeat, measured))
        console.print(report.table(row, rounds))
        about["load_after"] = os.getloadavg()[0]
        if folder is not None:
            _keep(folder / f"{suite}-{begun:%Y-%m-%d}", about, rounds)
    if folder is not None:
        console.print(f"Kept in {folder}")


def measure(row: Row, contender: str, *, quick: bool) -> Measured:
    """Run one measurement in its own process, and end whatever it has left."""
    run = uuid.uuid4().hex
    command = [sys.executable, "-m", "tests.benchmarks.measure", row.key, contender]
    limit_s = 60.0 if quick else row.limit_s
    # Files, not pipes: a worker that was stopped would hold a pipe open for ever.
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        process = subprocess.Popen(
            command + ["--quick"] * quick,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), MARK: run},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
        try:
            exit_code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            return {"outcome": f"no end in {limit_s:.0f} s"}
        finally:
            _end_all_of(run, process)
        out.seek(0)
        lines = out.read().splitlines()
        err.seek(0)
        complaints = err.read().strip().splitlines()
    if exit_code != 0 or not lines:
        return {"outcome": f"failed ({exit_code}): {complaints[-1] if complaints else 'mute'}"}
    measured: Measured = json.loads(lines[-1])
    return measured


def _end_all_of(run: str, process: subprocess.Popen[bytes]) -> None:
    """Kill what still runs, stopped and daemonised processes too, known by their environment."""
    process.kill()
    for other in psutil.process_iter():
        try:
            if other.environ().get(MARK) == run:
                other.kill()
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    process.wait()


def _keep(place: Path, about: dict[str, object], rounds: list[report.Round]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    raw = {"about": about, "rounds": [r._asdict() for r in rounds]}
    text = json.dumps(raw, indent=1) + "\n"
    place.with_name(f"{place.name}.json").write_text(text, encoding="utf-8")
    table = report.markdown(rounds, about)
    place.with_name(f"{place.name}.md").write_text(table, encoding="utf-8")


def _options(keys: list[str], description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rows", nargs="+", default=[], choices=keys)
    parser.add_argument("--contenders", default="", help="only those whose name contains this")
    parser.add_argument("--repeats", type=int, default=0, help="instead of each row's own number")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it work at all?")
    parser.add_argument("--out", type=Path, help="folder for the figures, instead of results/")
    return parser.parse_args()
