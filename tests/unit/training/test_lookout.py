"""What the user's thread gets to see of a training, and when."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from paramserver.errors import TrainingError
from paramserver.training.lookout import Lookout
from paramserver.training.measures import Snapshot
from paramserver.training.vector import FloatVector

W = np.arange(3, dtype=np.float32)
PATIENCE_S = 60.0


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def lookout(*, in_step: bool = False) -> tuple[Lookout, Clock]:
    clock = Clock()
    return Lookout(clock, in_step=in_step), clock


def take(unit: int, w: FloatVector = W) -> Callable[[], Snapshot]:
    return lambda: Snapshot(w.copy(), unit, 10 * unit, 5.0)


def test_nothing_is_copied_for_nobody() -> None:
    seen, _ = lookout()
    seen.offer(lambda: pytest.fail("a copy that nobody wants"))
    assert seen.wait(0.0, look=False, not_before_s=0.0) is None


def test_who_asks_gets_one_copy_when_it_is_time() -> None:
    seen, clock = lookout()
    assert seen.wait(0.0, look=True, not_before_s=2.0) is None
    assert seen.is_asked
    clock.now = 101.0
    seen.offer(lambda: pytest.fail("too early"))
    assert seen.is_asked
    clock.now = 102.0
    seen.offer(take(2))
    assert not seen.is_asked
    snapshot = seen.wait(0.0, look=False, not_before_s=0.0)
    assert snapshot is not None
    assert (snapshot.w.tolist(), snapshot.unit, snapshot.examples) == ([0, 1, 2], 2, 20)
    assert seen.wait(0.0, look=False, not_before_s=0.0) is None


def test_in_step_everything_that_is_offered_is_shown() -> None:
    seen, _ = lookout(in_step=True)
    seen.offer(take(5))
    snapshot = seen.wait(0.0, look=False, not_before_s=9.0)
    assert snapshot is not None
    assert snapshot.unit == 5


def test_the_end_wakes_who_waits_and_is_the_only_one() -> None:
    seen, clock = lookout()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(seen.wait, PATIENCE_S, look=False, not_before_s=0.0)
        seen.finish(take(7)())
        assert waiting.result(PATIENCE_S) is None
    clock.now = 200.0
    seen.fail(TrainingError("too late"))
    seen.break_off()
    assert seen.final is not None
    assert (seen.final.unit, seen.has_ended, seen.ended_at) == (7, True, 100.0)
    assert seen.wait(0.0, look=False, not_before_s=0.0) is None


def test_an_error_is_raised_where_somebody_waits() -> None:
    seen, _ = lookout()
    seen.fail(TrainingError("it burns"))
    with pytest.raises(TrainingError, match="it burns"):
        seen.wait(PATIENCE_S, look=True, not_before_s=0.0)
    assert (seen.final, seen.ended_at) == (None, 100.0)


def test_a_training_that_is_broken_off_has_no_last_weights() -> None:
    seen, _ = lookout()
    seen.break_off()
    assert (seen.final, seen.has_ended, seen.ended_at) == (None, True, 100.0)


def test_who_waits_for_something_else_looks_again_when_told() -> None:
    seen, _ = lookout()
    left = [1]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(seen.wait_until, lambda: not left, PATIENCE_S)
        left.clear()
        seen.look_again()
        waiting.result(PATIENCE_S)


def test_words_wake_the_users_thread_and_are_said_once() -> None:
    seen, _ = lookout()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(seen.wait, PATIENCE_S, look=False, not_before_s=0.0)
        for words in ("compiling", "fetching", "compiling"):
            seen.say(words)
        assert waiting.result(PATIENCE_S) is None
    assert seen.take_words() == ["compiling", "fetching"]
    seen.say("compiling")
    assert seen.take_words() == []
