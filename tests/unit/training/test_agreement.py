"""What is made of workers that are not as the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from paramserver.core.events import WorkerAccused
from paramserver.core.roster import Agent, Roster, Worker
from paramserver.errors import RemoteProtocolError, TrainingError
from paramserver.protocol import calls
from paramserver.protocol.arrays import pack_plain
from paramserver.protocol.messages import Payload, PayloadKind
from paramserver.training.agreement import MAX_EXPELLED, Agreement
from paramserver.training.arithmetic import Arithmetic
from paramserver.training.trust import MAX_STRIKES

TWO = Arithmetic(2, "2.4", "0.60", "openblas 0.3", "x86_64", "AVX2", "Haswell")


class Master:
    """Has workers, and notes who is accused."""

    def __init__(self) -> None:
        self.roster = Roster(lambda: "")
        self.accused: list[WorkerAccused] = []
        self.post = self.accused.append

    def ask(self, question: Callable[[Any], Any]) -> Any:
        return question(self)

    def clock(self) -> float:
        return 1.0

    def join(self, worker_id: str, agent_id: str = "a") -> Worker:
        agent = self.roster.agents.get(agent_id) or Agent(agent_id, "")
        return self.roster.join(0.0, worker_id, agent, worker_id.encode())


class Desk:
    """An agreement with all it speaks to."""

    def __init__(self, *, trusted: bool = False) -> None:
        self.master, self.counters = Master(), Counter[str]()
        self.errors: list[BaseException] = []
        master: Any = self.master
        self.agreed = Agreement(self.counters, master, self.errors.append, trusted=trusted)

    def strike_out(self, worker_id: str) -> None:
        for _ in range(MAX_STRIKES):
            self.agreed.strike(worker_id, "given back nothing")


def told(value: object) -> Payload:
    return Payload(PayloadKind.PLAIN, pack_plain(value, []))


def test_the_first_worker_says_how_all_compute() -> None:
    agreed = Desk().agreed
    others = replace(TWO, blas_threads=4)
    answers = [agreed.compare(told(each.as_plain()), "w") for each in (TWO, others, TWO)]
    assert [calls.decode_value(answer, trusted=False) for answer in answers] == [2, 2, 2]
    assert agreed.take_differences() == {}
    with pytest.raises(RemoteProtocolError):
        agreed.compare(told([1]), "w")
    assert agreed.arithmetic == TWO


def test_what_cannot_be_set_is_said_once_with_the_first_worker_of_that_kind() -> None:
    agreed = Desk().agreed
    other = replace(TWO, numpy="2.3")
    for worker_id, each in (("a", TWO), ("b", other), ("c", other)):
        agreed.compare(told(each.as_plain()), worker_id)
    assert agreed.take_differences() == {"numpy is 2.3 instead of 2.4": "b"}
    agreed.compare(told(other.as_plain()), "d")
    assert agreed.take_differences() == {}


def test_a_result_is_read_and_one_that_cannot_be_is_nothing() -> None:
    agreed = Desk().agreed
    assert agreed.read(told((1, 0.5))) == (1, 0.5)
    assert agreed.read(Payload(PayloadKind.PLAIN, b"\xc1")) is None
    trusted = Desk(trusted=True).agreed
    assert trusted.read(calls.encode_value({1, 2}, trusted=True)) == {1, 2}


def test_the_third_strike_of_one_worker_accuses_it_while_there_are_others() -> None:
    desk = Desk()
    bad = desk.master.join("a-0")
    desk.master.join("b-0", "b")
    for worker_id in ("a-0", "b-0", "a-0", "b-0", "gone", "a-0", "a-0"):
        desk.agreed.strike(worker_id, "given back nothing")
    reason = "it has given back nothing, and was not as agreed 3 times"
    assert desk.master.accused == [WorkerAccused(1.0, bad.incarnation, reason)]
    assert (desk.errors, desk.counters) == ([], {"mismatched": 7})


def test_calls_that_make_no_sense_are_strikes_too() -> None:
    desk = Desk()
    bad = desk.master.join("a-0")
    desk.master.join("a-1")
    for _ in range(MAX_STRIKES):
        desk.agreed.strike_caller(bad.incarnation)
    assert [accused.incarnation for accused in desk.master.accused] == [bad.incarnation]


def test_the_only_worker_that_is_accused_ends_the_training_and_is_named() -> None:
    desk = Desk()
    desk.master.join("a-0")
    desk.strike_out("a-0")
    assert desk.master.accused == []
    (error,) = desk.errors
    assert isinstance(error, TrainingError)
    assert str(error).startswith("Worker a-0 is not to be trusted: it has given back nothing,")


def test_a_machine_all_of_whose_workers_are_to_be_expelled_is_not_for_ever_the_only_one() -> None:
    desk = Desk()
    for number in range(MAX_EXPELLED + 1):
        desk.master.join(f"a-{number}")
    for number in range(MAX_EXPELLED):
        desk.strike_out(f"a-{number}")
    assert len(desk.master.accused) == MAX_EXPELLED - 1
    assert len(desk.errors) == 1


def test_while_there_is_another_machine_one_may_be_expelled_from_for_ever() -> None:
    desk = Desk()
    desk.master.join("b-0", "b")
    for number in range(3 * MAX_EXPELLED):
        worker = desk.master.join(f"a-{number}")
        desk.strike_out(worker.worker_id)
        desk.master.roster.remove(worker)
    assert len(desk.master.accused) == 3 * MAX_EXPELLED
    assert desk.errors == []
