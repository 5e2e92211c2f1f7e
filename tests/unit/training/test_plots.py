"""Pictures with matplotlib: what is on them, and what is said where there is nothing to draw."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from paramserver.errors import ConfigError
from paramserver.training.plots import plot_convergence, plot_staleness, plot_timeline
from paramserver.training.result import Progress
from paramserver.training.timeline import JobSpan


def moments(*scores: float | None) -> list[Progress]:
    return [Progress(i, i / 2, i / 10, 2.0 / i, score) for i, score in enumerate(scores, 1)]


def titles(figure: Any) -> list[tuple[str, str]]:
    return [(axes.get_xlabel(), axes.get_ylabel()) for axes in figure.axes]


def test_loss_and_score_are_drawn_against_time_and_updates() -> None:
    figure = plot_convergence(moments(0.5, None, 0.75), "async")
    assert titles(figure) == [
        ("", "training loss"), ("", ""), ("seconds of training", "held-out score"), ("updates", ""),
    ]  # fmt: skip
    losses, _, scores, by_update = (axes.lines[0] for axes in figure.axes)
    assert losses.get_xydata().tolist() == [[0.1, 2.0], [0.2, 1.0], [0.3, 2.0 / 3]]
    assert scores.get_xydata().tolist() == [[0.1, 0.5], [0.3, 0.75]]
    assert by_update.get_xydata().tolist() == [[1, 0.5], [3, 0.75]]
    assert figure.axes[0].get_yscale() == "log"


def test_without_held_out_rows_the_loss_is_drawn_alone_and_rounds_are_called_rounds() -> None:
    figure = plot_convergence(moments(None, None), "avg")
    assert titles(figure) == [("seconds of training", "training loss"), ("rounds", "")]


def test_a_loss_below_zero_is_drawn_on_a_linear_axis() -> None:
    figure = plot_convergence([Progress(1, 1.0, 1.0, -0.5, None)], "avg")
    assert figure.axes[0].get_yscale() == "linear"


def test_staleness_is_drawn_for_all_and_for_each_worker() -> None:
    figure = plot_staleness(
        Counter({0: 3, 2: 1}), {"b": Counter({0: 1, 2: 1}), "a": Counter({0: 2})}
    )
    whole, a, b = figure.axes
    assert [bar.get_height() for bar in whole.patches] == [3, 1]
    assert [axes.get_title("left") for axes in (a, b)] == ["a: mean 0.00", "b: mean 1.00"]


def test_the_jobs_of_each_worker_are_a_row() -> None:
    spans = [JobSpan("a", 0, 0, 0.0, 1.0), JobSpan("b", 0, 1, 0.0, 2.0), JobSpan("a", 1, 0, 2, 3)]
    figure = plot_timeline(spans, "avg")
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert [len(rows.get_paths()) for rows in axes.collections] == [2, 1]
    assert axes.get_title("left") == "jobs: one colour for each round"


def test_workers_are_in_the_order_of_their_numbers() -> None:
    names = [f"local1-{i}" for i in (0, 2, 10)]
    rows = plot_timeline([JobSpan(name, 0, 0, 0.0, 1.0) for name in reversed(names)], "avg").axes
    assert [label.get_text() for label in rows[0].get_yticklabels()] == names
    figure = plot_staleness({0: 3}, {name: Counter({0: 1}) for name in reversed(names)})
    assert [axes.get_title("left") for axes in figure.axes[1:]] == [
        f"{name}: mean 0.00" for name in names
    ]


def test_what_came_to_nothing_is_crossed_out_and_backup_copies_are_framed() -> None:
    spans = [
        JobSpan("a", 0, 0, 0.0, 1.0, "lost"), JobSpan("b", 0, 0, 0.5, 2.0, "done", True),
        JobSpan("b", 0, 1, 0.0, 0.5, "failed"),
    ]  # fmt: skip
    (axes,) = plot_timeline(spans, "async").axes
    crosses = [(line.get_label(), line.get_xydata().tolist()) for line in axes.lines]
    assert crosses == [("lost with its worker", [[1.0, 0]]), ("raised an error", [[0.5, 1]])]
    said = [text.get_text() for text in axes.get_legend().get_texts()]
    assert said == ["lost with its worker", "raised an error"]
    assert axes.get_title("left") == "jobs: one colour for each epoch, backup copies framed"


def test_a_long_training_is_told_in_minutes() -> None:
    long = [Progress(1, 1.0, 60.0, 2.0, None), Progress(2, 2.0, 1200.0, 1.0, None)]
    figure = plot_convergence(long, "avg")
    assert titles(figure) == [("minutes of training", "training loss"), ("rounds", "")]
    assert figure.axes[0].lines[0].get_xdata().tolist() == [1.0, 20.0]
    (axes,) = plot_timeline([JobSpan("a", 0, 0, 0.0, 14_400.0)], "avg").axes
    assert axes.get_xlabel() == "hours of training"


def test_what_there_is_no_data_for_is_refused_in_words() -> None:
    for draw, words in (
        (lambda: plot_convergence([], "avg"), "told nothing on its way"),
        (lambda: plot_staleness({}, {}), 'mode "async"'),
        (lambda: plot_timeline([], "avg"), "no job of this training"),
    ):
        with pytest.raises(ConfigError, match=words):
            draw()


def test_where_matplotlib_is_missing_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigError, match=r"pip install 'paramserver\[notebook\]'"):
        plot_convergence(moments(0.5), "avg")


def test_pictures_can_be_saved() -> None:
    """In a process of its own: matplotlib keeps the files of its fonts open."""
    code = """
from io import BytesIO
from paramserver.training.plots import plot_convergence, plot_staleness, plot_timeline
from paramserver.training.result import Progress
from paramserver.training.timeline import JobSpan
for figure in (
    plot_convergence([Progress(i, i, i, 1 / i, i / 9) for i in range(1, 9)], "async"),
    plot_staleness({0: 3, 2: 1}, {"a": {0: 3}, "b": {2: 1}}),
    plot_timeline([JobSpan("a", 0, 0, 0.0, 1.0), JobSpan("b", 0, 1, 0.0, 2.0)], "avg"),
):
    file = BytesIO()
    figure.savefig(file)
    print(file.getvalue()[1:4].decode())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "PNG\nPNG\nPNG\n"


def test_a_notebook_shows_a_picture_though_pyplot_was_never_imported() -> None:
    """In a process of its own, for the same reason."""
    code = """
import sys
from IPython.core.formatters import DisplayFormatter
from paramserver.training.plots import plot_timeline
from paramserver.training.timeline import JobSpan
shown, _ = DisplayFormatter().format(plot_timeline([JobSpan("a", 0, 0, 0.0, 1.0)], "avg"))
print(shown["image/png"][1:4].decode(), "matplotlib.pyplot" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "PNG False\n"


def test_a_result_is_made_without_importing_matplotlib() -> None:
    code = "import sys, paramserver.training.result; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
