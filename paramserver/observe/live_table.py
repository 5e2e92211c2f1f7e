"""A table in a terminal that is updated while a training goes on.

Rule 1: one table, a bar below it, nothing that scrolls; when it closes, its last state stays.
Rule 2: seconds go on by themselves, so a long round never looks like a hang.
Rule 3: only the terminal's own colours are used: it is readable on dark and on light.
"""

from __future__ import annotations

from collections import deque
from math import log
from time import monotonic
from typing import Final, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from paramserver.observe.display import LABEL_WIDTH, in_short, part_done, rate_of, seconds_left
from paramserver.observe.events import Progressed, RunStarted

TICKS: Final = "▁▂▃▄▅▆▇█"
KEPT: Final = 400
"""Losses that the little curve is drawn from; older ones are thinned out."""
CURVE_WIDTH: Final = 16
NARROW: Final = 76
WIDE: Final = 96
TINY: Final = 50
"""Columns of a terminal below which less important figures are left out."""


class LiveTable:
    """Shows a run as one table that is updated.

    Parameters
    ----------
    file : text file
        A terminal.
    console : rich.console.Console, optional
        How to write to it; for tests.
    """

    def __init__(self, file: TextIO, console: Console | None = None) -> None:
        self._console = console or Console(file=file, highlight=False)
        self._live: Live | None = None
        self._started: RunStarted | None = None
        self._progress: Progressed | None = None
        self._progress_at = 0.0
        self._losses: deque[float] = deque()
        self._widths: dict[str, int] = {}
        self._is_over = False

    def say(self, line: str) -> None:
        """Print a line above the table."""
        self._console.print(Text(line, "bold"))

    def fact(self, label: str, text: str) -> None:
        """Print a line above the table; what does not fit goes on below itself."""
        line = Table.grid(padding=(0, 1, 0, 0))
        line.add_column(width=LABEL_WIDTH + 2, no_wrap=True)
        line.add_column(overflow="fold")
        line.add_row(Text(f"  {label}", "dim"), Text(text))
        self._console.print(line)

    def begin(self, started: RunStarted) -> None:
        """Open the table."""
        self._started, self._progress, self._is_over = started, None, False
        self._losses.clear()
        self._progress_at = monotonic()
        self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=8)
        self._live.start()

    def show(self, progress: Progressed) -> None:
        """Take the figures of a moment for the next time the table is drawn."""
        self._progress, self._progress_at = progress, monotonic()
        self._losses.append(progress.train_loss)
        if len(self._losses) > KEPT:
            kept = list(self._losses)[::2]
            self._losses.clear()
            self._losses.extend(kept)

    def close(self) -> None:
        """Draw the last figures and leave them there."""
        if self._live is not None:
            self._is_over = True
            self._live.stop()
            self._live = None
            self._console.print()

    # --- drawing ----------------------------------------------------------------------------------

    def _render(self) -> RenderableType:
        started, progress = self._started, self._progress
        if started is None:
            return Text()
        if progress is None:
            waited_s = monotonic() - self._progress_at
            unit = "round" if started.mode == "avg" else "update"
            return Text(f"  the first {unit} is on its way, {waited_s:.1f} s", "dim")
        width = self._console.width
        gap = 2 if width >= NARROW else 1
        table = Table(box=None, padding=(0, gap), header_style="dim", show_edge=False)
        columns = self._columns(started, progress, width)
        for name, value, _ in columns:
            # Figures get longer on the way; a column never gets narrower again.
            least = self._widths[name] = max(len(value), self._widths.get(name, 0))
            table.add_column(name, justify="right", no_wrap=True, min_width=least)
        table.add_row(*(Text(value, style) for _, value, style in columns))
        return Group(table, self._bar(started, progress, width))

    def _columns(
        self, started: RunStarted, progress: Progressed, width: int
    ) -> list[tuple[str, str, str]]:
        is_avg, n = started.mode == "avg", progress.n_workers
        now_s = progress.wall_s if self._is_over else self._seconds(progress)
        total = f"{started.total:,.0f}"
        unit = f"{progress.unit:>{len(total)},} / {total}" if is_avg else f"{progress.unit:,}"
        epochs = f"{progress.epochs:,.1f}" + ("" if is_avg else f" / {total}")
        score = "-" if progress.test_score is None else in_short(progress.test_score)
        columns = [
            ("rounds" if is_avg else "updates", unit, "bold"),
            ("epochs", epochs, ""),
            ("seconds", f"{now_s:,.1f}", ""),
            ("loss", in_short(progress.train_loss), ""),
            ("held-out", score, "bold green"),
        ]
        if width < TINY:
            del columns[1 if is_avg else 0]  # the one that does not say how much is left
        elif width >= NARROW:
            columns += [
                ("examples/s", f"{rate_of(started, progress):,.0f}", ""),
                # Fewer than there were: somebody is being replaced, which is worth a look.
                ("workers", str(n), "" if n >= started.n_workers else "bold yellow"),
            ]
        if width >= WIDE and progress.staleness is not None:
            columns.insert(-1, ("staleness", f"{progress.staleness:.2f}", ""))
        return columns

    def _bar(self, started: RunStarted, progress: Progressed, width: int) -> RenderableType:
        part = part_done(started, progress)
        left_s = seconds_left(started, progress, self._seconds(progress))
        bar = ProgressBar(
            total=1.0,
            completed=part,
            width=max(8, min(40, width - 48)),
            style="bright_black",
            complete_style="cyan",
            finished_style="green",
        )
        line = Table.grid(padding=(0, 1))
        line.add_row(
            " ",
            bar,
            Text(f"{part:4.0%}"),
            Text("" if left_s is None or self._is_over else f"{in_words(left_s)} left", "dim"),
            Text("loss", "dim"),
            Text(sparkline([log(max(loss, 1e-12)) for loss in self._losses], CURVE_WIDTH), "cyan"),
        )
        return line

    def _seconds(self, progress: Progressed) -> float:
        return progress.wall_s + (monotonic() - self._progress_at)


def in_words(seconds: float) -> str:
    """Say how long something takes.

    Examples
    --------
    >>> [in_words(s) for s in (4.2, 59.6, 100, 3 * 3600)]
    ['4 s', '60 s', '2 min', '3.0 h']
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def sparkline(values: list[float], width: int) -> str:
    """Draw a curve with a character for each of `width` moments.

    Examples
    --------
    >>> sparkline([4.0, 3.0, 2.0, 1.0], 4)
    '█▆▃▁'
    >>> sparkline([1.0], 4)
    ''
    """
    if len(values) < 2:
        return ""
    if len(values) > width:
        values = [values[i * (len(values) - 1) // (width - 1)] for i in range(width)]
    low, high = min(values), max(values)
    if not high > low:
        return TICKS[0] * len(values)
    top = len(TICKS) - 1
    return "".join(TICKS[round(top * (value - low) / (high - low))] for value in values)
