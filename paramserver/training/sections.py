"""What is shown of a training's jobs, live and in its report alike. Values in, HTML out.

Rule 1: what was not measured is not shown; what is empty says so or is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from paramserver.drawing.charts import (
    Line,
    bar_chart,
    binned,
    line_charts,
    shares_bar,
    small_shares,
    spark_bars,
)
from paramserver.drawing.gantt import BARS_MAX, Bar, gantt, overview
from paramserver.drawing.page import Html, figure, section, table
from paramserver.drawing.scales import by_number, unit_of_time
from paramserver.training.rounds import round_times
from paramserver.training.staleness import summarise
from paramserver.training.tally import PartitionState, WorkerTime
from paramserver.training.timeline import JobSpan

PARTITIONS_MAX: Final = 64
"""Partitions in the table; more are counted."""
WORKERS_MAX: Final = 100
SHORT: Final = {"seconds": "s", "minutes": "min", "hours": "h"}


# --- who had which job when -----------------------------------------------------------------------


def timeline_section(spans: Sequence[JobSpan], unit: str) -> str:
    """Return the pictures of all jobs and of the latest, with how to read them.

    Parameters
    ----------
    spans : sequence of JobSpan
    unit : str
        "round" or "epoch".
    """
    x_title, gaps = "seconds of training", "In a gap the worker had no job of this training."
    each = f"One bar is a job on its worker; with each {unit} the colour changes."
    bars = _bars(spans, unit)
    latest = gantt(bars, x_title=x_title, label="jobs of each worker")
    if len(spans) <= BARS_MAX:
        return section("Timeline", f"{each} {gaps}", figure("Jobs", "of each worker", latest))
    whole = overview(bars, x_title=x_title, label="when each worker had jobs")
    merged = "Jobs that follow each other closely are one bar."
    drawn = figure("Workers at work", f"the latest {len(spans):,} jobs", whole, merged) + figure(
        "Jobs", f"of each worker, the latest {BARS_MAX}", latest, each
    )
    return section("Timeline", gaps, f'<div class="stack">{drawn}</div>')


def _bars(spans: Sequence[JobSpan], unit: str) -> list[Bar]:
    return [
        Bar(
            span.worker_id,
            span.begun_s,
            span.ended_s,
            span.number,
            f"{span.worker_id}: {unit} {span.number}, partition {span.partition}",
            _kind(span),
        )
        for span in spans
    ]


def _kind(span: JobSpan) -> str:
    if span.end != "done":
        return span.end
    return "backup" if span.is_backup else ""


# --- where the time went --------------------------------------------------------------------------


def shares_of(time: WorkerTime) -> list[tuple[str, float, str]]:
    """Return what the time of a worker went to: names, parts of 1, colours."""
    total_s = time.total_s or 1.0
    parts = (
        ("computing", time.compute_s, "c1"),
        ("on the wire", time.wire_s, "c5"),
        ("waiting", time.wait_s, "c4"),
        ("came to nothing", time.lost_s, "c2"),
    )
    return [(name, seconds / total_s, colour) for name, seconds, colour in parts if seconds > 0]


def shares_cell(time: WorkerTime) -> Html:
    """Return the shares of a worker's time for a cell: all drawn, computing in figures."""
    if not time.total_s:
        return Html("")
    computing = time.compute_s / time.total_s
    return Html(
        f'<span class="shared">{small_shares(shares_of(time))} <b>{computing:.0%}</b></span>'
    )


def time_figure(workers: Mapping[str, WorkerTime]) -> str:
    """Return the picture of where the time of all workers went; nothing before a job has ended."""
    times = list(workers.values())
    whole = WorkerTime(
        compute_s=sum(time.compute_s for time in times),
        wire_s=sum(time.wire_s for time in times),
        wait_s=sum(time.wait_s for time in times),
        lost_s=sum(time.lost_s for time in times),
    )
    if not whole.total_s:
        return ""
    bar = shares_bar(shares_of(whole), "where the time of the workers went")
    caption = (
        "Up to the end of the last job of each worker. On the wire: jobs, weights and gradients on "
        "their way, and the turn of a processor that others have. Waiting: for other workers at "
        "the end of a round, for the parameter server, or for a job."
    )
    who = "of one worker" if len(times) == 1 else f"of {len(times)} workers together"
    return figure("Workers' time", who, bar, caption)


def time_table(workers: Mapping[str, WorkerTime]) -> str:
    """Return the table of where the time of each worker went; nothing for none."""
    names = (
        "worker", "jobs", "failed or lost", "not needed", "computing", "on the wire", "waiting",
        "came to nothing", "shares",
    )  # fmt: skip
    unit, size = unit_of_time(max((time.total_s for time in workers.values()), default=0.0))
    rows: list[Sequence[object]] = []
    for name in sorted(workers, key=by_number)[:WORKERS_MAX]:
        time = workers[name]
        seconds = (time.compute_s, time.wire_s, time.wait_s, time.lost_s)
        rows.append(
            (
                name,
                f"{time.n_jobs:,}",
                time.n_failed or "",
                time.n_unneeded or "",
                *(f"{each / size:,.2f} {SHORT[unit]}" if each else "" for each in seconds),
                shares_cell(time),
            )
        )
    return table(names, rows, left=(0, 8)) if rows else ""


# --- the price of asynchrony, and of the barrier --------------------------------------------------


def staleness_figure(staleness: Mapping[int, int]) -> str:
    """Return the histogram of the staleness of updates, drawn and in words.

    Parameters
    ----------
    staleness : mapping
        Updates by staleness.
    """
    found = summarise(staleness)
    picture = bar_chart(staleness, x_title="staleness (updates by others)", y_title="updates")
    caption = (
        f"{found['mean']:.2f} updates by others on average between reading the weights and "
        f"changing them, at most {found['p95']} for 95 of 100, {found['max']} at worst."
    )
    return figure("Staleness", "of all updates", picture, caption)


def staleness_table(by_worker: Mapping[str, Mapping[int, int]]) -> str:
    """Return the table of the staleness of each worker's updates; nothing for none."""
    names = sorted(by_worker, key=by_number)
    bins, width = binned({value: 1 for counts in by_worker.values() for value in counts})
    n_bins = max(bins, default=0) + 1
    rows: list[Sequence[object]] = []
    for name in names[:WORKERS_MAX]:
        counts = by_worker[name]
        found = summarise(counts)
        rows.append(
            (
                name,
                f"{sum(counts.values()):,}",
                f"{found['mean']:.2f}",
                found["p95"],
                found["max"],
                Html(spark_bars(counts, n_bins, width)),
            )
        )
    if len(names) > WORKERS_MAX:
        rows.append((f"and {len(names) - WORKERS_MAX} more", "", "", "", "", ""))
    columns = ("worker", "updates", "mean staleness", "p95", "max", "histogram")
    return table(columns, rows, left=(0, 5)) if rows else ""


def barrier_figure(spans: Iterable[JobSpan]) -> str:
    """Return the picture of what the barrier of each round cost; nothing for less than 2 rounds."""
    times = round_times(spans)
    if len(times) < 2:
        return ""
    lines = [
        Line("a job takes", [(t.number, 1e3 * t.job_s) for t in times], "c1"),
        Line("its result waits for the last", [(t.number, 1e3 * t.wait_s) for t in times], "c4"),
    ]
    picture = line_charts(
        lines, x_title="rounds", y_title="milliseconds", from_zero=True, whole="x"
    )
    share = sum(t.wait_s for t in times) / (sum(t.wait_s + t.job_s for t in times) or 1.0)
    caption = f"{share:.0%} of the time of a round is waiting at its barrier."
    return figure("The barrier", "milliseconds of each round", picture, caption)


# --- data -----------------------------------------------------------------------------------------


def partitions_figure(partitions: Sequence[PartitionState]) -> str:
    """Return the table of partitions; nothing for none."""
    if not partitions:
        return ""
    rows: list[Sequence[object]] = [
        (
            state.partition,
            f"{state.n_examples:,}",
            f"{state.epochs:,.2f}",
            state.owner or "nobody yet",
        )
        for state in partitions[:PARTITIONS_MAX]
    ]
    if len(partitions) > PARTITIONS_MAX:
        rows.append((f"and {len(partitions) - PARTITIONS_MAX:,} more", "", "", ""))
    total = sum(state.n_examples for state in partitions)
    noun = "partition" if len(partitions) == 1 else "partitions"
    drawn = table(("number", "rows", "epochs seen", "worker"), rows, left=(3,))
    caption = "With the worker that has each, or had it last."
    what = f"{total:,} rows in {len(partitions):,} {noun}"
    return figure("Partitions", what, f'<div class="short">{drawn}</div>', caption)


def work_section(title: str, about: str, figures: Sequence[str], *tables: str) -> str:
    """Return figures side by side and tables below; nothing for nothing."""
    drawn = "".join(figures)
    below = "".join(f'<div class="below">{each}</div>' for each in tables if each)
    if not drawn and not below:
        return ""
    return section(title, about, f'<div class="charts">{drawn}</div>{below}')
