"""What signals do to a run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from paramserver.commands.exits import EXIT_STOPPED
from paramserver.commands.interrupts import SIGNALS, Interrupts, end_at_once

INT, TERM, HUP = SIGNALS


class Left(BaseException):
    """The process would have ended, with this exit code."""


@pytest.fixture(autouse=True)
def _signals_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def leave(code: int) -> None:
        raise Left(code)

    monkeypatch.setattr(os, "_exit", leave)
    before = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    signal.signal(INT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_interrupts_a_block_in_which_it_is_allowed(number: signal.Signals) -> None:
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt), interrupts.allowed():
            signal.raise_signal(number)
        assert interrupts.n_received == 1


def test_elsewhere_it_waits_for_the_next_such_block() -> None:
    with Interrupts() as interrupts:
        signal.raise_signal(TERM)
        reached = False
        with pytest.raises(KeyboardInterrupt), interrupts.allowed():
            reached = True
        assert not reached


def test_an_interrupt_that_was_dropped_on_its_way_is_raised_again() -> None:
    """As one amid a finaliser is, by the interpreter."""
    with Interrupts() as interrupts, interrupts.allowed():
        interrupts.insist(None)
        with suppress(KeyboardInterrupt):
            signal.raise_signal(TERM)
        with pytest.raises(KeyboardInterrupt):
            interrupts.insist(None)


@pytest.mark.parametrize("first", SIGNALS)
def test_signals_that_come_together_interrupt_once_and_end_nothing(first: signal.Signals) -> None:
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt), interrupts.allowed():
            signal.raise_signal(first)
        for number in (TERM, HUP, TERM) if first is INT else (TERM, HUP, INT):
            signal.raise_signal(number)  # amid what closes the run
        with interrupts.allowed():
            signal.raise_signal(TERM)
        assert interrupts.n_received == 5


def test_a_second_ctrl_c_ends_the_process_after_the_last_words() -> None:
    said = []

    def last_words() -> int:
        said.append("the last words")
        return 75

    with Interrupts() as interrupts:
        interrupts.last_words = last_words
        signal.raise_signal(INT)
        assert said == []
        with pytest.raises(Left, match="75"):
            signal.raise_signal(INT)
    assert said == ["the last words"]


def test_last_words_that_fail_keep_nobody_from_leaving() -> None:
    def last_words() -> int:
        raise OSError

    with Interrupts() as interrupts:
        interrupts.last_words = last_words
        signal.raise_signal(INT)
        with pytest.raises(Left, match=str(EXIT_STOPPED)):
            signal.raise_signal(INT)


def test_a_second_ctrl_c_waits_for_what_must_not_be_disturbed() -> None:
    done = []

    def write_whole_line(interrupts: Interrupts) -> None:
        with interrupts.undisturbed():
            signal.raise_signal(INT)
            done.append("the line")

    with Interrupts() as interrupts:
        signal.raise_signal(INT)
        with pytest.raises(Left, match=str(EXIT_STOPPED)):
            write_whole_line(interrupts)
    assert done == ["the line"]


def test_what_is_ignored_stays_so_and_what_was_there_comes_back() -> None:
    signal.signal(HUP, signal.SIG_IGN)  # as nohup leaves it
    with Interrupts() as interrupts, interrupts.allowed():
        signal.raise_signal(HUP)
        assert interrupts.n_received == 0
    found = [signal.getsignal(number) for number in SIGNALS]
    assert found == [signal.default_int_handler, signal.SIG_DFL, signal.SIG_IGN]


def test_after_a_run_ctrl_c_does_not_say_that_nothing_was_begun(
    capfd: pytest.CaptureFixture[str],
) -> None:
    end_at_once()
    with Interrupts():
        pass
    signal.raise_signal(INT)
    assert capfd.readouterr() == ("", "")
