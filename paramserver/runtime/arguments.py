"""Numbers that users give, checked where they are given: before they reach the I/O thread.

Rule 1: what is wrong is refused in words, with the name of the argument. The I/O thread compares,
        adds and sleeps with these numbers, and an error there would end the whole cluster.
Rule 2: what stands for a number (numpy's, say) is taken for the number.
"""

from __future__ import annotations

import math
import operator
from typing import Any, Final

from paramserver.core.jobs import JobOptions
from paramserver.errors import ConfigError

MAX_PRIORITY: Final = 2**31


def whole_number(value: Any, name: str, least: int) -> int:
    """Return a whole number.

    Raises
    ------
    ConfigError
        If it is none, or less than `least`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ConfigError(
            f"{name} must be a whole number, {least} or more, not {value!r}.",
            field=name,
            value=value,
        )
    return number


def seconds(value: Any, name: str, *, above: float | None = None) -> float:
    """Return a time in seconds; infinity stands for no end.

    Parameters
    ----------
    value : float
    name : str
        Of the argument.
    above : float, optional
        It must be above this; by default it must be 0 or more.

    Raises
    ------
    ConfigError
        If it is no such number.
    """
    try:
        number = math.nan if isinstance(value, (str, bytes)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not (number >= 0 if above is None else number > above):
        least = "0 or more" if above is None else f"above {above:g}"
        raise ConfigError(
            f"{name} must be a number of seconds, {least}, not {value!r}.", field=name, value=value
        )
    return number


def job_options(
    *, max_failures: Any, max_lost: Any, timeout_s: Any, priority: Any, pure: Any
) -> JobOptions:
    """Return the options of jobs that are handed in one by one.

    Raises
    ------
    ConfigError
        If one of them is out of range.
    """
    try:
        level = operator.index(priority)
    except TypeError:
        level = MAX_PRIORITY
    if abs(level) >= MAX_PRIORITY:
        raise ConfigError(
            f"priority must be a whole number of 31 bits, not {priority!r}.",
            field="priority",
            value=priority,
        )
    n_failures = whole_number(max_failures, "max_failures", 1)
    deadline_s = None if timeout_s is None else seconds(timeout_s, "timeout_s", above=0)
    return JobOptions(
        max_failures=n_failures,
        max_timeouts=max(2, n_failures),
        max_lost=whole_number(max_lost, "max_lost", 1),
        timeout_s=None if deadline_s == math.inf else deadline_s,
        priority=level,
        pure=bool(pure),
    )
