"""What every end over descriptors shares: time as poll(2) counts it."""

from __future__ import annotations

import math

import pytest

from paramserver.transport.end import as_ms


@pytest.mark.parametrize(
    ("timeout_s", "ms"),
    [
        (None, -1),
        (-1.0, 0),
        (0.0, 0),
        (1e-9, 1),
        (0.001, 1),
        (0.0011, 2),
        (3600.0, 3_600_000),
        (1e9, 2**31 - 1),
        (1e300, 2**31 - 1),
        (math.inf, 2**31 - 1),
    ],
)
def test_a_time_is_rounded_up_and_what_has_no_end_is_cut(timeout_s: float | None, ms: int) -> None:
    assert as_ms(timeout_s) == ms
