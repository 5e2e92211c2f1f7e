"""Worker processes on their way up: who is found stopped again and again is given up."""

from __future__ import annotations

from paramserver.core.starting import LOOK_EVERY_S, N_LOOKS, Starting

HALTED = {"b"}


def halted(worker_id: str) -> bool:
    return worker_id in HALTED


def test_nobody_is_looked_at_while_nobody_is_starting() -> None:
    starting = Starting()
    assert starting.next_look() is None
    assert starting.look(1e9, halted) == []
    starting.begin("b", 5.0)
    assert starting.next_look() == 5.0 + LOOK_EVERY_S
    assert starting.end("b") is True
    assert starting.end("b") is False
    assert starting.next_look() is None


def test_the_others_are_looked_at_when_one_has_come_up() -> None:
    starting = Starting()
    starting.begin("a", 0.0)
    starting.begin("b", 0.0)
    assert starting.end("a") is True
    assert starting.next_look() == LOOK_EVERY_S


def test_who_is_stopped_at_every_look_is_given_up_once() -> None:
    starting = Starting()
    for worker_id in "abc":
        starting.begin(worker_id, 0.0)
    looks = [starting.look(k * LOOK_EVERY_S, halted) for k in range(1, N_LOOKS + 4)]
    assert looks == [[]] * (N_LOOKS - 1) + [["b"]] + [[]] * 3
    assert "b" in starting  # until its process is over


def test_who_went_on_in_between_is_looked_at_anew() -> None:
    starting = Starting()
    starting.begin("b", 0.0)
    found = []
    for k in range(1, 2 * N_LOOKS):
        found += starting.look(k * LOOK_EVERY_S, lambda _, k=k: k != N_LOOKS)
    assert found == []


def test_a_machine_that_slept_for_a_night_gives_nobody_up() -> None:
    starting = Starting()
    starting.begin("b", 0.0)
    night = 8 * 3600.0
    assert starting.look(night, halted) == []
    assert starting.look(night, halted) == []  # it is not time yet
    assert starting.next_look() == night + LOOK_EVERY_S
