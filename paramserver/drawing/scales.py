"""From values to places on an axis, and what to write beside them. Pure.

Rule 1: a tick stands at a round number, written with as many digits as tell it from the next.
Rule 2: an axis is wide enough for what it is given, also for one value, and for none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10
from typing import Final

N_TICKS: Final = 5
"""About so many ticks on an axis."""
LEAST_POSITIVE: Final = 1e-12
"""What a logarithmic axis takes zero for."""
MINUTES_FROM_S: Final = 600.0
HOURS_FROM_S: Final = 10_800.0
"""From where on a time is told so."""
DENSE: Final = 0.35
"""Within less than so many powers of ten, round numbers of a linear axis are the better ticks."""


@dataclass(frozen=True, slots=True)
class Scale:
    """An axis from `low` to `high`.

    Attributes
    ----------
    low, high : float
        `low` < `high`; both above 0 where `is_log`.
    is_log : bool
    is_whole : bool
        Of whole numbers: there is no tick between them.
    """

    low: float
    high: float
    is_log: bool = False
    is_whole: bool = False

    def place(self, value: float) -> float:
        """Return where a value is: 0 at `low`, 1 at `high`."""
        if self.is_log:
            value = max(value, LEAST_POSITIVE)
            return (log10(value) - log10(self.low)) / (log10(self.high) - log10(self.low))
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """Return round values on the axis, and how they are written."""
        if self.is_log and log10(self.high / self.low) >= DENSE:
            return [(value, short(value)) for value in _log_ticks(self.low, self.high)]
        step = _round_step((self.high - self.low) / N_TICKS)
        if self.is_whole:
            step = max(1.0, step)
        first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
        values = [round(i * step, 12) for i in range(first, last + 1)]
        for sign, size, least in (("G", 1e9, 1e9), ("M", 1e6, 1e6), ("k", 1e3, 1e4)):
            if max(abs(self.low), abs(self.high)) >= least:  # there is not the room for more
                return [(value, f"{value / size:g}{sign}" if value else "0") for value in values]
        return [(value, _written(value, step)) for value in values]

    def timed(self, title: str) -> tuple[list[tuple[float, str]], str]:
        """Return the ticks and the title of an axis; a long time is told in minutes or hours.

        Parameters
        ----------
        title : str
            With its unit; where that is "seconds" it may become another one.

        Examples
        --------
        >>> Scale(0.0, 3700.0).timed("seconds of training")[1]
        'minutes of training'
        """
        name, size = unit_of_time(self.high)
        is_glimpse = self.high - self.low < size / 10  # whose ticks are small parts of a minute
        if size == 1 or is_glimpse or not title.startswith("seconds"):
            return self.ticks(), title
        ticks = Scale(self.low / size, self.high / size).ticks()
        return [(value * size, text) for value, text in ticks], title.replace("seconds", name, 1)


def scale_for(
    values: Iterable[float],
    *,
    from_zero: bool = False,
    is_log: bool = False,
    is_whole: bool = False,
    room: float = 0.0,
) -> Scale:
    """Return a scale that holds all values.

    Parameters
    ----------
    values : iterable of float
        What is not finite is left out.
    from_zero : bool
        Begin at 0.
    is_log, is_whole : bool
    room : float
        Part of the span to leave free at both ends (at the upper one where `from_zero`).

    Examples
    --------
    >>> scale_for([3.0, 9.0], from_zero=True).ticks()
    [(0.0, '0'), (2.0, '2'), (4.0, '4'), (6.0, '6'), (8.0, '8')]
    >>> scale_for([0.03, 2.5], is_log=True).ticks()
    [(0.05, '0.05'), (0.1, '0.1'), (0.2, '0.2'), (0.5, '0.5'), (1.0, '1'), (2.0, '2')]
    """
    found = [value for value in values if isfinite(value)]
    if is_log:
        found = [log10(max(value, LEAST_POSITIVE)) for value in found]
    if from_zero and not is_log:
        found.append(0.0)
    low, high = (min(found), max(found)) if found else (0.0, 1.0)
    if high <= low:
        spread = 0.1 if is_log else (abs(high) * 0.1 or 1.0)
        low, high = low - (0.0 if from_zero and low == 0 else spread), high + spread
    span = high - low
    low, high = low - (0.0 if from_zero else room * span), high + room * span
    return Scale(10**low, 10**high, True) if is_log else Scale(low, high, is_whole=is_whole)


def unit_of_time(longest_s: float) -> tuple[str, float]:
    """Return in what a time is told, and how many seconds that is.

    Examples
    --------
    >>> [unit_of_time(longest_s) for longest_s in (90.0, 600.0, 86_400.0)]
    [('seconds', 1.0), ('minutes', 60.0), ('hours', 3600.0)]
    """
    if longest_s < MINUTES_FROM_S:
        return "seconds", 1.0
    return ("minutes", 60.0) if longest_s < HOURS_FROM_S else ("hours", 3600.0)


def by_number(name: str) -> list[tuple[bool, int, str]]:
    """Return what sorts names by the numbers in them.

    Examples
    --------
    >>> sorted(["w10", "w2", "w1"], key=by_number)
    ['w1', 'w2', 'w10']
    """
    words = re.findall(r"\d+|\D+", name)
    return [(word.isdecimal(), int(word) if word.isdecimal() else 0, word) for word in words]


def _round_step(rough: float) -> float:
    """Return the number of the form 1, 2 or 5 times a power of ten that is next to another."""
    power: float = 10.0 ** floor(log10(rough))
    return float(power * min((1, 2, 5, 10), key=lambda each: abs(log10(each * power / rough))))


def _log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten, and 2 and 5 times them where there are few."""
    powers = range(floor(log10(low)) - 1, ceil(log10(high)) + 1)
    digits = (1, 2, 5) if log10(high / low) <= 2.5 else (1,)
    values = [float(f"{digit}e{power}") for power in powers for digit in digits]
    found = [value for value in values if low * 0.999 <= value <= high * 1.001]
    every = ceil(len(found) / 8)
    return found[::every]


def _written(value: float, step: float) -> str:
    """Write a value so that it differs from one that is a step away."""
    if value == 0:
        return "0"
    if step < 1e-4:
        return short(value)
    decimals = max(0, -floor(log10(step) + 1e-9))
    return f"{value:,.{decimals}f}"


def short(value: float) -> str:
    """Write a number in few characters.

    Examples
    --------
    >>> [short(value) for value in (0, 0.00012, 0.25, 1440, 30730.4, 3_744_000, 2.5e9)]
    ['0', '1.2e-04', '0.25', '1,440', '30,730', '3.744M', '2.5G']
    """
    for sign, size in (("G", 1e9), ("M", 1e6)):
        if abs(value) >= size:
            return f"{value / size:.4g}{sign}" if abs(value) < 1e12 else f"{value:.2e}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if value != 0 and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:.4g}"
