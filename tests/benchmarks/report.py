"""Medians and ratios, as a table for the terminal and one for the README. Judges nothing."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from typing import NamedTuple

from rich.table import Table

from tests.benchmarks.row import Measured, Metric, Row
from tests.benchmarks.rows import PLACES, load_row

OURS = "paramserver"


class Round(NamedTuple):
    """One measurement of one contender."""

    row: str
    contender: str
    repeat: int
    measured: Measured


def table(row: Row, rounds: Iterable[Round]) -> Table:
    """One row's figures, contender by contender."""
    shown = Table(title=f"{row.key}: {row.title}", title_justify="left")
    shown.add_column("contender")
    for metric in row.metrics:
        goal = f", goal {_number(metric.goal)}" if metric.goal is not None else ""
        shown.add_column(f"{metric.name} ({metric.unit}{goal})", justify="right")
    shown.add_column("outcome")
    own = [r for r in rounds if r.row == row.key]
    for contender in row.contenders:
        if any(r.contender == contender for r in own):
            cells = [_cell(metric, own, contender) for metric in row.metrics]
            shown.add_row(contender, *cells, outcome(own, contender))
    return shown


def markdown(rounds: list[Round], about: dict[str, object]) -> str:
    """The table for the README: a line for each contender of each row."""
    lines = [
        f"Measured on {about['begun']}: {about['processor']}, {about['cores']} cores, "
        f"Python {about['python']}, commit {str(about['commit'])[:12]}. Medians; in brackets how "
        "many times better (x) than the contender ours is.",
    ]
    for row in map(load_row, PLACES):
        own = [r for r in rounds if r.row == row.key]
        if not own:
            continue
        heads = [
            f"{m.name} ({m.unit}{', goal ' + _number(m.goal) if m.goal is not None else ''})"
            for m in row.metrics
        ]
        lines += ["", f"**{row.key}: {row.title}**", ""]
        if row.note:
            lines += [row.note, ""]
        lines.append(_line(["contender", *heads, ""]))
        lines.append(_line(["---", *["---:" for _ in heads], "---"]))
        for contender in row.contenders:
            if any(r.contender == contender for r in own):
                cells = [_cell(metric, own, contender) for metric in row.metrics]
                lines.append(_line([contender, *cells, outcome(own, contender)]))
    return "\n".join(lines) + "\n"


def median(metric: Metric, rounds: Iterable[Round], contender: str) -> float | None:
    """The median of one metric of one contender; None where it has no figure."""
    values = [
        float(r.measured[metric.name])
        for r in rounds
        if r.contender == contender and metric.name in r.measured
    ]
    return statistics.median(values) if values else None


def ratio(metric: Metric, rounds: list[Round], contender: str) -> float | None:
    """How many times better ours is than the contender."""
    ours, theirs = median(metric, rounds, OURS), median(metric, rounds, contender)
    if not ours or not theirs:
        return None
    return ours / theirs if metric.more_is_better else theirs / ours


def outcome(rounds: Iterable[Round], contender: str) -> str:
    """What the rounds say in words, each thing once."""
    told = [r.measured.get("outcome", "") for r in rounds if r.contender == contender]
    return "; ".join(str(words) for words in dict.fromkeys(told) if words)


def _cell(metric: Metric, rounds: list[Round], contender: str) -> str:
    value = median(metric, rounds, contender)
    if value is None:
        return "-"
    times = ratio(metric, rounds, contender)
    suffix = "" if contender == OURS or times is None else f" ({_number(times)}x)"
    return f"{_number(value)}{suffix}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
