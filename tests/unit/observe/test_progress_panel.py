"""The panel of a run."""

from __future__ import annotations

from dataclasses import replace

from paramserver.drawing.panel import Reading
from paramserver.observe.progress_panel import MOMENTS_MAX, ProgressPanel, WirePanel
from tests.unit.observe.run_files import LOST, STARTED, progressed


def test_before_the_first_evaluation_it_says_what_is_waited_for() -> None:
    panel = ProgressPanel(replace(STARTED, data="<data>"))
    assert "softmax on &lt;data&gt;" in panel.html()
    assert "Waiting for the first evaluation." in panel.html()
    assert list(panel.readings()) == []


def test_figures_and_curves_are_those_of_the_last_moment() -> None:
    panel = ProgressPanel(STARTED)
    panel.take(progressed(4, 1.0, loss=0.25))
    panel.take(LOST)
    panel.take(progressed(5, 2.0, loss=0.5))
    text = panel.html()
    for words in (
        "<dt>elapsed</dt><dd>2.0", "about 6 s left", ">training</span>",
        "<dd>5 <small>5.0 epochs</small></dd>",
        "<dd>0.5 <small>best 0.25</small></dd>",
        "<dd>0.8750 <small>best 0.8750</small></dd>",
        "width:25.0%",
        "<dd>2,500 <small>examples a second</small></dd>", "2 workers", "Held-out score",
    ):  # fmt: skip
        assert words in text, words
    panel.end()
    assert "width:100.0%" in panel.html()
    assert "left</small>" not in panel.html()
    assert "<dd>2.00 s <small>in all</small></dd>" in panel.html()
    assert '<span class="badge ok">done</span>' in panel.html()


def test_a_run_that_ended_before_its_time_says_so() -> None:
    failed, interrupted = ProgressPanel(STARTED, "<run>"), ProgressPanel(STARTED)
    failed.take(progressed(5, 2.0))
    failed.end(ValueError("no"))
    interrupted.end(KeyboardInterrupt())
    assert "width:25.0%" in failed.html()
    assert '<span class="badge bad">failed</span>' in failed.html()
    assert "run &lt;run&gt;" in failed.html()
    assert '<span class="badge odd">interrupted</span>' in interrupted.html()
    assert "No evaluation yet." in interrupted.html()


def test_what_goes_over_the_wire_is_shown_where_it_is_known() -> None:
    panel = ProgressPanel(STARTED)
    panel.take(replace(progressed(4, 2.0), pushed_bytes=8_000, pulled_bytes=0, n_queued=1))
    wire = WirePanel(panel)
    assert "pushed, each update</dt><dd>2.0 kB" in wire.html()
    assert (wire.has_ended, list(wire.readings())) == (False, [])
    panel.end()
    assert wire.has_ended


def test_between_two_evaluations_the_training_itself_is_asked_how_far_it_is() -> None:
    class Training:
        unit, examples = 9, 7_500

    panel = ProgressPanel(STARTED)
    panel.attach(Training())
    assert "Waiting for the first evaluation." in panel.html()
    panel.take(progressed(5, 2.0))
    assert "<dd>9 <small>7.5 epochs</small></dd>" in panel.html()
    assert "width:37.5%" in panel.html()
    panel.end()
    assert "<dd>5 <small>5.0 epochs</small></dd>" in panel.html()


def test_the_readings_are_those_of_the_last_moment() -> None:
    panel = ProgressPanel(STARTED)
    panel.take(progressed(5, 2.0))
    assert list(panel.readings()) == [
        Reading("training_loss", "Training loss, on a sample.", 0.5),
        Reading("training_held_out_score", "Held-out score.", 0.875),
        Reading("training_epochs_total", "Passes over all examples.", 5.0),
        Reading("training_examples_total", "Examples trained on.", 5_000.0),
        Reading("training_updates_total", "Updates so far.", 5),
        Reading("training_duration_seconds", "Time of training.", 2.0),
    ]


def test_it_does_not_grow_with_the_run() -> None:
    panel = ProgressPanel(STARTED)
    for i in range(1, 3 * MOMENTS_MAX):
        panel.take(progressed(i, float(i)))
    assert len(panel._record.moments) <= MOMENTS_MAX
    assert panel._record.moments[-1].unit == 3 * MOMENTS_MAX - 1
