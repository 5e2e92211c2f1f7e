"""What a process does before its first step, and what is told of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from paramserver.training import warm_up as module
from paramserver.training.learner import Batch
from paramserver.training.plan import TrainingPlan
from paramserver.training.warm_up import warm_up
from tests.numerics.learners import LeastSquares

ROWS = Batch(np.zeros((6, 2)), np.zeros(6))


def one_more(x: int) -> int:
    return x + 1


def two_more(x: int) -> int:
    return x + 2


class Compiling(LeastSquares):
    """Compiles what it is given, before its first step."""

    def __init__(self, *functions: Any) -> None:
        super().__init__(2)
        self.functions = functions
        self.seen: list[Any] = []

    def kernel_for(self, rows: Batch, batch_size: int) -> str:
        return "numba"

    def warm_up(self, rows: Batch, batch_size: int) -> None:
        self.seen.append((rows, batch_size))
        for function in self.functions:
            function.compile((numba.int64,))


def warmed(learner: LeastSquares, width: int | None = None) -> list[str]:
    """Return what was told while a learner got ready."""
    plan = TrainingPlan("a", "/nowhere", learner, None, 3, 0, 0.1, width=width)  # type: ignore[arg-type]
    told: list[str] = []
    warm_up(plan, ROWS, lambda: told.append("compiles"))
    return told


def test_that_something_is_compiled_is_told_once() -> None:
    learner = Compiling(numba.njit(one_more), numba.njit(two_more))
    assert warmed(learner) == ["compiles"]
    assert warmed(learner) == []  # it is there already
    assert learner.seen == [(ROWS, 3), (ROWS, 3)]


def test_what_was_kept_on_the_disk_is_loaded_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    # Both know their folder before either is compiled: that has numba read its settings anew.
    first, second = (numba.njit(cache=True)(one_more) for _ in range(2))
    assert warmed(Compiling(first)) == ["compiles"]
    assert warmed(Compiling(second)) == []


def test_numba_of_a_learner_that_says_nothing_of_it_is_seen_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(Compiling, "kernel_for")
    assert warmed(Compiling(numba.njit(one_more))) == ["compiles"]


@pytest.mark.parametrize(("kernel", "is_there"), [("numpy", True), ("numba", False)])
def test_numba_is_not_imported_where_it_is_not_used_or_not_there(
    monkeypatch: pytest.MonkeyPatch, kernel: str, is_there: bool
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "numba"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(Compiling, "kernel_for", lambda *_: kernel)
    find: Callable[[str], object] = lambda _: "a spec" if is_there else None  # noqa: E731
    monkeypatch.setattr(module, "find_spec", find)
    learner = Compiling()
    assert warmed(learner) == []
    assert learner.seen == [(ROWS, 3)]
    assert "numba" not in sys.modules


class Passing(Compiling):
    """The same for gradients of some rows; it must not be asked for whole ones."""

    kernel_for = None  # type: ignore[assignment]
    warm_up = None  # type: ignore[assignment]

    def pass_kernel_for(self, rows: Batch, batch_size: int) -> str:
        return "numba"

    def warm_up_pass(self, rows: Batch, batch_size: int) -> None:
        Compiling.warm_up(self, rows, batch_size)


def test_where_some_rows_are_pushed_their_kernel_is_made_ready() -> None:
    learner = Passing(numba.njit(one_more))
    assert warmed(learner, width=1) == ["compiles"]
    assert learner.seen == [(ROWS, 3)]


def test_a_learner_without_anything_to_make_ready_is_left_alone() -> None:
    assert warmed(LeastSquares(2)) == []
