"""What a training is, in values that can be compared: equal for equal settings, in any process."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.linear_model import SGDClassifier

import paramserver as ps
from paramserver.errors import ConfigError
from paramserver.models.linear import Linear
from paramserver.models.softmax import Softmax
from paramserver.training.learner import Batch
from paramserver.training.optimizers import Momentum
from paramserver.training.partitions import Epoch
from paramserver.training.run_constants import (
    MachineWarning,
    describe,
    describe_machine,
    describe_run,
    require_same,
    warn_of_machine,
)


class Free:
    """Settings as attributes, and one that is computed when needed."""

    def __init__(self, alpha: float, table: Any) -> None:
        self.alpha = alpha
        self.table = table
        self.call = len

    @cached_property
    def size(self) -> int:
        return 3


class Slotted:
    __slots__ = ("alpha",)

    def __init__(self, alpha: int) -> None:
        self.alpha = alpha


@dataclass
class Framed:
    alpha: float
    inner: Free


def test_a_thing_is_described_by_what_it_is_set_to() -> None:
    free = Free(0.5, np.arange(3.0))
    described = describe(Framed(2.0, free))
    assert described == {
        "type": f"{__name__}.Framed",
        "alpha": 2.0,
        "inner": {
            "type": f"{__name__}.Free",
            "arguments": [],
            "alpha": 0.5,
            "call": "builtins.len",
            "table": describe(np.arange(3.0)),
        },
    }
    assert free.size == 3  # computed now, and no setting all the same
    assert describe(Framed(2.0, free)) == described
    assert json.loads(json.dumps(described)) == described


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.zeros(3), np.zeros(4)),
        (np.zeros(3), np.zeros(3, np.float32)),
        (np.zeros(3), np.array([0.0, 0.0, -0.0])),
        (np.zeros((2, 3)), np.zeros((3, 2))),
        (np.array(["a"], object), np.array(["b"], object)),
        ([1, 2], [2, 1]),
        (Free(0.1, None), Free(0.1, 1)),
        (len, max),
        ({1, 2}, {1, 3}),
        (b"ab", b"ac"),
        (Slotted(1), Slotted(2)),
        (partial(pow, 2), partial(pow, 3)),
        (json, os),
        (partial(pow, 2), partial(max, 2)),
        (np.random.default_rng(1), np.random.default_rng(2)),
        (random.Random(1), random.Random(2)),
        (SGDClassifier(alpha=0.1), SGDClassifier(alpha=0.2)),
        (np.dtype("f4"), np.dtype("f8")),
        (Linear(3), Linear(4)),
        (Linear(3), Softmax(3, 2)),
        (ps.Averaging(outer=Momentum(0.7)), ps.Averaging(outer=Momentum(0.7, nesterov=True))),
    ],
)
def test_other_settings_have_another_description(one: Any, other: Any) -> None:
    assert describe(one) == describe(one)
    assert describe(one) != describe(other)


def test_an_optimizer_that_has_run_is_described_as_a_new_one() -> None:
    used = Momentum(0.7)
    used.start(3, np.float64)
    used.step(np.zeros(3), np.ones(3), np.zeros(3))
    assert describe(used) == describe(Momentum(0.7))


def test_an_adapted_estimator_that_has_been_trained_is_described_as_a_new_one() -> None:
    learner = ps.SklearnLearner(SGDClassifier(random_state=0), 2, [0, 1])
    new = describe(learner)
    w = learner.start(np.random.default_rng(0))
    rows = Batch(np.eye(4, 2), np.array([0, 1, 0, 1]))
    learner.local_epoch(w, Epoch(rows, 2, 0, 0, 0), 0.1)
    assert describe(learner) == new
    assert describe(ps.SklearnLearner(SGDClassifier(alpha=0.5), 2, [0, 1])) != new


def test_what_refers_to_itself_is_described_to_a_depth() -> None:
    free = Free(1.0, None)
    free.table = [free]
    assert json.dumps(describe(free))


def run_of(X: Any, *, seed: int = 0, order: int = 0, **changed: Any) -> dict[str, Any]:
    rows = Batch(X, np.arange(6))
    parts = list(np.array_split(np.random.default_rng(order).permutation(6), 2))
    settings: dict[str, Any] = {
        "learner": Linear(2),
        "mode": ps.Averaging(rounds=3, n_partitions=2),
    } | changed
    return describe_run(**settings, rows=rows, parts=parts, batch_size=2, lr=0.1, seed=seed)


def test_a_run_is_the_same_in_another_process() -> None:
    here = run_of(np.arange(12.0).reshape(6, 2))
    program = (
        "import json, numpy as np; from tests.unit.training.test_run_constants import run_of\n"
        "print(json.dumps(run_of(np.arange(12.0).reshape(6, 2))))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "77"}
    command = [sys.executable, "-c", program]
    there = subprocess.run(command, check=True, capture_output=True, env=environment)
    require_same(json.loads(there.stdout), here)


def test_rounds_and_epochs_may_change_but_where_the_result_depends_on_them() -> None:
    X = np.zeros((6, 2))
    require_same(run_of(X), run_of(X, mode=ps.Averaging(rounds=9)))
    pushes = [run_of(X, mode=ps.AsyncSGD(epochs=n)) for n in (1, 2)]
    require_same(*pushes)
    tails = [run_of(X, mode=ps.Averaging(rounds=n, tail=0.5)) for n in (4, 6)]
    with pytest.raises(ConfigError, match=r"mode\.rounds was 4 and is 6 now"):
        require_same(*tails)


@pytest.mark.parametrize("sparse", [False, True])
def test_other_rows_are_told(sparse: bool) -> None:
    make = csr_array if sparse else np.asarray
    X = np.eye(6, 2)
    moved = X.copy()
    moved[5, 1] = 1e-9
    with pytest.raises(ConfigError, match=r"data\.X was"):
        require_same(run_of(make(X)), run_of(make(moved)))
    with pytest.raises(ConfigError, match=r"data\.partitions was"):
        require_same(run_of(make(X)), run_of(make(X), order=1))


def test_all_that_differs_is_named_and_the_first_one_is_in_the_fields() -> None:
    recorded, given = {"a": {"x": 1, "y": [1]}, "b": 2}, {"a": {"x": 1, "y": [2]}, "c": 3}
    with pytest.raises(ConfigError) as caught:
        require_same(recorded, given)
    error = caught.value
    assert (error.field, error.recorded, error.value) == ("a.y", [1], [2])
    for words in ("a.y was [1] and is [2] now", "b was 2", "c was 'absent' and is 3 now"):
        assert words in str(error)


def test_nan_is_the_same_as_nan() -> None:
    require_same({"x": float("nan")}, {"x": float("nan")})


def test_another_machine_is_a_warning() -> None:
    here = json.loads(json.dumps(describe_machine()))
    warn_of_machine(here, describe_machine())  # no warning, which would be an error
    assert here["numpy"] == np.__version__
    with pytest.warns(MachineWarning, match="blas was 'mkl 1'"):
        warn_of_machine(here | {"blas": "mkl 1"}, here)
