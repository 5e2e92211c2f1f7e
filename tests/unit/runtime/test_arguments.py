"""Numbers of users are refused in words before the I/O thread has to reckon with them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from paramserver.core.jobs import JobOptions
from paramserver.errors import ConfigError
from paramserver.runtime.arguments import MAX_PRIORITY, job_options, seconds, whole_number

USUAL: dict[str, Any] = {
    "max_failures": 1,
    "max_lost": 3,
    "timeout_s": None,
    "priority": 0,
    "pure": False,
}


def test_whole_numbers_of_any_kind_are_taken() -> None:
    assert [whole_number(value, "n", 0) for value in (0, 7, np.int64(3), True)] == [0, 7, 3, 1]
    assert type(whole_number(np.int64(3), "n", 0)) is int


@pytest.mark.parametrize("value", [0, -1, 1.0, "1", None, math.nan, [1]])
def test_what_is_no_whole_number_or_too_small_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^n must be a whole number, 1 or more, not ") as caught:
        whole_number(value, "n", 1)
    assert caught.value.field == "n"


def test_seconds_of_any_kind_are_taken() -> None:
    assert [seconds(value, "s") for value in (0, 1.5, np.float32(2), math.inf)] == [
        0,
        1.5,
        2,
        math.inf,
    ]
    assert type(seconds(np.float32(2), "s")) is float


@pytest.mark.parametrize("value", [-1e-9, math.nan, "3", b"3", None, [1], 10**400, 1j])
def test_what_is_no_time_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^s must be a number of seconds, 0 or more, not "):
        seconds(value, "s")


def test_a_time_that_must_be_above_something_may_not_be_it() -> None:
    assert seconds(1e-9, "s", above=0) == 1e-9
    with pytest.raises(ConfigError, match=r"^s must be a number of seconds, above 0, not 0\."):
        seconds(0, "s", above=0)


def test_options_become_those_of_the_scheduler() -> None:
    assert job_options(**USUAL) == JobOptions()
    found = job_options(
        max_failures=3,
        max_lost=np.int16(7),
        timeout_s=np.float32(1.5),
        priority=np.int8(-2),
        pure=1,
    )
    assert found == JobOptions(
        max_failures=3, max_timeouts=3, max_lost=7, timeout_s=1.5, priority=-2, pure=True
    )
    assert type(found.priority) is int


def test_a_deadline_that_never_comes_is_none() -> None:
    assert job_options(**USUAL | {"timeout_s": math.inf}) == JobOptions()


@pytest.mark.parametrize("priority", [None, "high", 1.5, math.nan, MAX_PRIORITY, -MAX_PRIORITY])
def test_a_priority_that_cannot_be_compared_is_refused(priority: Any) -> None:
    with pytest.raises(ConfigError, match="priority must be a whole number of 31 bits"):
        job_options(**USUAL | {"priority": priority})
