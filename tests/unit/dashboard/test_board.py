"""The panels together: one that fails costs its own place only."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import pytest

from paramserver.dashboard.board import FRESH_S, SELDOM_S, SPARING, Board
from paramserver.dashboard.metrics import exposition
from paramserver.drawing.panel import Reading


class Said:
    """A panel that says what it is told to."""

    def __init__(self, name: str, rank: int, text: str, *readings: Reading) -> None:
        self.name, self.rank, self.text = name, rank, text
        self._readings = readings
        self.n_asked = 0

    def html(self) -> str:
        self.n_asked += 1
        return self.text

    def readings(self) -> Iterable[Reading]:
        return self._readings


class Broken(Said):
    def html(self) -> str:
        raise ValueError("no <tea> left")

    def readings(self) -> Iterable[Reading]:
        raise ValueError("no tea left")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_panels_stand_in_the_order_of_their_rank_and_a_later_one_replaces_its_like() -> None:
    panels = [Said("b", 2, "B"), Said("a", 1, "A"), Said("b", 2, "B again")]
    assert list(Board(panels).parts().items()) == [("a", "A"), ("b", "B again")]


def test_panels_are_asked_once_however_many_look() -> None:
    clock, panel = Clock(), Said("a", 1, "A")
    board = Board([panel], clock)
    for _ in range(5):
        board.parts()
    assert panel.n_asked == 1
    clock.now += FRESH_S
    panel.text = "A later"
    assert board.parts() == {"a": "A later"}
    assert panel.n_asked == 2


def test_a_panel_that_costs_much_is_asked_seldom_and_not_too_seldom() -> None:
    clock, cost = Clock(), Clock()

    class Costly(Said):
        price = 4 * FRESH_S / SPARING

        def html(self) -> str:
            cost.now += self.price
            return super().html()

    panel = Costly("a", 1, "A")
    board = Board([panel], clock, cost)
    for _ in range(8):
        board.parts()
        clock.now += FRESH_S
    assert panel.n_asked == 2
    panel.price = 1000.0
    for after_s, n_asked in ((4 * FRESH_S, 3), (SELDOM_S - 0.1, 3), (0.1, 4)):
        clock.now += after_s
        board.parts()
        assert panel.n_asked == n_asked


def test_a_panel_that_takes_the_place_of_another_is_asked_at_once() -> None:
    clock, panels = Clock(), [Said("a", 1, "A")]
    board = Board(panels, clock)
    board.parts()
    panels[0] = Said("a", 1, "another")
    assert board.parts() == {"a": "another"}


def test_panels_that_come_later_are_seen() -> None:
    clock, panels = Clock(), [Said("a", 1, "A")]
    board = Board(panels, clock)
    assert list(board.parts()) == ["a"]
    panels.append(Said("b", 2, "B"))
    clock.now += FRESH_S
    assert list(board.parts()) == ["a", "b"]


def test_a_panel_that_fails_says_so_in_its_place_and_once_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()
    reading = Reading("jobs", "Jobs.", 3)
    board = Board([Broken("tea", 1, ""), Said("b", 2, "B", reading)], clock)
    with caplog.at_level(logging.WARNING, "paramserver"):
        for _ in range(3):
            parts = board.parts()
            clock.now += FRESH_S
    assert parts["b"] == "B"
    assert "tea cannot be shown now (ValueError: no &lt;tea&gt; left)" in parts["tea"]
    assert board.readings() == [reading]
    assert [record.getMessage() for record in caplog.records] == [
        "The dashboard cannot show tea: no <tea> left"
    ]


def test_readings_are_told_as_prometheus_reads_them() -> None:
    readings = [
        Reading("workers", "Workers by state.", 2, (("state", "ready"),)),
        Reading("workers", "Workers by state.", 0, (("state", 'odd "one"'),)),
        Reading("events_total", "Events.", 7, (("event", "lost"),)),
        Reading("training_duration_seconds", "Time.", 1.5),
    ]
    assert exposition(lambda: readings)().decode() == (
        "# HELP paramserver_workers Workers by state.\n"
        "# TYPE paramserver_workers gauge\n"
        'paramserver_workers{state="ready"} 2.0\n'
        'paramserver_workers{state="odd \\"one\\""} 0.0\n'
        "# HELP paramserver_events_total Events.\n"
        "# TYPE paramserver_events_total counter\n"
        'paramserver_events_total{event="lost"} 7.0\n'
        "# HELP paramserver_training_duration_seconds Time.\n"
        "# TYPE paramserver_training_duration_seconds gauge\n"
        "paramserver_training_duration_seconds 1.5\n"
    )


def test_two_clusters_have_registries_of_their_own() -> None:
    one = exposition(lambda: [Reading("jobs", "Jobs.", 1)])
    other = exposition(lambda: [Reading("jobs", "Jobs.", 2)])
    assert b"paramserver_jobs 1.0" in one()
    assert b"paramserver_jobs 2.0" in other()
