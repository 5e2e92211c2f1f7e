"""Values: equal by type and fields, hashable, and nothing but their fields."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from paramserver.protocol.values import value


@value
class Point:
    x: int
    y: int = 0


@value
class Size:
    x: int
    y: int = 0


def test_values_are_equal_by_their_type_and_their_fields() -> None:
    assert Point(1) == Point(1, 0)
    assert Point(1) != Point(2)
    assert Point(1) != Size(1)
    assert {Point(1), Point(1, 0), Point(0, 1)} == {Point(1), Point(0, 1)}


def test_a_value_shows_its_fields_and_can_be_copied_and_sent() -> None:
    point = Point(1, 2)

    assert repr(point) == "Point(x=1, y=2)"
    assert replace(point, x=3) == Point(3, 2)
    assert pickle.loads(pickle.dumps(point)) == point


def test_a_value_has_no_other_fields() -> None:
    with pytest.raises(AttributeError, match="z"):
        Point(1).z = 3  # type: ignore[attr-defined]
