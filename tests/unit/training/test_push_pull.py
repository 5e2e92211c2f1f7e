"""The parameter server: which pushes count, which are refused, who is answered when."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from paramserver.errors import ConfigError
from paramserver.training.optimizers import SGD, Adagrad, Momentum, Optimizer
from paramserver.training.push_pull import ParameterServer
from paramserver.training.pushes import Push, PushPullRules, RowGradient, Verdict

ONES = np.ones(3, np.float32)


def server_of(
    n_examples: tuple[int, ...] = (4, 4),
    optimizer: Optimizer | None = None,
    rules: PushPullRules | None = None,
) -> ParameterServer:
    """A server of three weights, batches of one, worker 1 on partition 0, worker 2 on 1, ..."""
    weights = np.zeros(3, np.float32)
    server = ParameterServer(weights, optimizer or SGD(1.0), n_examples, 1, rules)
    for partition in range(len(n_examples)):
        server.join(partition + 1, 0, partition)
    return server


def spare() -> Any:
    return np.full(3, 77, np.float32)


def books(server: ParameterServer) -> tuple[Any, ...]:
    """All that a refused push must leave as it is."""
    return (
        server.w.tobytes(),
        server.version,
        list(server.cursors),
        dict(server.staleness),
        server.last_seq(1),
        server.examples,
    )


FIRST = Push(incarnation=1, seq=1, epoch=0, partition=0, batch=0, seen=0)


def test_a_push_is_applied_beside_the_old_weights() -> None:
    server = server_of()
    old, new = server.w, spare()
    assert server.push(FIRST, ONES, new) is Verdict.APPLIED
    assert server.w is new
    assert new.tolist() == [-1, -1, -1]
    assert old.tolist() == [0, 0, 0]
    assert (server.version, server.cursors, server.staleness) == (1, [1, 0], {0: 1})
    assert server.take_due() == [1]
    assert server.take_due() == []


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        ({"epoch": 1}, Verdict.STALE),
        ({"partition": 2}, Verdict.MISMATCHED),
        ({"partition": -1}, Verdict.MISMATCHED),
        ({"seen": 1}, Verdict.MISMATCHED),
        ({"seen": -1}, Verdict.MISMATCHED),
        ({"seq": 0}, Verdict.DUPLICATE),
        ({"seq": 2}, Verdict.GAP),
        ({"batch": 1}, Verdict.GAP),
        ({"batch": -1}, Verdict.DUPLICATE),
        ({"incarnation": 2}, Verdict.STALE),
        ({"incarnation": 9}, Verdict.STALE),
        ({"examples": -1}, Verdict.MISCOUNTED),
        ({"examples": 2}, Verdict.MISCOUNTED),
        ({"examples": 10**9}, Verdict.MISCOUNTED),
    ],
)
def test_a_push_that_does_not_count_changes_nothing(
    change: dict[str, int], verdict: Verdict
) -> None:
    server = server_of()
    before = books(server)
    assert server.push(FIRST._replace(**change), ONES, spare()) is verdict
    assert books(server) == before
    assert server.counters == {verdict.name.lower(): 1}
    assert server.take_due() == []


def test_a_batch_that_was_applied_is_a_duplicate_in_any_later_life() -> None:
    server = server_of()
    server.push(FIRST, ONES, spare())
    server.take_due()
    assert server.push(FIRST, ONES, spare()) is Verdict.DUPLICATE
    server.forget(1)
    assert server.join(3, 0, 0) == 1
    again = FIRST._replace(incarnation=3)
    assert server.push(again, ONES, spare()) is Verdict.DUPLICATE
    assert server.push(again._replace(batch=1), ONES, spare()) is Verdict.APPLIED


@pytest.mark.parametrize("optimizer", [SGD, Momentum])
@pytest.mark.parametrize("bound", [None, 0, 2])
@pytest.mark.parametrize(
    ("g", "verdict"),
    [
        (np.array([1, np.nan, 1], np.float32), Verdict.NONFINITE),
        (np.array([1, 1, np.inf], np.float32), Verdict.NONFINITE),
        (np.array([-np.inf, 1, 1], np.float32), Verdict.NONFINITE),
        (np.ones((3, 1), np.float32), Verdict.MISSHAPEN),
        (np.ones(4, np.float32), Verdict.MISSHAPEN),
        (np.ones(3, np.float16), Verdict.MISTYPED),
        (np.ones(3, np.float64), Verdict.MISTYPED),
        (np.ones(3, ">f4"), Verdict.MISTYPED),
        (np.ones(3, np.int32), Verdict.MISTYPED),
        (np.ones(6, np.float32)[::2], Verdict.MISSHAPEN),
    ],
)
def test_a_gradient_that_is_not_as_agreed_touches_nothing(
    g: Any, verdict: Verdict, bound: int | None, optimizer: type[Optimizer]
) -> None:
    rule = optimizer(1.0)
    server = server_of(optimizer=rule, rules=PushPullRules(staleness_bound=bound))
    before = books(server)
    assert server.push(FIRST, g, spare()) is verdict
    assert books(server) == before
    assert all(not state.any() for state in rule.state)
    assert server.counters == {verdict.name.lower(): 1}


def test_weights_that_would_overflow_are_told_from_bad_gradients() -> None:
    server = server_of(optimizer=SGD(1e38))
    big = np.full(3, 100, np.float32)
    assert server.push(FIRST, big, spare()) is Verdict.DIVERGED
    assert server.w.tolist() == [0, 0, 0]


def test_a_stopped_server_applies_nothing_and_names_who_waits() -> None:
    server = server_of(rules=PushPullRules(staleness_bound=0))
    assert server.push(FIRST, ONES, spare()) is Verdict.HELD
    assert server.stop() == [1]
    assert server.push(FIRST._replace(incarnation=2, partition=1), ONES, spare()) is Verdict.STOP
    assert server.join(1, 0, 0) == 4  # nothing to do


def test_a_replacement_joins_at_the_cursor_and_the_old_worker_is_fenced() -> None:
    server = server_of()
    for batch in range(2):
        server.push(FIRST._replace(seq=batch + 1, batch=batch), ONES, spare())
        server.take_due()
    assert server.join(5, 0, 0) == 2
    assert server.push(FIRST._replace(seq=3, batch=2), ONES, spare()) is Verdict.STALE
    assert server.push(Push(5, 1, 0, 0, 2, 2), ONES, spare()) is Verdict.APPLIED


def test_an_answer_is_held_back_while_its_partition_is_too_far_ahead() -> None:
    server = server_of(rules=PushPullRules(staleness_bound=1))
    assert server.push(FIRST, ONES, spare()) is Verdict.APPLIED
    assert server.take_due() == [1]
    assert server.push(FIRST._replace(seq=2, batch=1), ONES, spare()) is Verdict.APPLIED
    assert server.take_due() == []
    other = Push(2, 1, 0, 1, 0, 0)
    assert server.push(other, ONES, spare()) is Verdict.APPLIED
    assert sorted(server.take_due()) == [1, 2]


def test_nobody_waits_for_a_worker_that_is_gone() -> None:
    server = server_of(rules=PushPullRules(staleness_bound=1))
    server.push(FIRST, ONES, spare())
    assert server.take_due() == [1]
    server.push(FIRST._replace(seq=2, batch=1), ONES, spare())
    assert server.take_due() == []
    server.forget(2)
    assert server.take_due() == [1]


def test_nobody_waits_for_a_partition_that_is_done() -> None:
    server = server_of((4, 1), rules=PushPullRules(staleness_bound=1))
    server.push(Push(2, 1, 0, 1, 0, 0), ONES, spare())
    assert server.take_due() == [2]
    for batch in range(4):
        push = FIRST._replace(seq=batch + 1, batch=batch, seen=1)
        assert server.push(push, ONES, spare()) is Verdict.APPLIED
        assert server.take_due() == [1]
    assert server.is_epoch_complete


def test_one_who_joins_late_starts_at_the_least_clock() -> None:
    server = server_of((9, 9), rules=PushPullRules(staleness_bound=2))
    server.leave(2)
    for batch in range(5):
        server.push(FIRST._replace(seq=batch + 1, batch=batch), ONES, spare())
        assert server.take_due() == [1]
    server.join(2, 0, 1)
    assert server.seats[1].clock == server.seats[0].clock == 5


def test_a_bound_of_zero_takes_one_step_by_the_mean() -> None:
    server = server_of(rules=PushPullRules(staleness_bound=0))
    new = spare()
    assert server.push(FIRST, 3 * ONES, spare()) is Verdict.HELD
    assert server.take_due() == []
    assert server.push(Push(2, 1, 0, 1, 0, 0), 5 * ONES, new) is Verdict.APPLIED
    assert server.w is new
    assert new.tolist() == [-4, -4, -4]
    assert (server.version, server.cursors, server.staleness) == (1, [1, 1], {0: 2})
    assert sorted(server.take_due()) == [1, 2]


def test_a_bound_of_zero_goes_on_without_one_who_is_gone() -> None:
    server = server_of(rules=PushPullRules(staleness_bound=0))
    server.push(FIRST, ONES, spare())
    server.forget(2)
    assert server.regroup(spare()) is Verdict.HELD  # a replacement can still join
    server.capacity = 1
    new = spare()
    assert server.regroup(new) is Verdict.APPLIED
    assert server.w is new
    assert server.take_due() == [1]


def test_an_impatient_regroup_waits_for_nobody_who_has_not_joined() -> None:
    server = server_of(rules=PushPullRules(staleness_bound=0))
    server.leave(2)
    assert server.push(FIRST, ONES, spare()) is Verdict.HELD
    assert server.regroup(spare(), impatient=True) is Verdict.APPLIED


def test_a_stale_push_steps_less_where_it_is_asked_for() -> None:
    server = server_of(rules=PushPullRules(staleness_aware=True))
    for batch in range(2):
        server.push(FIRST._replace(seq=batch + 1, batch=batch, seen=batch), ONES, spare())
        server.take_due()
    server.push(Push(2, 1, 0, 1, 0, 0), ONES, spare())
    assert server.staleness == {0: 2, 2: 1}
    assert server.w.tolist() == [-2.5, -2.5, -2.5]


def test_a_long_gradient_is_shrunk_to_the_norm_allowed() -> None:
    server = server_of(rules=PushPullRules(clip_norm=3.0))
    server.push(FIRST, np.array([0, 4, 3], np.float32), spare())
    np.testing.assert_allclose(server.w, [0, -2.4, -1.8], rtol=1e-6)


def test_a_short_gradient_is_not_stretched() -> None:
    server = server_of(rules=PushPullRules(clip_norm=30.0))
    server.push(FIRST, np.array([0, 4, 3], np.float32), spare())
    assert server.w.tolist() == [0, -4, -3]


@pytest.mark.parametrize("settings", [{"staleness_bound": -1}, {"clip_norm": 0.0}])
def test_rules_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        PushPullRules(**settings)


# --- gradients of some rows ----------------------------------------------------------------------


def row_server(
    rules: PushPullRules | None = None, optimizer: Optimizer | None = None
) -> ParameterServer:
    """Four rows of two weights; worker 1 on partition 0, worker 2 on partition 1."""
    weights = np.zeros(8, np.float32)
    server = ParameterServer(weights, optimizer or SGD(1.0), (4, 4), 1, rules, width=2)
    for partition in (0, 1):
        server.join(partition + 1, 0, partition)
    return server


def some_rows(*rows: int, value: float = 1.0) -> RowGradient:
    return RowGradient(np.array(rows, np.int64), np.full((len(rows), 2), value, np.float32))


NOWHERE = np.empty(0, np.float32)


def test_a_gradient_of_some_rows_changes_these_rows_in_place() -> None:
    server = row_server()
    w = server.w
    assert server.push(FIRST, some_rows(1, 3), NOWHERE) is Verdict.APPLIED
    assert server.w is w
    assert w.reshape(-1, 2).tolist() == [[0, 0], [-1, -1], [0, 0], [-1, -1]]
    assert (server.version, server.cursors, server.staleness) == (1, [1, 0], {0: 1})
    assert server.take_due() == [1]


@pytest.mark.parametrize("bound", [None, 0, 2])
@pytest.mark.parametrize(
    ("g", "verdict"),
    [
        (some_rows(1, value=float("nan")), Verdict.NONFINITE),
        (some_rows(1, value=float("-inf")), Verdict.NONFINITE),
        (some_rows(3, 1), Verdict.MISPLACED),
        (some_rows(1, 1), Verdict.MISPLACED),
        (some_rows(-1, 1), Verdict.MISPLACED),
        (some_rows(1, 4), Verdict.MISPLACED),
        (RowGradient(np.array([1], np.int32), np.ones((1, 2), np.float32)), Verdict.MISPLACED),
        (RowGradient(np.array([[1]]), np.ones((1, 2), np.float32)), Verdict.MISPLACED),
        (RowGradient(np.array([1]), np.ones((2, 2), np.float32)), Verdict.MISSHAPEN),
        (RowGradient(np.array([1]), np.ones((1, 3), np.float32)), Verdict.MISSHAPEN),
        (RowGradient(np.array([1]), np.ones(2, np.float32)), Verdict.MISSHAPEN),
        (RowGradient(np.array([1]), np.ones((1, 2), np.float16)), Verdict.MISTYPED),
        (RowGradient(np.array([1]), np.ones((1, 2), ">f4")), Verdict.MISTYPED),
        (np.ones(8, np.float32), Verdict.MISSHAPEN),
    ],
)
@pytest.mark.parametrize("optimizer", [SGD, Adagrad])
def test_a_gradient_of_rows_that_is_not_as_agreed_touches_nothing(
    g: Any, verdict: Verdict, bound: int | None, optimizer: type[Optimizer]
) -> None:
    rule = optimizer(1.0)
    server = row_server(PushPullRules(staleness_bound=bound), rule)
    before = books(server)
    assert server.push(FIRST, g, NOWHERE) is verdict
    assert books(server) == before
    assert all(not state.any() for state in rule.state)
    assert server.counters == {verdict.name.lower(): 1}


def test_a_gradient_of_rows_is_none_for_a_server_of_whole_ones() -> None:
    server = server_of()
    assert server.push(FIRST, some_rows(1), spare()) is Verdict.MISSHAPEN


def test_a_bound_of_zero_takes_one_step_by_the_mean_of_some_rows() -> None:
    server = row_server(PushPullRules(staleness_bound=0))
    assert server.push(FIRST, some_rows(0, 2, value=4.0), NOWHERE) is Verdict.HELD
    other = Push(2, 1, 0, 1, 0, 0)
    assert server.push(other, some_rows(2, 3, value=2.0), NOWHERE) is Verdict.APPLIED
    assert server.w.reshape(-1, 2)[:, 0].tolist() == [-2, 0, -3, -1]
    assert (server.version, server.staleness) == (1, {0: 2})
    assert sorted(server.take_due()) == [1, 2]


def test_a_long_gradient_of_some_rows_is_shrunk_to_the_norm_allowed() -> None:
    server = row_server(PushPullRules(clip_norm=1.0))
    server.push(FIRST, some_rows(0, 2, value=5.0), NOWHERE)
    np.testing.assert_allclose(np.linalg.norm(server.w), 1.0, rtol=1e-6)


def test_an_optimizer_that_moves_all_weights_serves_no_rows() -> None:
    with pytest.raises(ConfigError, match="SGD and Adagrad can"):
        row_server(optimizer=Momentum(1.0))


def test_staleness_is_known_of_each_life() -> None:
    server = server_of()
    server.push(FIRST, ONES, spare())
    server.push(Push(2, 1, 0, 1, 0, 0), ONES, spare())
    assert server.staleness_of == {1: {0: 1}, 2: {1: 1}}
