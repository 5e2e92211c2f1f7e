"""Amounts in words, as pages and reports write them. Pure."""

from __future__ import annotations

from typing import Any


def duration(seconds: float) -> str:
    """Say how long something took.

    Examples
    --------
    >>> [duration(s) for s in (0.0123, 1.4, 95.0, 7300.0)]
    ['12.3 ms', '1.40 s', '1.6 min', '2.0 h']
    """
    if seconds < 0.1:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s"
    return f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def amount(n: float) -> str:
    """Say how many bytes something is.

    Examples
    --------
    >>> [amount(n) for n in (512, 52_000, 1_300_000, 2_000_000_000)]
    ['512 B', '52.0 kB', '1.3 MB', '2.0 GB']
    """
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= size:
            return f"{n / size:.1f} {unit}"
    return f"{n:.0f} B"


def count(n: int, noun: str, plural: str = "") -> str:
    """Say how many there are.

    Examples
    --------
    >>> count(1, "life", "lives"), count(2, "worker")
    ('1 life', '2 workers')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def setting(value: Any) -> str:
    """Write the value of a setting.

    Examples
    --------
    >>> [setting(value) for value in (True, 0.1 + 0.2, None, "digits")]
    ['yes', '0.3', 'none', 'digits']
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
