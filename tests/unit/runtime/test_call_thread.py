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
from paramserver.runtime.call_thread import WAITING_BYTES, CallThread

PATIENCE_S = 60.0


def call(number: int, life: int = 3, n_bytes: int = 0) -> CallService:
    body = Payload(PayloadKind.PLAIN, bytes(n_bytes))
    return CallService(life, number, 1, 1, "desk", "ask", body)


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


class Halted:
    """A desk that is at its first call until it may go on."""

    def __init__(self) -> None:
        self.is_at_work, self.may_go_on = threading.Event(), threading.Event()
        self.aside, self.answers = opened(self.answer)
        self.aside.ask(call(0, life=1))
        assert self.is_at_work.wait(PATIENCE_S)

    def answer(self, command: CallService) -> Payload:
        self.is_at_work.set()
        assert self.may_go_on.wait(PATIENCE_S)
        return echo(command)

    def go_on(self) -> list[tuple[int, int]]:
        """Return the lives and calls that are answered from now on."""
        self.aside.ask(call(99, life=1))
        self.may_go_on.set()
        found = [self.answers.get(timeout=PATIENCE_S)]
        while found[-1].call != 99:
            found.append(self.answers.get(timeout=PATIENCE_S))
        self.aside.close()
        assert all(reply.ok for reply in found)
        return [(reply.incarnation, reply.call) for reply in found[:-1]]


def test_a_worker_whose_calls_pile_up_is_refused_and_no_other_one() -> None:
    desk = Halted()
    half = WAITING_BYTES // 2
    for number in (1, 2):
        desk.aside.ask(call(number, n_bytes=half))
    refused = desk.answers.get(timeout=PATIENCE_S)
    assert (refused.incarnation, refused.call, refused.ok) == (3, 2, False)
    error = calls.decode_error(refused.body, trusted=False, worker_id="master", attempts=1)
    assert "too much: 'ask' is not answered" in str(error)
    desk.aside.ask(call(3, life=4, n_bytes=half))
    desk.aside.ask(call(4))
    assert desk.go_on() == [(1, 0), (3, 1), (4, 3), (3, 4)]


def test_a_call_that_is_larger_than_any_is_refused_and_room_comes_back() -> None:
    aside, answers = opened(echo)
    aside.ask(call(1, n_bytes=WAITING_BYTES))
    assert not answers.get(timeout=PATIENCE_S).ok
    for number in range(2, 6):
        aside.ask(call(number, n_bytes=WAITING_BYTES // 2 + 1))
        assert answers.get(timeout=PATIENCE_S).ok
    aside.close()
    assert not aside._waiting_bytes


def test_what_waits_of_a_worker_that_is_gone_is_dropped() -> None:
    desk = Halted()
    for number, life in ((1, 3), (2, 4), (3, 3)):
        desk.aside.ask(call(number, life))
    desk.aside.forget(3)
    desk.aside.forget(3)
    assert desk.go_on() == [(1, 0), (4, 2)]


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
