"""Pictures of a training with matplotlib, which is imported when the first one is drawn.

Rule 1: a picture is a `Figure` of its own: no global state of matplotlib is touched, no window
        opens, and there is nothing to close. A notebook shows it, with ``pyplot`` or without.
Rule 2: what there is no data for is refused in words, not drawn empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from paramserver.drawing.scales import by_number, unit_of_time
from paramserver.errors import ConfigError
from paramserver.training.timeline import JobSpan

if TYPE_CHECKING:
    from paramserver.training.result import Progress

HOW: Final = "python -m pip install 'paramserver[notebook]'"

BLUE, GREEN = "#0072b2", "#009e73"
COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7a5cc4")
"""Okabe & Ito (2008), "Color universal design": told apart by the colour-blind, too."""
ROW_INCHES: Final = 0.36
ENDS: Final = {
    "lost": ("lost with its worker", "#b3261e"),
    "failed": ("raised an error", "#8a5800"),
}
"""How a job came to nothing -> words, and the colour of its cross."""
WORKERS_MAX: Final = 12
"""Histograms of single workers that are drawn; those with most updates."""


def plot_convergence(history: Sequence[Progress], mode: str) -> Any:
    """Draw loss and held-out score against time and updates; see `TrainingResult.plot`."""
    if not history:
        raise _nothing("the training told nothing on its way")
    time_unit, size = unit_of_time(history[-1].wall_s)
    against: tuple[tuple[str, Callable[[Progress], float]], ...] = (
        (f"{time_unit} of training", lambda moment: moment.wall_s / size),
        ("rounds" if mode == "avg" else "updates", lambda moment: moment.unit),
    )
    scored = [moment for moment in history if moment.test_score is not None]
    n_rows = 2 if scored else 1
    figure = _figure(9.0, 2.9 * n_rows)
    axes = figure.subplots(n_rows, 2, squeeze=False, sharey="row", sharex="col")
    for column, (x_title, x_of) in enumerate(against):
        losses = axes[0, column]
        losses.plot([x_of(m) for m in history], [m.train_loss for m in history], color=BLUE)
        if min(moment.train_loss for moment in history) > 0:
            losses.set_yscale("log")
            losses.yaxis.set_major_formatter("{x:g}")
            losses.yaxis.set_minor_formatter(_two_or_five)
        if scored:
            scores = [moment.test_score for moment in scored]
            axes[1, column].plot([x_of(m) for m in scored], scores, color=GREEN)
        axes[-1, column].set_xlabel(x_title)
        if column:
            axes[-1, column].xaxis.get_major_locator().set_params(integer=True)
    axes[0, 0].set_ylabel("training loss")
    if scored:
        axes[1, 0].set_ylabel("held-out score")
    _tidy(axes.flat)
    return figure


def plot_staleness(staleness: Mapping[int, int], by_worker: Mapping[str, Mapping[int, int]]) -> Any:
    """Draw histograms of staleness; see `TrainingResult.plot_staleness`."""
    counts = {value: n for value, n in staleness.items() if n}
    if not counts:
        raise _nothing('staleness is measured where gradients are pushed: mode "async"')
    busiest = sorted(by_worker, key=lambda name: -sum(by_worker[name].values()))[:WORKERS_MAX]
    n_rows = (len(busiest) + 2) // 3
    figure = _figure(9.0, 2.8 + 1.5 * n_rows)
    grid = figure.add_gridspec(1 + n_rows, 3, height_ratios=[2.2, *[1.0] * n_rows])
    whole = figure.add_subplot(grid[0, :])
    whole.bar(list(counts), list(counts.values()), color=BLUE, width=0.9)
    whole.set_title("all updates", loc="left", fontsize="medium")
    whole.set_ylabel("updates")
    drawn = [whole]
    for i, name in enumerate(sorted(busiest, key=by_number)):
        one = figure.add_subplot(grid[1 + i // 3, i % 3], sharex=whole)
        mine = by_worker[name]
        mean = sum(value * n for value, n in mine.items()) / max(1, sum(mine.values()))
        one.bar(list(mine), list(mine.values()), color=COLOURS[i % len(COLOURS)], width=0.9)
        one.set_title(f"{name}: mean {mean:.2f}", loc="left", fontsize="small")
        drawn.append(one)
    figure.supxlabel("staleness: updates by others in between", fontsize="medium")
    whole.xaxis.get_major_locator().set_params(integer=True)  # of all, for they share it
    _tidy(drawn)
    return figure


def plot_timeline(spans: Sequence[JobSpan], mode: str) -> Any:
    """Draw the jobs of each worker on a line of time; see `TrainingResult.plot_timeline`."""
    if not spans:
        raise _nothing("no job of this training has ended on a worker")
    names = sorted({span.worker_id for span in spans}, key=by_number)
    time_unit, size = unit_of_time(max(span.ended_s for span in spans))
    figure = _figure(9.0, 1.2 + ROW_INCHES * len(names))
    axes = figure.subplots()
    for row, name in enumerate(names):
        mine = [span for span in spans if span.worker_id == name]
        axes.broken_barh(
            [(span.begun_s / size, (span.ended_s - span.begun_s) / size) for span in mine],
            (row - 0.36, 0.72),
            facecolors=[COLOURS[span.number % len(COLOURS)] for span in mine],
            edgecolor=["black" if span.is_backup else "white" for span in mine],
            linewidth=[1.2 if span.is_backup else 0.3 for span in mine],
        )
    rows = {name: row for row, name in enumerate(names)}
    for end, (words, colour) in ENDS.items():
        ended = [span for span in spans if span.end == end]
        if ended:
            places = [span.ended_s / size for span in ended], [rows[s.worker_id] for s in ended]
            axes.plot(*places, "x", color=colour, markeredgewidth=2, label=words)
    if axes.lines:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, frameon=False)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(f"{time_unit} of training")
    unit = "round" if mode == "avg" else "epoch"
    copies = ", backup copies framed" if any(span.is_backup for span in spans) else ""
    axes.set_title(f"jobs: one colour for each {unit}{copies}", loc="left", fontsize="medium")
    _tidy([axes])
    axes.grid(visible=False, axis="y")
    return figure


def _figure(width: float, height: float) -> Any:
    try:
        import_module("matplotlib.figure")
    except ImportError as error:
        raise ConfigError(
            f"matplotlib draws the pictures, and is not installed:  {HOW}",
            field="plot",
            value="matplotlib",
        ) from error
    from paramserver.training.picture import Picture

    return Picture(figsize=(width, height), layout="constrained")


def _two_or_five(value: float, _: object) -> str:
    """Write some of the ticks between powers of ten, where all of them would be too many."""
    return f"{value:g}" if f"{value:e}"[0] in "25" else ""


def _tidy(axes: Any) -> None:
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(visible=True, color="#888888", alpha=0.25, linewidth=0.6)
        each.set_axisbelow(True)


def _nothing(why: str) -> ConfigError:
    return ConfigError(f"There is nothing to draw: {why}.", field="plot", value=None)
