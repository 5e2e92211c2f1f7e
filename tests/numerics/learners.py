"""Learners whose right answer is known beforehand. Importable by workers."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from paramserver.training.learner import Batch
from paramserver.training.vector import FloatVector


@dataclass(frozen=True)
class Ledger:
    """Marks which rows were applied: with learning rate 1 each row adds 1 to its own weight.

    The rows hold their own number. After each row was applied once, all weights are exactly 1; 0
    is a lost batch, 2 a doubled one.
    """

    n_rows: int
    pause_s: float = 0.0
    dtype_name: str = "float64"

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.dtype_name)

    @property
    def size(self) -> int:
        return self.n_rows

    def start(self, rng: np.random.Generator) -> FloatVector:
        return np.zeros(self.n_rows, self.dtype)

    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        if self.pause_s:
            time.sleep(self.pause_s)  # work that takes its time
        out[:] = 0
        out[batch.y] = -1

    def loss(self, w: FloatVector, data: Batch) -> float:
        return float(np.abs(w - 1).max())

    def score(self, w: FloatVector, data: Batch) -> float:
        return float((w == 1).mean())


@dataclass(frozen=True)
class LeastSquares:
    """``0.5 * mean((X w - y)^2)`` in float64, as slow as wanted."""

    n_features: int
    pause_s: float = 0.0

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float64)

    @property
    def size(self) -> int:
        return self.n_features

    def start(self, rng: np.random.Generator) -> FloatVector:
        return rng.standard_normal(self.n_features)

    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        if self.pause_s:
            time.sleep(self.pause_s)
        residual = batch.X @ w - batch.y
        out[:] = batch.X.T @ residual / batch.n

    def loss(self, w: FloatVector, data: Batch) -> float:
        return 0.5 * float(np.mean((data.X @ w - data.y) ** 2))

    def score(self, w: FloatVector, data: Batch) -> float:
        return -self.loss(w, data)

    def curvature(self, data: Batch) -> float:
        return float(np.linalg.eigvalsh(data.X.T @ data.X / data.n)[-1])


@dataclass(frozen=True)
class OneThreaded(LeastSquares):
    """Computes only where the numeric libraries use one thread."""

    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        from threadpoolctl import threadpool_info

        found = {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}
        assert found == {1}, found
        LeastSquares.gradient(self, w, batch, out)


@dataclass(frozen=True)
class Poisoned(Ledger):
    """Goes wrong at one row."""

    bad_row: int = 0
    bad_value: float = float("nan")

    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        super().gradient(w, batch, out)
        if self.bad_row in batch.y:
            out[0] = self.bad_value


@dataclass(frozen=True)
class Lame(Ledger):
    """Takes its time over one row, and none over the others."""

    slow_row: int = 0
    slow_s: float = 1.0

    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        super().gradient(w, batch, out)
        if self.slow_row in batch.y:
            time.sleep(self.slow_s)


@dataclass(frozen=True)
class Choking(Ledger):
    """Cannot digest one row."""

    bad_row: int = 0

    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        if self.bad_row in batch.y:
            raise ValueError(f"row {self.bad_row} cannot be digested")
        super().gradient(w, batch, out)


@dataclass(frozen=True)
class RowLedger(Ledger):
    """The same by gradients of some rows: row k of sparse data has one entry, in column k."""

    @property
    def width(self) -> int:
        return 1

    def touched(self, batch: Batch) -> np.ndarray:
        return np.sort(batch.y).astype(np.int64)

    def sparse_gradient(
        self, w_rows: np.ndarray, rows: np.ndarray, batch: Batch, out: np.ndarray
    ) -> None:
        if self.pause_s:
            time.sleep(self.pause_s)
        assert w_rows.shape == out.shape == (rows.size, 1)
        out[:] = -1


@dataclass(frozen=True)
class Crooked(Ledger):
    """Computes NaN in the first process that computes anything, as with broken memory."""

    folder: str = ""

    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        Ledger.gradient(self, w, batch, out)
        mark, here = f"{self.folder}/crooked", str(os.getpid())
        with suppress(FileExistsError):
            os.symlink(here, mark)  # in one step, for others may look
        if os.readlink(mark) == here:
            out[0] = np.nan


@dataclass(frozen=True)
class Bulky:
    """Has many weights, and sees whether its rows are what they were: their sum is known."""

    size: int
    checksum: float

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def start(self, rng: np.random.Generator) -> FloatVector:
        return np.zeros(self.size, self.dtype)

    def gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        found = float(batch.X.sum(dtype=np.float64))
        if found != self.checksum:
            raise ValueError(f"rows sum up to {found}, not to {self.checksum}")
        out[:] = -1

    def loss(self, w: FloatVector, data: Batch) -> float:
        return 0.0

    def score(self, w: FloatVector, data: Batch) -> float:
        return 0.0


def numbered_rows(n: int, p: int) -> list[Batch]:
    """Rows for `Ledger`, in p partitions."""
    numbers = np.arange(n)
    return [Batch(part[:, None].astype(np.float64), part) for part in np.array_split(numbers, p)]
