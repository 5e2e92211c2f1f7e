"""When a fit has gone far enough."""

from __future__ import annotations

import pytest

from paramserver.estimators.watching import Watching
from paramserver.training.result import Progress


def told(loss: float, score: float | None = None) -> Progress:
    return Progress(1, 1.0, 0.1, loss, score)


def test_it_is_enough_when_the_loss_has_not_fallen_by_tol_so_often_in_a_row() -> None:
    watching = Watching(0.1, 2, by_score=False, verbose=False)
    losses = [1.0, 0.95, 0.8, 0.75, 0.72]
    assert [watching(told(loss)) for loss in losses] == [False, False, False, False, True]
    assert (watching.n_rounds, watching.has_converged) == (5, True)


def test_a_score_has_to_rise() -> None:
    watching = Watching(0.01, 1, by_score=True, verbose=False)
    scores = [0.5, 0.6, 0.605]
    assert [watching(told(1.0, score)) for score in scores] == [False, False, True]


def test_without_tol_it_is_never_enough() -> None:
    watching = Watching(None, 1, by_score=False, verbose=False)
    assert not any(watching(told(float(loss))) for loss in range(50))


def test_a_line_a_round_is_printed_and_what_is_waited_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    watching = Watching(None, 1, by_score=True, verbose=True)
    watching.hear("kernels are being compiled")
    watching(told(0.25, 0.5))
    assert capsys.readouterr().out == (
        "kernels are being compiled\nRound 1: loss 0.250000, validation score 0.500000\n"
    )
    Watching(None, 1, by_score=True, verbose=False).hear("kernels are being compiled")
    assert capsys.readouterr().out == ""
