"""``paramserver wordcount``: counts the words of files, and shows how a cluster does it.

Rule 1: what counts is a `MapReduce` that is given; here are options, two bars, and a table.
Rule 2: results go to standard output, everything else to standard error.

A word is a run of bytes without white space, ASCII letters made small; with ``--letters`` a run of
ASCII letters. ``--kill-worker`` kills a busy worker on the way: the counts are the same all the
same.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, NoReturn

from paramserver.cluster import Cluster
from paramserver.commands.exits import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED, EXIT_STOPPED
from paramserver.errors import ConfigError, DataError, ParamServerError
from paramserver.local_cluster import LocalCluster
from paramserver.mapreduce.run import MapReduce
from paramserver.mapreduce.tokens import count_letters, count_words
from paramserver.observe.words import count

BLOCK_BYTES: Final = 1 << 20
"""Long blocks have fewer pairs in all: a word that comes again in its block is one pair."""


def word_count(letters: bool = False) -> MapReduce:
    """Return the program: its mapper counts a block of whole words."""
    return MapReduce(count_letters if letters else count_words, sum, unit="words")


def main(
    arguments: list[str] | None = None, make_program: Callable[[bool], MapReduce] = word_count
) -> int:
    """Run the command line; return the exit code.

    Parameters
    ----------
    arguments : list of str, optional
        By default those of the process.
    make_program : callable
        Returns what counts; it is told whether words are runs of letters.
    """
    args = parse(arguments)
    try:
        report(args, make_program(args.letters))
    except (ConfigError, DataError) as error:
        print(f"wordcount: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except ParamServerError as error:
        print(f"wordcount: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("wordcount: stopped; nothing was written", file=sys.stderr)
        return EXIT_STOPPED
    return EXIT_DONE


class Parser(argparse.ArgumentParser):
    """Ends with our exit code for bad input."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_CONFIG, f"wordcount: {message}\n")


EXAMPLES: Final = """\
Examples:
  paramserver wordcount '*.txt'
  paramserver wordcount big.txt --workers 4 --top 5 --out counts
  paramserver wordcount '*.txt' --kill-worker      the counts are the same

In Python: ps.MapReduce(count_words, sum, unit="words").run(files, cluster)
Exit codes: 0 done, 1 failed, 77 a setting or file that cannot be, 130 stopped.
"""


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(
        prog="paramserver wordcount",
        description="Count the words of files: map jobs count pieces of them, reduce jobs add up.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    usual = "; by default %(default)s"
    parser.add_argument("files", nargs="+", metavar="FILE", help="text files, or patterns of them")
    work = parser.add_argument_group("How the work is cut")
    work.add_argument(
        "--workers", type=int, default=10, metavar="N", help="processes of this machine" + usual
    )
    work.add_argument(
        "--map-jobs", type=int, default=30, metavar="N", help="pieces of the files" + usual
    )
    work.add_argument(
        "--reduce-jobs", type=int, default=60, metavar="N", help="pieces of the words" + usual
    )
    work.add_argument(
        "--letters", action="store_true",
        help="words are runs of ASCII letters; by default what stands between white space",
    )  # fmt: skip
    work.add_argument(
        "--kill-worker", action="store_true", help="kill one while it works, to see what happens"
    )
    shown = parser.add_argument_group("What comes out")
    shown.add_argument(
        "--top", type=int, default=20, metavar="N", help="most frequent words to show" + usual
    )
    shown.add_argument("--out", metavar="DIR", help="write part-00000, ... there: word, tab, count")
    shown.add_argument(
        "--json", action="store_true", help="print the figures as a JSON object on the last line"
    )
    return parser.parse_args(arguments)


def report(args: argparse.Namespace, program: MapReduce) -> None:
    """Count, and show it."""
    program.check(args.files, args.map_jobs, args.reduce_jobs, args.out)
    started = time.perf_counter()
    with LocalCluster(n_workers=args.workers) as cluster:
        ready = time.perf_counter()
        verb = "is" if args.workers == 1 else "are"
        say(f"{count(args.workers, 'worker')} {verb} ready after {ready - started:.1f} s")
        killer = Killer(cluster) if args.kill_worker else None
        with progress() as show:
            result = program.run(
                args.files, cluster, n_map=args.map_jobs, n_reduce=args.reduce_jobs,
                out_dir=args.out, block_bytes=BLOCK_BYTES, on_progress=both(show, killer),
            )  # fmt: skip
        seconds = time.perf_counter() - ready
    if killer is not None and not killer.victim:
        say("nobody was killed: the work was done too soon")
    top, total = summary(result, args.top)
    figures = {
        "total_words": total,
        "distinct_words": result.counters["results"],
        "seconds": round(seconds, 3),
        "mb_per_s": round(result.counters["input_bytes"] / 1e6 / seconds, 2),
        "map_jobs": result.counters["map_jobs"],
        "reduce_jobs": result.counters["reduce_jobs"],
        "workers": args.workers,
        "workers_lost": result.counters["workers_lost"],
        "attempts": result.counters["attempts"],
    }
    show_table(top, figures, args.out)
    if args.json:
        print(json.dumps(figures), flush=True)


def summary(result: Any, n: int) -> tuple[list[tuple[bytes, int]], int]:
    """Return the most frequent words and the number of all words."""
    if not result.paths:
        return result.most_common(n), result.total()
    total = 0
    top: list[tuple[int, bytes]] = []
    for path in result.paths:
        pairs = [(int(n_times), word) for word, n_times in lines_of(path)]
        total += sum(n_times for n_times, _ in pairs)
        top = heapq.nsmallest(n, [*top, *pairs], key=lambda pair: (-pair[0], pair[1]))
    return [(word, n_times) for n_times, word in top], total


def lines_of(path: Path) -> Iterable[list[bytes]]:
    with path.open("rb") as file:
        for line in file:
            yield line.rsplit(b"\t", 1)


class Killer:
    """Kills a worker that is busy, once, when a third of the map jobs is done."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.victim = 0

    def __call__(self, phase: str, n_done: int, n_total: int) -> None:
        if self.victim or (phase == "map" and n_done < n_total // 3):
            return
        busy = [worker for worker in self.cluster.status().workers if worker.job is not None]
        if busy:
            self.victim = busy[0].pid
            os.kill(self.victim, signal.SIGKILL)
            say(f"killed worker {busy[0].worker_id} (process {self.victim})")


def both(*hooks: Callable[[str, int, int], None] | None) -> Callable[[str, int, int], None]:
    def hook(phase: str, n_done: int, n_total: int) -> None:
        for each in hooks:
            if each is not None:
                each(phase, n_done, n_total)

    return hook


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class PlainProgress:
    """A line now and then, where nobody watches."""

    def __init__(self) -> None:
        self.said: dict[str, tuple[float, int]] = {}

    def __enter__(self) -> Callable[[str, int, int], None]:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __call__(self, phase: str, n_done: int, n_total: int) -> None:
        now = time.monotonic()
        when, said = self.said.get(phase, (now - 10, -1))
        if n_done > said and (n_done == n_total or (n_done and now - when > 1)):
            self.said[phase] = now, n_done
            say(f"{phase:6} {n_done:4} of {n_total} jobs done")


class Bars:
    """Two bars."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

        columns = "{task.description:6}", BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        self.bars = Progress(*columns, console=Console(stderr=True))
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> Callable[[str, int, int], None]:
        for phase in ("map", "reduce"):
            self.tasks[phase] = self.bars.add_task(phase, total=None, start=phase == "map")
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def __call__(self, phase: str, n_done: int, n_total: int) -> None:
        if phase == "reduce" and n_done:
            self.bars.start_task(self.tasks[phase])
        self.bars.update(self.tasks[phase], completed=n_done, total=n_total)


def progress() -> Any:
    return Bars() if sys.stderr.isatty() else PlainProgress()


def show_table(top: list[tuple[bytes, int]], figures: dict[str, Any], out: str | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if top:
        table = Table("word", "count", "share", title=f"The {len(top)} most frequent words")
        for column in table.columns[1:]:
            column.justify = "right"
        for word, n_times in top:
            shown = word[:60].decode("utf-8", "backslashreplace")
            printable = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in shown)
            share = f"{n_times / figures['total_words']:.2%}"
            table.add_row(Text(printable), f"{n_times:,}", share)
        console.print(table)
    lines = [
        "{total_words:,} words, {distinct_words:,} different ones",
        "{seconds:.2f} s, {mb_per_s:.1f} MB/s, {map_jobs} map and {reduce_jobs} reduce jobs "
        "in {attempts} attempts, {workers_lost} of {workers} workers lost",
    ]
    for line in lines:
        print(line.format(**figures))
    if out:
        print(f"All counts are in {out}/part-*")
