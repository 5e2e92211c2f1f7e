"""What a run was set to, and what repeats it."""

from __future__ import annotations

from paramserver.observe.settings import SettingsPanel, settings_section
from tests.unit.observe.run_files import STARTED


def test_settings_are_told_with_the_command_that_repeats_the_run() -> None:
    text = settings_section(
        STARTED, {"shuffle": True, "lr": 0.1 + 0.2}, "train --data 'a b'", "numba"
    )
    for words in (
        "This repeats the run:", "<pre>train --data &#x27;a b&#x27;</pre>", "<dd>1,000</dd>",
        "<dt>shuffle</dt><dd>yes</dd>", "<dt>lr</dt><dd>0.3</dd>", "<dd>numba</dd>",
    ):  # fmt: skip
        assert words in text, words


def test_a_run_without_a_command_has_settings_all_the_same() -> None:
    text = settings_section(STARTED, {}, "")
    assert "repeats" not in text
    assert "<pre>" not in text
    assert "process of the master" in text


def test_a_call_in_python_is_told_as_far_as_it_can_be() -> None:
    text = settings_section(STARTED, {}, "ps.fit(Linear(...), ...)")
    assert "So it was called:" in text
    assert "repeats" not in text


def test_the_panel_stays_the_same_and_knows_when_the_run_is_over() -> None:
    panel = SettingsPanel(STARTED, {"seed": 3}, "again")
    assert "<dt>seed</dt><dd>3</dd>" in panel.html()
    assert not panel.has_ended
    panel.end()
    assert panel.has_ended
    assert list(panel.readings()) == []
