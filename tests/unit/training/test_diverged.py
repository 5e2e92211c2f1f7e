"""What is said of a training that has stopped being finite."""

from __future__ import annotations

import numpy as np
import pytest

from paramserver.training.diverged import round_diverged, update_diverged
from paramserver.training.pushes import Push

W = np.arange(3, dtype=np.float32)
PUSH = Push(incarnation=7, seq=1, epoch=2, partition=3, batch=4, seen=5)


@pytest.mark.parametrize(
    ("partitions", "workers", "whose"),
    [
        ([1, 4], ["a-0", "b-1"], "partition 1 (a-0), partition 4 (b-1)"),
        ([1], [], "partition 1"),
        ([], [], "the outer step"),
    ],
)
def test_a_round_names_the_results_that_are_not_finite(
    partitions: list[int], workers: list[str], whose: str
) -> None:
    error = round_diverged(6, partitions, workers, W)
    assert str(error).startswith(f"Round 6: the weights from {whose} are not finite. The learning")
    assert (error.round, error.partitions, error.workers) == (6, tuple(partitions), tuple(workers))


@pytest.mark.parametrize(
    ("push", "worker", "is_gradient", "words"),
    [
        (PUSH, "a-0", True, "9 (a-0, epoch 2, partition 3) has a gradient that is not finite;"),
        (PUSH, "", False, "9 (epoch 2, partition 3) would make the weights overflow;"),
        (None, "", False, "9 would make the weights overflow;"),
    ],
)
def test_an_update_names_the_push_and_what_is_wrong_with_it(
    push: Push | None, worker: str, is_gradient: bool, words: str
) -> None:
    error = update_diverged(9, push, worker, W, is_gradient=is_gradient)
    assert str(error).startswith(f"Update {words} it was not applied. The learning rate")
    partitions = () if push is None else (3,)
    workers = (worker,) if worker else ()
    assert (error.round, error.partitions, error.workers) == (9, partitions, workers)


def test_the_weights_that_go_with_an_error_are_a_copy() -> None:
    w = W.copy()
    errors = [round_diverged(1, [0], [], w), update_diverged(1, PUSH, "", w, is_gradient=True)]
    w[:] = np.nan
    assert [error.weights.tolist() for error in errors] == [[0, 1, 2]] * 2
