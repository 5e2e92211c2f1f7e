"""The machine of averaging: who is waited for, with which coefficients."""

from __future__ import annotations

import itertools

import pytest

from paramserver.errors import ConfigError, InvalidTransition
from paramserver.training.averaging import Averaging, Finish, Fold, StartRound


def test_a_round_is_folded_in_the_order_of_the_partitions_when_all_are_done() -> None:
    for order in itertools.permutations(range(3)):
        machine = Averaging([1, 2, 5], rounds=2)
        assert machine.start() == [StartRound(0, (0, 1, 2))]
        assert machine.done(0, order[0]) == []
        assert machine.done(0, order[1]) == []
        assert machine.done(0, order[2]) == [Fold(0, (0, 1, 2), (0.125, 0.25, 0.625), ())]
        assert machine.folded() == [StartRound(1, (0, 1, 2))]


def test_the_last_fold_finishes() -> None:
    machine = Averaging([3], rounds=1)
    machine.start()
    assert machine.done(0, 0) == [Fold(0, (0,), (1.0,), ())]
    assert machine.folded() == [Finish(1)]


def test_a_result_that_comes_twice_counts_once() -> None:
    machine = Averaging([1, 1], rounds=1)
    machine.start()
    assert machine.done(0, 1) == []
    assert machine.done(0, 1) == []
    assert machine.counters["duplicate"] == 1
    assert machine.done(0, 0) == [Fold(0, (0, 1), (0.5, 0.5), ())]


def test_a_result_of_another_round_is_dropped() -> None:
    machine = Averaging([1, 1], rounds=3)
    machine.start()
    machine.done(0, 0)
    machine.done(0, 1)
    assert machine.done(0, 1) == []  # while the fold is under way
    machine.folded()
    assert machine.done(0, 0) == []
    assert machine.done(7, 0) == []
    assert machine.counters["late"] == 3
    assert machine.done(1, 0) == []


def test_a_quorum_renormalises_and_names_the_late() -> None:
    machine = Averaging([1, 2, 5], rounds=1, wait_for=2)
    machine.start()
    machine.done(0, 2)
    assert machine.done(0, 0) == [Fold(0, (0, 2), (1 / 6, 5 / 6), (1,))]
    assert machine.counters["cancelled"] == 1


def test_a_late_partition_sits_out_until_it_is_back() -> None:
    machine = Averaging([1, 1, 2], rounds=9, wait_for=2)
    assert machine.start() == [StartRound(0, (0, 1, 2))]
    machine.done(0, 1)
    machine.done(0, 2)
    assert machine.folded() == [StartRound(1, (1, 2))]
    assert machine.done(1, 2) == []
    assert machine.done(0, 0) == [StartRound(1, (0,))]
    assert machine.done(1, 0) == [Fold(1, (0, 2), (1 / 3, 2 / 3), (1,))]
    assert machine.folded() == [StartRound(2, (0, 2))]
    machine.done(2, 0)
    machine.done(2, 2)
    assert machine.done(1, 1) == []  # while the fold is under way: it is free for the next round
    assert machine.folded() == [StartRound(3, (0, 1, 2))]


def test_stop_lets_the_open_round_be_the_last() -> None:
    machine = Averaging([1], rounds=100)
    machine.start()
    machine.stop()
    machine.done(0, 0)
    assert machine.folded() == [Finish(1)]


def test_a_continued_training_that_has_all_its_rounds_is_finished_at_once() -> None:
    assert Averaging([1], rounds=5, first_round=5).start() == [Finish(5)]
    assert Averaging([1], rounds=5, first_round=3).start() == [StartRound(3, (0,))]


def test_a_fold_that_was_not_asked_for_is_a_bug() -> None:
    machine = Averaging([1], rounds=2)
    machine.start()
    with pytest.raises(InvalidTransition):
        machine.folded()


@pytest.mark.parametrize("wait_for", [0, 3, -1])
def test_a_quorum_that_cannot_be_is_refused(wait_for: int) -> None:
    with pytest.raises(ConfigError, match="wait_for"):
        Averaging([1, 1], rounds=1, wait_for=wait_for)


@pytest.mark.parametrize("n_examples", [[], [3, 0]])
def test_an_empty_partition_is_refused(n_examples: list[int]) -> None:
    with pytest.raises(ConfigError, match="at least one example"):
        Averaging(n_examples, rounds=1)
