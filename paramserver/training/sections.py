"""What is shown of a training's jobs, live and in its report alike. Values in, HTML out.

Rule 1: what was not measured is not shown; what is empty says so or is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from paramserver.drawing.charts import Line, bar_chart, line_charts, shares_bar, small_shares
from paramserver.drawing.gantt import BARS_MAX, Bar, gantt, overview
from paramserver.drawing.page import Html, figure, section, table
from paramserver.drawing.scales import by_number
from paramserver.training.rounds import round_times
from paramserver.training.tally import PartitionState, WorkerTime
from paramserver.training.timeline import JobSpan

PARTITIONS_MAX: Final = 64
"""Partitions in the table; more are counted."""
WORKERS_MAX: Final = 100


# --- who had which job when -----------------------------------------------------------------------


def timeline_section(spans: Sequence[JobSpan], unit: str) -> str:
    """Return the pictures of all jobs and of the latest, with how to read them.

    Parameters
    ----------
    spans : sequence of JobSpan
    unit : str
        "round" or "epoch".
    """
    about = (
        f"One bar is a job on its worker, one colour is one {unit}. In a gap the worker had no job "
        "of this training."
    )
    x_title = "seconds of training"
    latest = gantt(_bars(spans[-BARS_MAX:], unit), x_title=x_title, label="jobs of each worker")
    if len(spans) <= BARS_MAX:
        return section("Timeline", about, figure("Jobs", "of each worker", latest))
    whole = overview(_bars(spans, unit), x_title=x_title, label="when each worker had jobs")
    drawn = figure("Workers at work", f"the latest {len(spans):,} jobs", whole) + figure(
        "Jobs", f"of each worker, the latest {BARS_MAX}", latest
    )
    return section("Timeline", about, f'<div class="stack">{drawn}</div>')


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
        ("lost", time.lost_s, "c2"),
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
    return figure("Workers' time", f"{len(times)} workers together", bar, caption)


def time_table(workers: Mapping[str, WorkerTime]) -> str:
    """Return the table of where the time of each worker went; nothing for none."""
    names = (
        "worker", "jobs", "failed or lost", "not needed", "computing", "on the wire", "waiting",
        "lost", "shares",
    )  # fmt: skip
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
                *(f"{each:,.2f} s" if each else "" for each in seconds),
                shares_cell(time),
            )
        )
    return table(names, rows, left=(0, 8)) if rows else ""


# --- the price of asynchrony, and of the barrier --------------------------------------------------


def staleness_section(counts: Mapping[int, int], found: Mapping[str, float], more: str = "") -> str:
    """Return the histogram of the staleness, in words and drawn.

    Parameters
    ----------
    counts : mapping
        Updates by staleness.
    found : mapping
        As `staleness.summarise` returns it.
    more : str
        HTML of another figure.
    """
    picture = bar_chart(counts, x_title="staleness (updates by others)", y_title="updates")
    about = (
        f"{found['mean']:.2f} updates by others on average between reading the weights and "
        f"changing them, at most {found['p95']} for 95 of 100, {found['max']} at worst."
    )
    charts = figure("Staleness", "of all updates", picture) + more
    return section("Staleness", about, f'<div class="charts">{charts}</div>')


def barrier_figure(spans: Iterable[JobSpan]) -> str:
    """Return the picture of what the barrier of each round cost; nothing for less than 2 rounds."""
    times = round_times(spans)
    if len(times) < 2:
        return ""
    lines = [
        Line("a job takes", [(t.number, 1e3 * t.job_s) for t in times], "c1"),
        Line("its result waits for the last", [(t.number, 1e3 * t.wait_s) for t in times], "c4"),
    ]
    picture = line_charts(lines, x_title="rounds", y_title="milliseconds", from_zero=True)
    share = sum(t.wait_s for t in times) / (sum(t.wait_s + t.job_s for t in times) or 1.0)
    caption = f"{share:.0%} of the time of a round is waiting at its barrier."
    return figure("The barrier", "milliseconds of each round, on average", picture, caption)


# --- data --------------------------------------------------------------------------------------


def partitions_section(partitions: Sequence[PartitionState]) -> str:
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
    about = (
        f"{total:,} rows in {len(partitions):,} {noun}; the worker that has each, or had it last."
    )
    drawn = table(("partition", "rows", "epochs seen", "worker"), rows, left=(3,))
    return section("Partitions", about, f'<div class="narrow">{drawn}</div>')
