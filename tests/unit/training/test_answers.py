"""What workers are told, and how long they have waited for it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from paramserver.core.commands import CallService
from paramserver.core.events import ServiceReplied
from paramserver.protocol.messages import Payload, PayloadKind
from paramserver.training import answers as module
from paramserver.training.answers import Answers
from paramserver.training.desks import NO_ROWS
from paramserver.training.formats import REPLY, payload_of
from paramserver.training.pushes import Verdict

W = np.arange(3, dtype=np.float32)
NEAR_LINE = 4


class Master:
    """A master that keeps what it is to send."""

    def __init__(self) -> None:
        self.posted: list[ServiceReplied] = []

    def clock(self) -> float:
        return 7.0

    def post(self, event: ServiceReplied) -> None:
        self.posted.append(event)


class Lines:
    """An exchange that keeps what it was told."""

    def __init__(self) -> None:
        self.said: list[Any] = []

    def answer(self, line: int, reply: bytes) -> None:
        self.said.append((line, REPLY.unpack(reply)))


def call(incarnation: int) -> CallService:
    return CallService(
        incarnation, 9, 1, 1, "training", "push_pull", Payload(PayloadKind.PLAIN, b"")
    )


@pytest.fixture
def master() -> Master:
    return Master()


@pytest.fixture
def answers(master: Master, monkeypatch: pytest.MonkeyPatch) -> Answers:
    ticks = iter(range(100))
    monkeypatch.setattr(module, "perf_counter", lambda: float(next(ticks)) + 10.0)
    desk: Any = SimpleNamespace(show=lambda *_: 2, send=lambda _who, _want, w: w)
    server: Any = SimpleNamespace(w=W, version=5)
    made: Any = Answers(master, desk, server)  # type: ignore[arg-type]
    made._exchange = Lines()
    return made  # type: ignore[no-any-return]


def test_a_far_worker_gets_the_weights_with_its_answer_and_a_near_one_a_word(
    answers: Answers, master: Master
) -> None:
    answers.hold(1, call(1), NO_ROWS, 8.0)
    answers.hold(2, NEAR_LINE, NO_ROWS, 8.5)
    answers.give(1, Verdict.APPLIED)
    answers.give(2, Verdict.STOP)
    body = payload_of(REPLY.pack(Verdict.APPLIED, 5, 0), W)
    assert [(e.now, e.incarnation, e.call, e.ok) for e in master.posted] == [(7.0, 1, 9, True)]
    assert (master.posted[0].body.data, bytes(master.posted[0].body.buffers[0])) == (
        body.data, W.tobytes()
    )  # fmt: skip
    assert answers._exchange.said == [(NEAR_LINE, (Verdict.STOP, 5, 2))]  # type: ignore[union-attr]


def test_nobody_is_answered_twice_or_after_its_life(answers: Answers, master: Master) -> None:
    answers.hold(1, call(1), NO_ROWS, 8.0)
    answers.give(1, Verdict.APPLIED)
    answers.give(1, Verdict.APPLIED)
    answers.hold(2, call(2), NO_ROWS, 8.0)
    answers.forget(2)
    answers.give(2, Verdict.APPLIED)
    assert [event.incarnation for event in master.posted] == [1]


def test_waiting_adds_up_for_all_and_is_taken_by_life(answers: Answers) -> None:
    for since in (8.0, 8.0):  # answered at 10 and at 11
        answers.hold(1, call(1), NO_ROWS, since)
        answers.give(1, Verdict.APPLIED)
    answers.hold(2, call(2), NO_ROWS, 8.0)  # at 12
    answers.give(2, Verdict.APPLIED)
    assert answers.waited_s == 9.0
    assert [answers.take_waited_s([1, 3]), answers.take_waited_s([1])] == [5.0, 0.0]
    answers.forget(2)
    assert (answers.take_waited_s([2]), answers.waited_s) == (0.0, 9.0)
