"""Which kernel runs: settled by the master, the same for all workers, or an error in words."""

from __future__ import annotations

import ast
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from paramserver.errors import ConfigError
from paramserver.estimators.learners import ThroughOrigin
from paramserver.models.kernels import choice
from paramserver.models.linear import Linear
from paramserver.models.mlp import MLP
from paramserver.models.softmax import Softmax
from paramserver.training.learner import Batch
from paramserver.training.partitions import Epoch


def rows(n: int, d: int, *, sparse: bool) -> Batch:
    X = csr_array((n, d), dtype="float32") if sparse else np.zeros((n, d), "float32")
    return Batch(X, np.zeros(n, np.int64))


@pytest.mark.parametrize(
    ("learner", "data", "batch_size", "expected"),
    [
        (Softmax(784, 10), rows(60_000, 784, sparse=False), 64, "numpy"),  # BLAS
        (Softmax(784, 10), rows(60_000, 784, sparse=False), 1, "numba"),
        (Softmax(64, 10), rows(1_437, 64, sparse=False), 32, "numpy"),  # not worth the import
        (Linear(99, 1, "hinge"), rows(2_000, 99, sparse=True), 1, "numba"),
        (Linear(99, 1, "hinge"), rows(2_000, 99, sparse=True), 32, "numpy"),
        (Linear(99, 1, "hinge", kernel="numpy"), rows(2_000, 99, sparse=True), 1, "numpy"),
        (Linear(99, 1, "hinge", kernel="numba"), rows(9, 99, sparse=True), 32, "numba"),
        (MLP(64, 10), rows(60_000, 64, sparse=False), 1, "numpy"),
    ],
)
def test_numba_runs_where_it_pays(
    learner: Any, data: Batch, batch_size: int, expected: str
) -> None:
    assert learner.kernel_for(data, batch_size) == expected


@pytest.mark.parametrize(
    ("learner", "data", "batch_size", "expected"),
    [
        (Linear(99, 1, "hinge"), rows(2_000, 99, sparse=True), 1, "numba"),
        (Linear(99, 1, "hinge"), rows(100, 99, sparse=True), 32, "numpy"),  # not worth the import
        (Linear(99, 1, "hinge", kernel="numpy"), rows(2_000, 99, sparse=True), 1, "numpy"),
        (Softmax(99, 3, kernel="numba"), rows(9, 99, sparse=True), 32, "numba"),
        (Softmax(99, 3, kernel="numba"), rows(9, 99, sparse=False), 32, "numpy"),
        (ThroughOrigin(99, 1, "hinge", kernel="numba"), rows(9, 99, sparse=True), 1, "numpy"),
    ],
)
def test_gradients_of_some_rows_are_compiled_where_it_pays(
    learner: Any, data: Batch, batch_size: int, expected: str
) -> None:
    assert learner.pass_kernel_for(data, batch_size) == expected
    partition = data._replace(X=data.X[:, :99])
    passing = learner.row_pass(Epoch(partition, batch_size, 0, 0, 0))
    assert type(passing).__name__ == {"numba": "CompiledPass", "numpy": "PlainPass"}[expected]


@pytest.mark.parametrize(
    "learner",
    [
        Linear(9, 1, "hinge", kernel="numba"),
        Linear(9, kernel="numba"),
        Softmax(9, 3, dtype_name="float64", kernel="numba"),
    ],
)
def test_a_pass_compiles_nothing_after_it_was_warmed_up(learner: Any) -> None:
    from paramserver.models.kernels import rows as compiled

    data = rows(8, 9, sparse=True)
    data = data._replace(X=csr_array(np.eye(8, 9), dtype=learner.dtype))
    learner.warm_up_pass(data, 4)
    before = len(compiled.touched.signatures), len(compiled.gradient.signatures)
    passing = learner.row_pass(Epoch(data, 4, 0, 0, 0))
    for number in (0, 1):
        touched = passing.touched(number)
        w = np.ones((touched.size, learner.width), learner.dtype)
        passing.gradient(number, w, touched, np.empty_like(w))
    assert (len(compiled.touched.signatures), len(compiled.gradient.signatures)) == before


def test_without_numba_the_master_settles_for_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    learner = Linear(3)
    assert learner.kernel == "numpy"
    assert pickle.loads(pickle.dumps(learner)).kernel == "numpy"
    with pytest.raises(ConfigError, match="pip install 'paramserver\\[fast\\]'"):
        Linear(3, kernel="numba")


def test_a_worker_without_numba_says_so_and_does_not_compute_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = rows(2_000, 9, sparse=True)
    travelled = pickle.loads(pickle.dumps(Linear(9, 1, "hinge")))
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="numba is not installed here"):
        travelled.warm_up(data, 1)


def test_a_kernel_is_compiled_once_and_kept_on_disk(tmp_path: Path) -> None:
    """In a folder of the user's, where the package itself cannot be written to."""
    program = """
import sys, numpy as np
from paramserver.models.linear import Linear
from paramserver.training.learner import Batch
from paramserver.training.partitions import Epoch
rows = Batch(np.ones((4, 2)), np.arange(4) % 2)
learner = Linear(2, 1, "hinge", dtype_name="float64", kernel="numba")
learner.warm_up(rows, 1)
from paramserver.models.kernels.dense import steps
before = len(steps.signatures)
learner.local_epoch(np.zeros(3), Epoch(rows, 1, 0, 0, 0), 0.1)
assert before == len(steps.signatures) == 1, steps.signatures
print(sum(steps.stats.cache_hits.values()), sum(steps.stats.cache_misses.values()))
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    counts = [
        subprocess.run(
            [sys.executable, "-c", program], check=True, capture_output=True, env=environment
        ).stdout.split()
        for _ in range(2)
    ]
    assert counts == [[b"0", b"1"], [b"1", b"0"]]
    assert list(tmp_path.rglob("*.nbi"))


def test_where_nothing_can_be_kept_it_is_compiled_anyway_and_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from paramserver.models.kernels import jit

    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    jit.cache_folder.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="set NUMBA_CACHE_DIR"):
            double = jit.compiled(lambda x: 2 * x)
    finally:
        jit.cache_folder.cache_clear()
    assert double(2) == 4


def test_what_is_kept_depends_on_every_source_that_kernels_use() -> None:
    """A stale kernel would compute wrongly, and numba does not look beyond one file."""
    from paramserver.models.kernels import jit

    used = {path.name for path in jit.HERE.glob("*.py")}
    for path in jit.HERE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "paramserver.models."
            ):
                assert node.module is not None
                used.add(node.module.rpartition(".")[2] + ".py")
    compiled_only = used - {"affine.py", "kernels.py"}  # seen by the type checker alone
    assert {path.name for path in jit.SOURCES} == compiled_only
