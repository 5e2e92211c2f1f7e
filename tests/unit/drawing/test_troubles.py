"""Errors on a page."""

from __future__ import annotations

from paramserver.drawing.troubles import LINE_MAX, errors_section
from paramserver.runtime.troubles import Trouble


def test_each_error_is_told_with_its_traceback_once() -> None:
    troubles = [
        Trouble("ValueError: <no>\nmore", 'File "a.py"\n<boom>\n', "map", "w1", 3, 1.0),
        Trouble("refused", "", "map", "", 1, 1.0),
    ]
    text = errors_section(troubles, 2)
    assert "ValueError: &lt;no&gt;</b>" in text
    assert "3 times, last on w1" in text
    assert text.count("&lt;boom&gt;") == text.count("<pre") == 1
    assert ">once</span>" in text
    assert "2 more, of other kinds." in text


def test_without_errors_there_is_no_such_part() -> None:
    assert errors_section([]) == ""


def test_long_and_empty_words_are_made_to_fit() -> None:
    text = errors_section([Trouble("x" * 500, "", "", "", 1, 0), Trouble("  ", "", "", "", 1, 0)])
    assert "x" * (LINE_MAX - 1) + "…</b>" in text
    assert "an error without words" in text
