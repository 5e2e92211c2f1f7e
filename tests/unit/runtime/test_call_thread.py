"""Calls that are answered aside."""

from __future__ import annotations

import gc
import queue
import threading
import weakref
from collections.abc import Callable

import pytest

from paramserver.core.commands import CallService
from paramserver.core.events import ServiceReplied
from paramserver.errors import DataError
from paramserver.protocol import calls
from paramserver.protocol.messages import Payload, PayloadKind
from paramserver.runtime.call_thread import CallThread

PATIENCE_S = 60.0


def call(number: int) -> CallService:
    return CallService(3, number, 1, 1, "desk", "ask", Payload(PayloadKind.PLAIN, b""))


def echo(command: CallService) -> Payload:
    return Payload(PayloadKind.PLAIN, bytes([command.call]))


def opened(
    answer: Callable[[CallService], Payload],
) -> tuple[CallThread, queue.Queue[ServiceReplied]]:
    answers: queue.Queue[ServiceReplied] = queue.Queue()
    return CallThread("desk", answer, answers.put, lambda: 7.0, trusted=False), answers


def test_calls_are_answered_in_their_order_by_one_thread() -> None:
    threads = set()

    def answer(command: CallService) -> Payload:
        threads.add(threading.current_thread().name)
        return echo(command)

    aside, answers = opened(answer)
    for number in range(3):
        aside.ask(call(number))
    found = [answers.get(timeout=PATIENCE_S) for _ in range(3)]
    aside.close()
    assert found == [ServiceReplied(7.0, 3, i, True, echo(call(i))) for i in range(3)]
    assert threads == {"desk"}


def test_what_an_answer_raises_is_sent_to_who_asked_and_the_next_one_is_answered() -> None:
    def answer(command: CallService) -> Payload:
        if command.call == 1:
            raise DataError("The disk is gone.", path="rows")
        return echo(command)

    aside, answers = opened(answer)
    aside.ask(call(1))
    aside.ask(call(2))
    first, second = (answers.get(timeout=PATIENCE_S) for _ in range(2))
    aside.close()
    assert (first.ok, second.ok) == (False, True)
    error = calls.decode_error(first.body, trusted=False, worker_id="master", attempts=1)
    assert "The disk is gone." in str(error)


def test_after_the_end_nothing_is_answered_and_nothing_is_held() -> None:
    class Desk:
        def answer(self, command: CallService) -> Payload:
            return echo(command)

    desk = Desk()
    gone = weakref.ref(desk)
    aside, answers = opened(desk.answer)
    aside.ask(call(1))
    answers.get(timeout=PATIENCE_S)
    aside.close()
    aside.close()  # twice does no harm
    aside.ask(call(2))
    assert answers.empty()
    gc.disable()  # nothing of it may wait for the collector: it may hold much
    try:
        del desk
        assert gone() is None
    finally:
        gc.enable()


def test_who_is_never_asked_starts_no_thread() -> None:
    aside, _ = opened(lambda _: pytest.fail("nobody has asked"))
    before = threading.active_count()
    aside.close()
    aside.ask(call(1))
    assert threading.active_count() == before
