"""When it is enough: early stopping, a target, a limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from paramserver.errors import ConfigError
from paramserver.training.callbacks import EarlyStopping, TargetScore, TimeLimit
from paramserver.training.result import Progress


def told(score: float | None = None, loss: float = 0.0, wall_s: float = 0.0) -> Progress:
    return Progress(1, 1.0, wall_s, loss, score)


def test_early_stopping_ends_after_so_many_without_an_improvement() -> None:
    stop = EarlyStopping(patience=2)
    scores = (0.5, 0.4, 0.6, 0.6, 0.7, 0.1, 0.7)
    assert [stop(told(score)) for score in scores] == [False] * 6 + [True]


def test_an_improvement_has_to_be_larger_than_asked_for() -> None:
    stop = EarlyStopping(patience=2, min_delta=0.1)
    assert [stop(told(score)) for score in (0.5, 0.6, 0.5)] == [False, False, True]


def test_a_loss_has_to_fall() -> None:
    stop = EarlyStopping(patience=1, monitor="train_loss")
    assert [stop(told(loss=loss)) for loss in (3.0, 2.0, 2.5)] == [False, False, True]


def test_early_stopping_of_a_resumed_training_ends_where_an_uninterrupted_one_would() -> None:
    scores = [told(score) for score in (0.5, 0.6, 0.6, 0.6, 0.6)]
    for cut in range(4):
        stop = EarlyStopping(patience=3)
        stop.begin([told(9.0)] * 2)  # another training: forgotten
        stop.begin(scores[:cut])
        assert [stop(each) for each in scores[cut:]] == [False] * (4 - cut) + [True]


def test_a_target_may_have_to_be_reached_several_times_in_a_row() -> None:
    once, twice = TargetScore(0.9), TargetScore(0.9, in_a_row=2)
    scores = (0.8, 0.9, 0.89, 0.95, 0.9)
    assert [once(told(score)) for score in scores] == [False, True, False, True, True]
    assert [twice(told(score)) for score in scores] == [False, False, False, False, True]
    twice.begin([told(score) for score in scores[:-1]])
    assert twice(told(0.9))
    twice.begin([])
    assert not twice(told(0.9))


def test_a_time_limit_is_passed_when_it_is() -> None:
    limit = TimeLimit(2.0)
    assert [limit(told(wall_s=wall_s)) for wall_s in (0.0, 1.9, 2.0)] == [False, False, True]


@pytest.mark.parametrize("callback", [EarlyStopping(), TargetScore(0.5)])
def test_a_score_is_watched_only_where_there_is_one(callback: Any) -> None:
    with pytest.raises(ConfigError, match=r"test=\(X, y\)"):
        callback(told(None))


@pytest.mark.parametrize(
    "make",
    [
        lambda: EarlyStopping(patience=0),
        lambda: EarlyStopping(min_delta=-1.0),
        lambda: EarlyStopping(min_delta=float("nan")),
        lambda: EarlyStopping(monitor="accuracy"),
        lambda: TargetScore(0.5, in_a_row=0),
        lambda: TimeLimit(0.0),
        lambda: TimeLimit(float("nan")),
    ],
)
def test_settings_that_cannot_be_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigError):
        make()
