"""What an examination finds, as it is printed."""

from __future__ import annotations

import io

import pytest

from paramserver.commands.findings import Finding, report


def test_the_report_marks_what_is_to_be_done_and_its_code_what_is_broken() -> None:
    file = io.StringIO()
    findings = [
        Finding("a", "fine", group="One"),
        Finding("b", "slow", "sit closer", group="One"),
        Finding("c", "none", is_absent=True, group="Two"),
    ]
    assert report(iter(findings), file) == 0
    assert file.getvalue().splitlines() == [
        "",
        "One",
        "✓ a              fine",
        "! b              slow",
        "                 -> sit closer",
        "",
        "Two",
        "· c              none",
        "",
        "All that paramserver needs is there, with 1 piece of advice: see ! above.",
    ]
    file = io.StringIO()
    assert report(iter([*findings, Finding("c", "gone", is_broken=True)]), file) == 1
    assert file.getvalue().endswith("\n1 of these must be mended: see ✗ above.\n")


def test_the_report_fits_the_terminal_and_its_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    buffer = io.BytesIO()
    file = io.TextIOWrapper(buffer, encoding="ascii")
    words = "a long way to say that something is not there at all, and never was"
    assert report(iter([Finding("it", words, is_broken=True)]), file) == 1
    file.flush()
    lines = buffer.getvalue().decode("ascii").splitlines()
    assert max(map(len, lines)) <= 60
    assert lines[:2] == [
        "x it             a long way to say that something is not",
        "                 there at all, and never was",
    ]


def test_colours_are_for_terminals_whose_user_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    file = Terminal()
    report(iter([Finding("a", "fine")]), file)
    assert file.getvalue().startswith("\x1b[32m✓\x1b[0m a")
    monkeypatch.setenv("NO_COLOR", "1")
    file = Terminal()
    report(iter([Finding("a", "fine")]), file)
    assert "\x1b" not in file.getvalue()
