"""Ways to show a run while it goes on: one interface, and plain lines. It decides nothing.

Rule 1: a display shows events, and words between them; it never holds up a training, and an error
        of the place it writes to (a closed pipe) is for the caller.
Rule 2: what is shown last stays: after `close` the last figures can be read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final, Protocol, TextIO

from paramserver.observe.events import Progressed, RunStarted
from paramserver.observe.words import count

LINE_GROWTH: Final = 1.25
"""Plain lines come at times that grow by this factor: a day's log is some fifty lines ..."""
LINE_FIRST_S: Final = 0.25
"""... from this on ..."""
LINE_MAX_GAP_S: Final = 60.0
"""... and never further apart than this."""

LARGE_FIGURE: Final = 1e6
"""From here on figures are written with their power of ten."""
LABEL_WIDTH: Final = 10
ETA_AFTER_S: Final = 1.0
"""How much of a run must have been seen before its end is foretold."""


class Display(Protocol):
    """Shows a run."""

    def say(self, line: str) -> None:
        """Show a line of words, above what is updated."""

    def fact(self, label: str, text: str) -> None:
        """Show something that is so, under a short label (empty: more of the last one)."""

    def begin(self, started: RunStarted) -> None:
        """Show that a run begins."""

    def show(self, progress: Progressed) -> None:
        """Show how far it is."""

    def close(self) -> None:
        """Show the last figures for good, and give back what was taken."""


class Silence:
    """Shows nothing."""

    def say(self, line: str) -> None:
        """Show nothing."""

    def fact(self, label: str, text: str) -> None:
        """Show nothing."""

    def begin(self, started: RunStarted) -> None:
        """Show nothing."""

    def show(self, progress: Progressed) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show nothing."""


class Lines:
    """Prints lines, more and more seldom.

    Parameters
    ----------
    file : text file
    """

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file
        self._started: RunStarted | None = None
        self._next_s = 0.0
        self._held: Progressed | None = None

    def say(self, line: str) -> None:
        """Print a line at once."""
        print(line, file=self._file or sys.stdout, flush=True)

    def fact(self, label: str, text: str) -> None:
        """Print a line at once."""
        self.say(f"  {label:<{LABEL_WIDTH}} {text}")

    def begin(self, started: RunStarted) -> None:
        """Print nothing; remember what the figures are of."""
        self._started = started
        self._next_s, self._held = 0.0, None

    def show(self, progress: Progressed) -> None:
        """Print a line when it is time for one; the last one is printed by `close`."""
        self._held = progress
        if progress.wall_s >= self._next_s:
            self._print_held()
            wait_s = max(LINE_FIRST_S, (LINE_GROWTH - 1) * progress.wall_s)
            self._next_s = progress.wall_s + min(wait_s, LINE_MAX_GAP_S)

    def close(self) -> None:
        """Print what was held back."""
        self._print_held()

    def _print_held(self) -> None:
        if self._held is not None and self._started is not None:
            figures = figures_of(self._started, self._held)
            self.say("  ".join(figures[name] for name in figures))
            self._held = None


def figures_of(started: RunStarted, progress: Progressed) -> dict[str, str]:
    """Return the figures of a moment, in words and of steady width."""
    unit = "rounds" if started.mode == "avg" else "updates"
    if progress.unit == 1:
        unit = f"{unit[:-1]} "  # as wide
    optional = {}
    if progress.test_score is not None:
        optional["score"] = f"held-out {in_short(progress.test_score):>7}"
    if progress.staleness is not None:
        optional["staleness"] = f"staleness {progress.staleness:5.2f}"
    rate = rate_of(started, progress)
    return {
        "unit": f"{progress.unit:>9,} {unit}",
        "epochs": f"{progress.epochs:8.1f} epochs",
        "seconds": f"{progress.wall_s:8.2f} s",
        "loss": f"loss {in_short(progress.train_loss):>8}",
        **optional,
        "rate": f"{rate:>11,.0f} examples/s",
        "workers": count(progress.n_workers, "worker"),
    }


def in_short(figure: float) -> str:
    """Return a loss or a score so that it can be read, also of a run that diverges.

    Examples
    --------
    >>> [in_short(figure) for figure in (0.97123, -42192.9, 1.5e30)]
    ['0.9712', '-42192.9000', '1.50e+30']
    """
    return f"{figure:.4f}" if abs(figure) < LARGE_FIGURE else f"{figure:.2e}"


def rate_of(started: RunStarted, progress: Progressed) -> float:
    """Return the examples a second since the beginning."""
    return progress.epochs * started.n_examples / progress.wall_s if progress.wall_s > 0 else 0.0


def part_done(started: RunStarted, progress: Progressed) -> float:
    """Return how much of the work is done, from 0 to 1."""
    done = progress.unit if started.mode == "avg" else progress.epochs
    return min(1.0, done / started.total) if started.total else 1.0


def seconds_left(started: RunStarted, progress: Progressed, now_s: float) -> float | None:
    """Return how long a run will go on at its pace so far; None while that is a guess."""
    part = part_done(started, progress)
    if progress.wall_s < ETA_AFTER_S or not 0 < part < 1:
        return None
    return max(0.0, progress.wall_s / part - now_s)


def choose_display(file: TextIO, *, live: Callable[[TextIO], Display] | None = None) -> Display:
    """Return a live table where somebody watches a terminal, else lines."""
    if file.isatty():
        if live is None:
            from paramserver.observe.live_table import LiveTable

            live = LiveTable
        return live(file)
    return Lines(file)
