"""The panel of a training's jobs."""

from __future__ import annotations

from collections import Counter

import pytest

from paramserver.training.jobs_panel import JobsPanel
from paramserver.training.timeline import Timeline


class Source:
    def __init__(self, staleness: Counter[int] | None) -> None:
        self.staleness = staleness
        self.timeline = Timeline()
        self.timeline.hand_in(1, 0.0)
        self.timeline.end(1, 4, 2, "local1-0", 1.5)


def test_jobs_and_staleness_of_an_asynchronous_training_are_drawn() -> None:
    panel = JobsPanel(Source(Counter({0: 3, 2: 1})))
    text = panel.html()
    assert "local1-0: epoch 4, partition 2, 1.500 s" in text
    assert "0.50 updates by others on average" in text
    (reading,) = panel.readings()
    assert (reading.name, reading.value) == ("training_staleness_mean", pytest.approx(0.5))


def test_averaging_has_rounds_and_no_staleness() -> None:
    panel = JobsPanel(Source(None))
    assert "round 4, partition 2" in panel.html()
    assert "Staleness" not in panel.html()
    assert list(panel.readings()) == []


def test_what_was_seen_last_stays_and_the_training_is_let_go() -> None:
    source = Source(Counter({0: 3}))
    panel = JobsPanel(source)
    before = panel.html()
    assert not panel.is_frozen
    panel.freeze()
    assert panel.is_frozen
    source.timeline.end(2, 5, 2, "local1-0", 2.5)
    panel.freeze()
    assert panel.html() == before
    assert list(panel.readings()) == []
    assert panel._source is None
