"""Learners and plans as plain data: what comes back, and what is refused."""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from paramserver.errors import ConfigError, RemoteProtocolError
from paramserver.models.softmax import Softmax
from paramserver.protocol import calls
from paramserver.protocol.functions import find_function
from paramserver.training.partitions import SharedRows
from paramserver.training.plan import TrainingPlan
from paramserver.training.travel import describe, restore
from tests.numerics.learners import LeastSquares


@dataclass(frozen=True)
class Nested:
    learner: Any
    numbers: tuple[Any, ...]
    table: dict[str, Any]


def find(name: str) -> Any:
    return find_function(name, ("tests",))


def travelled(value: Any, find: Any = find) -> Any:
    """Send a value through the very bytes that cross the wire."""
    payload = calls.encode_value(describe(value, "value"), trusted=False)
    return restore(calls.decode_value(payload, trusted=False), find)


@pytest.mark.parametrize(
    "value",
    [
        None,
        3,
        "text",
        (1, [2.5, None], {"a": b"c"}),
        Softmax(3, 4, 0.1),
        LeastSquares(7, pause_s=0.5),
        SharedRows("/folder", (0, 3, 9)),
        Nested(LeastSquares(2), (1, Softmax(1, 2)), {"a": LeastSquares(3)}),
    ],
)
def test_what_travels_comes_back_equal(value: Any) -> None:
    assert travelled(value) == value


def test_arrays_travel_with_their_dtype() -> None:
    array = np.arange(2_000, dtype=np.float32)
    back = travelled(Nested(None, (array,), {})).numbers[0]
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


def test_what_cannot_travel_is_named() -> None:
    with pytest.raises(ConfigError, match=r"learner holds a _thread\.lock"):
        describe(Nested(threading.Lock(), (), {}), "learner")


def test_a_class_that_workers_cannot_find_is_refused() -> None:
    @dataclass
    class Hidden:
        pass

    with pytest.raises(ConfigError, match="cannot find"):
        describe(Hidden(), "learner")


KEY = next(iter(describe(LeastSquares(1), "learner")))


def named(name: Any, fields: Any) -> dict[str, Any]:
    return {KEY: name, "fields": fields}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (named(3, {}), "no name"),
        (named("tests.numerics.learners:LeastSquares", []), "no fields"),
        (named("paramserver.training.vector:blocks", {}), "no dataclass"),
        (named("paramserver.training.travel:importlib", {}), "no dataclass"),
        (named("paramserver.training.travel:np", {}), "no dataclass"),
        (named("paramserver.training.plan:SharedRows", {}), "no dataclass"),
        (named("paramserver.training.vector:Layout.views", {}), "not the name"),
        (named("paramserver.training.no_such:A", {}), "cannot be imported"),
        (named("paramserver.training.:A", {}), "not the name"),
        (named("paramserver.models.softmax:Softmax", {"n": 1}), "other fields"),
        (named("tests.numerics.learners:numbered_rows", {}), "no dataclass"),
    ],
)
def test_what_describe_never_writes_is_refused(value: Any, words: str) -> None:
    with pytest.raises(RemoteProtocolError, match=words):
        restore(value, find)


@pytest.mark.parametrize("name", ["os:system", "builtins:eval", "paramserver.runtime.agent:Agent"])
def test_classes_that_are_not_allowed_are_the_workers_to_refuse(name: str) -> None:
    asked = []

    def refuse(name: str) -> Any:
        asked.append(name)
        raise PermissionError

    with pytest.raises(PermissionError):
        restore(named(name, {}), refuse)
    assert asked == [name]


def test_a_plan_travels_with_all_that_is_in_it() -> None:
    plan = TrainingPlan(
        "training1",
        "/folder",
        Softmax(3, 4),
        SharedRows("/folder", (0, 5)),
        32,
        7,
        0.5,
        3,
        2,
        4,
        "x",
    )
    told = calls.decode_value(calls.encode_value(plan.describe(), trusted=False), trusted=False)
    assert TrainingPlan.restore(told, find) == plan
    del told["seed"]
    with pytest.raises(RemoteProtocolError, match="no plan"):
        TrainingPlan.restore(told, find)


def test_a_worker_without_the_kernel_of_a_learner_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = describe(Softmax(3, 4, kernel="numba"), "learner")
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(ConfigError, match=r"pip install 'paramserver\[fast\]'"):
        restore(told, find)
