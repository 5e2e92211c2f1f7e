"""A run shown in a notebook: a few figures and a curve, updated in place.

Rule 1: it needs nothing that a notebook does not have by itself: HTML and SVG, no widgets, no
        scripts, no network. What is shown last is kept in the file.
Rule 2: it takes the notebook's own text colour, so it is readable on dark and on light.
"""

from __future__ import annotations

import sys
from collections import deque
from html import escape
from importlib import import_module
from math import log
from time import monotonic
from typing import Any, Final

from paramserver.observe.display import in_short, part_done, rate_of
from paramserver.observe.events import Progressed, RunStarted
from paramserver.observe.words import count

UPDATE_S: Final = 0.2
"""No more often than this: each update is a message to the browser."""
KEPT: Final = 400
"""Points of the curve; more are thinned out."""
WORDS_MAX: Final = 20
"""Lines of words that are shown; all are sent with each update, and a crash loop says many."""
WIDTH, HEIGHT = 420, 90


def is_notebook() -> bool:
    """Say whether this runs in the kernel of a notebook."""
    shell = sys.modules.get("IPython")
    get_ipython = getattr(shell, "get_ipython", None)
    return get_ipython is not None and hasattr(get_ipython(), "kernel")


class NotebookView:
    """Shows a run below the cell that started it."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._started: RunStarted | None = None
        self._progress: Progressed | None = None
        self._points: list[Progressed] = []
        self._words: deque[str] = deque(maxlen=WORDS_MAX)
        self._n_words = 0
        self._next_at = 0.0

    def say(self, line: str) -> None:
        """Show a line of words below the figures."""
        self._words.append(line)
        self._n_words += 1
        self._update()

    def fact(self, label: str, text: str) -> None:
        """Show a line of words below the figures."""
        self.say(f"{label} {text}".strip())

    def begin(self, started: RunStarted) -> None:
        """Show that a run begins."""
        self._started, self._progress = started, None
        self._points = []
        self._words.clear()
        self._n_words = 0
        self._handle = None
        self._update()

    def show(self, progress: Progressed) -> None:
        """Take the figures of a moment, and show them when it is time."""
        self._progress = progress
        self._points.append(progress)
        if len(self._points) > KEPT:
            del self._points[1:-1:2]
        if monotonic() >= self._next_at:
            self._update()

    def close(self) -> None:
        """Show the last figures for good."""
        self._update()

    def _update(self) -> None:
        if self._started is None:
            return
        ipython = import_module("IPython.display")
        words = list(self._words)
        if self._n_words > len(words):
            words.insert(0, f"{self._n_words - len(words):,} lines before these")
        page = ipython.HTML(render(self._started, self._progress, self._points, words))
        if self._handle is None:
            self._handle = ipython.display(page, display_id=True)
        else:
            self._handle.update(page)
        self._next_at = monotonic() + UPDATE_S


def render(
    started: RunStarted,
    progress: Progressed | None,
    points: list[Progressed],
    words: list[str],
) -> str:
    """Return a run as HTML. Pure."""
    title = f"{escape(started.model)} · {started.mode}, {count(started.n_partitions, 'partition')}"
    lines = "".join(f"<div style='opacity:.7'>{escape(line)}</div>" for line in words)
    if progress is None:
        return f"<div><b>{title}</b> · begins ...{lines}</div>"
    part = part_done(started, progress)
    unit = "rounds" if started.mode == "avg" else "updates"
    score = "-" if progress.test_score is None else in_short(progress.test_score)
    figures = {
        unit: f"{progress.unit:,}",
        "epochs": f"{progress.epochs:,.1f}",
        "seconds": f"{progress.wall_s:,.1f}",
        "loss": in_short(progress.train_loss),
        "held-out": score,
        "examples/s": f"{rate_of(started, progress):,.0f}",
        "workers": str(progress.n_workers),
    }
    if progress.staleness is not None:
        figures["staleness"] = f"{progress.staleness:.2f}"
    cells = "".join(
        f"<div style='margin-right:1.5em'><div style='opacity:.6;font-size:85%'>{name}</div>"
        f"<div>{value}</div></div>"
        for name, value in figures.items()
    )
    return (
        f"<div style='font-variant-numeric:tabular-nums'><b>{title}</b>"
        f"<div style='display:flex;margin:.3em 0'>{cells}</div>"
        f"<div style='width:{WIDTH}px;height:4px;background:rgba(128,128,128,.25)'>"
        f"<div style='width:{part:.1%};height:4px;background:#2a9d8f'></div></div>"
        f"{_curve(points)}{lines}</div>"
    )


def _curve(points: list[Progressed]) -> str:
    """Draw the loss (on a logarithmic scale) and the held-out score against time."""
    if len(points) < 2:
        return ""
    end_s = points[-1].wall_s or 1.0
    losses = [(p.wall_s, log(max(p.train_loss, 1e-12))) for p in points]
    scores = [(p.wall_s, p.test_score) for p in points if p.test_score is not None]
    drawn = [_line(losses, end_s, "#e76f51")]
    legend = "<span style='color:#e76f51'>loss (log)</span>"
    if len(scores) > 1:
        drawn.append(_line(scores, end_s, "#2a9d8f"))
        legend += " · <span style='color:#2a9d8f'>held-out score</span>"
    return (
        f"<svg width='{WIDTH}' height='{HEIGHT}' role='img' aria-label='loss and score'>"
        f"{''.join(drawn)}</svg><div style='font-size:85%'>{legend}</div>"
    )


def _line(values: list[tuple[float, float]], end_s: float, colour: str) -> str:
    low = min(value for _, value in values)
    span = max(value for _, value in values) - low or 1.0
    path = " ".join(
        f"{WIDTH * at / end_s:.1f},{3 + (HEIGHT - 6) * (1 - (value - low) / span):.1f}"
        for at, value in values
    )
    return f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='1.5'/>"
