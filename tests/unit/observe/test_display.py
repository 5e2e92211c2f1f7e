"""What a run looks like while it goes on."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import pairwise

import pytest
from rich.console import Console

from paramserver.observe.display import (
    Lines,
    Silence,
    choose_display,
    part_done,
    rate_of,
    seconds_left,
)
from paramserver.observe.events import Progressed, RunStarted
from paramserver.observe.live_table import LiveTable


def started(mode: str = "avg", total: float = 20.0) -> RunStarted:
    return RunStarted(
        version="1", mode=mode, model="softmax", data="digits", n_workers=2, n_partitions=2,
        n_examples=1000, n_features=4, n_parameters=5, total=total, host="here", pid=7,
    )  # fmt: skip


def progressed(
    unit: int, wall_s: float, epochs: float | None = None, staleness: float | None = None
) -> Progressed:
    return Progressed(
        unit=unit, epochs=float(unit) if epochs is None else epochs, wall_s=wall_s,
        train_loss=1.0 / unit, test_score=0.75, n_workers=2, staleness=staleness,
    )  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_come_more_and_more_seldom_and_the_last_one_always() -> None:
    file = io.StringIO()
    lines = Lines(file)
    lines.begin(started())
    for i in range(1, 100_001):
        lines.show(progressed(i, i / 100))
    lines.close()
    said = file.getvalue().splitlines()
    assert 20 < len(said) < 60
    assert said[0].split() == [
        *("1", "round", "1.0", "epochs", "0.01", "s", "loss", "1.0000", "held-out", "0.7500"),
        *("100,000", "examples/s", "2", "workers"),
    ]
    assert said[-1].split()[:2] == ["100,000", "rounds"]
    assert len({line.index("epochs") for line in said}) == 1  # in columns


def test_figures_of_a_run_that_diverges_can_be_read() -> None:
    file = io.StringIO()
    lines = Lines(file)
    lines.begin(started())
    lines.show(replace(progressed(1, 0.01), train_loss=1.5e30, test_score=-3e30))
    assert "loss 1.50e+30  held-out -3.00e+30 " in file.getvalue()


def test_lines_are_never_further_apart_than_a_minute() -> None:
    file = io.StringIO()
    lines = Lines(file)
    lines.begin(started())
    for i in range(1, 7201):
        lines.show(progressed(i, float(i)))
    times = [float(line.split()[4].replace(",", "")) for line in file.getvalue().splitlines()]
    assert max(b - a for a, b in pairwise(times)) <= 60


def test_words_and_facts_are_lines_of_their_own() -> None:
    file = io.StringIO()
    lines = Lines(file)
    lines.say("hello")
    lines.fact("data", "1,438 examples")
    lines.fact("", "standardised")
    assert file.getvalue().splitlines() == [
        "hello", "  data       1,438 examples", "             standardised"
    ]  # fmt: skip


def test_silence_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    silence = Silence()
    silence.say("x")
    silence.fact("x", "y")
    silence.begin(started())
    silence.show(progressed(1, 1.0))
    silence.close()
    assert capsys.readouterr() == ("", "")


def test_a_table_is_for_terminals() -> None:
    assert isinstance(choose_display(Terminal()), LiveTable)
    assert isinstance(choose_display(io.StringIO()), Lines)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_the_table_fits_the_terminal_and_its_last_state_stays(
    width: int,
) -> None:
    file = io.StringIO()  # no terminal: no escapes, and what is left at the end is what is seen
    table = LiveTable(file, Console(file=file, width=width))
    table.say("training")
    table.begin(started("async", 4.0))
    table.show(progressed(500, 1.5, 2.0))
    table.show(progressed(1000, 3.0, 4.0, 0.81))
    table.close()
    seen = file.getvalue()
    assert all(len(line) <= width for line in seen.splitlines()), seen
    assert "held-out" in seen
    assert ("updates" in seen) == (width >= 50)
    assert "4.0 / 4" in seen
    assert "100%" in seen
    assert ("examples/s" in seen) == (width >= 76)
    assert ("staleness" in seen) == ("0.81" in seen) == (width >= 96)


def test_what_is_done_and_what_is_left() -> None:
    avg, asynchronous = started("avg", 20.0), started("async", 4.0)
    assert part_done(avg, progressed(5, 1.0)) == 0.25
    assert part_done(asynchronous, progressed(500, 1.0, 1.0)) == 0.25
    assert part_done(avg, progressed(30, 1.0)) == 1.0
    assert rate_of(avg, progressed(5, 2.0)) == 2500.0
    assert rate_of(avg, progressed(5, 0.0)) == 0.0
    assert seconds_left(avg, progressed(5, 2.0), 3.0) == 5.0
    assert seconds_left(avg, progressed(5, 0.5), 0.5) is None
    assert seconds_left(avg, progressed(20, 2.0), 2.0) is None
