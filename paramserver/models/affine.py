"""Models whose outputs are ``X @ coef + intercept``: the arithmetic that they share.

Rule 1: the weights are ``coef`` (features, outputs) and ``intercept`` (outputs,), in this order: so
        row j of ``w.reshape(-1, outputs)`` belongs to feature j, and the last row holds the
        intercepts.
Rule 2: over sparse rows nothing is made dense: a step touches the coefficients of features that
        occur, and the penalties of all others are settled later, exactly (`models.lazy`).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from paramserver.models.kernels import choice
from paramserver.models.lazy import lazy_steps, without_empty_columns
from paramserver.models.losses import Array
from paramserver.models.model import Model
from paramserver.models.outputs import scale
from paramserver.models.spectrum import largest_eigenvalue
from paramserver.training.learner import Batch, Matrix, RowPass
from paramserver.training.row_pass import PlainPass
from paramserver.training.vector import FloatVector, Layout

if TYPE_CHECKING:
    from paramserver.training.partitions import Epoch


@dataclass(frozen=True)
class Affine(Model):
    """A learner of ``X @ coef + intercept``."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Number of outputs: numbers in a row of the weights."""

    @cached_property
    def layout(self) -> Layout:
        """Where ``coef`` and ``intercept`` lie."""
        return Layout({"coef": (self.n_features, self.width), "intercept": (self.width,)})

    @cached_property
    def size(self) -> int:
        """Length of the flat weights."""
        return (self.n_features + 1) * self.width

    def start(self, rng: np.random.Generator) -> FloatVector:
        """Return zeros: the loss is convex."""
        return np.zeros(self.size, self.dtype)

    def outputs(self, w: FloatVector, X: Matrix) -> Array:
        """Return ``X @ coef + intercept``."""
        coef, intercept = self._parts(w)
        z: Array = X @ coef
        z += intercept
        return z

    def coefs(self, w: FloatVector) -> list[Array]:
        """Return a view of ``coef``."""
        return [self._parts(w)[0]]

    def smooth_gradient(self, w: FloatVector, batch: Batch, out: FloatVector) -> None:
        """Write ``X.T @ slope / n + l2 * coef``, and the sum of the slopes for the intercept."""
        X = batch.X
        coef_out, intercept_out = self._parts(out)
        slope = scale(self.output.slope(self.outputs(w, X), batch.y), batch.weight)
        if isinstance(X, np.ndarray):
            np.matmul(X.T, slope, out=coef_out)
        else:
            coef_out[...] = X.T @ slope
        slope.sum(axis=0, out=intercept_out)
        self.penalty.add_l2(self._parts(w)[0], coef_out)

    def curvature(self, data: Batch) -> float:
        """Return a bound on the largest eigenvalue of the Hessian."""
        return self.output.bound * largest_eigenvalue(data.X, data.weight) + self.penalty.l2

    # --- few rows of the weights ------------------------------------------------------------------

    def touched(self, batch: Batch) -> npt.NDArray[np.int64]:
        """Return the features that occur in a batch, and the row of the intercepts."""
        if isinstance(batch.X, np.ndarray):
            return np.arange(self.n_features + 1, dtype=np.int64)
        return np.append(np.unique(batch.X.indices), self.n_features).astype(np.int64, copy=False)

    def sparse_gradient(
        self, w_rows: Array, rows: npt.NDArray[np.int64], batch: Batch, out: Array
    ) -> None:
        """Write the touched rows of the gradient; penalties are those of these rows alone."""
        X = batch.X
        if not isinstance(X, np.ndarray):
            X = without_empty_columns(X, rows[:-1])
        coef, coef_out = w_rows[:-1], out[:-1]
        z: Array = X @ coef
        z += w_rows[-1]
        slope = scale(self.output.slope(z, batch.y), batch.weight)
        coef_out[...] = X.T @ slope
        slope.sum(axis=0, out=out[-1])
        self.penalty.add_l2(coef, coef_out)
        self.penalty.add_l1(coef, coef_out)

    def row_pass(self, epoch: Epoch) -> RowPass:
        """Return the way through the batches of a pass by the rows that they touch."""
        if self.pass_kernel_for(epoch.rows, epoch.batch_size) == "numba":
            way: RowPass = choice.load().CompiledPass(self, epoch)
            return way
        return PlainPass(self, epoch)

    def pass_kernel_for(self, rows: Batch, batch_size: int) -> str:
        """Say which kernel computes the touched rows of gradients: "numba" or "numpy"."""
        kind = type(self)
        is_own = kind.touched is Affine.touched and kind.sparse_gradient is Affine.sparse_gradient
        if isinstance(rows.X, np.ndarray) or not is_own:
            return "numpy"
        return choice.choose(
            self._settings[3], is_dense=False, n_steps=-(-rows.n // batch_size), work=0
        )

    def warm_up_pass(self, rows: Batch, batch_size: int) -> None:
        """Compile what `row_pass` will run, or load it from the disk; at most once."""
        if self.pass_kernel_for(rows, batch_size) == "numba":
            choice.load().warm_up_pass(self, rows.X)

    # --- steps ------------------------------------------------------------------------------------

    def kernel_for(self, rows: Batch, batch_size: int) -> str:
        """Say which kernel takes the steps of a pass over some rows: "numba" or "numpy"."""
        return choice.choose(
            self._settings[3],
            is_dense=isinstance(rows.X, np.ndarray),
            n_steps=-(-rows.n // batch_size),
            work=batch_size * self.n_features * self.width,
        )

    def warm_up(self, rows: Batch, batch_size: int) -> None:
        """Compile what will run over such rows, or load it from the disk; at most once."""
        if self.kernel_for(rows, batch_size) == "numba":
            choice.load().warm_up(self, rows.X)

    def local_steps(self, w: FloatVector, epoch: Epoch, batches: range, lr: float) -> None:
        """Take the steps of some batches of a pass, in place; proximal where there is L1."""
        X = epoch.rows.X
        if self.kernel_for(epoch.rows, epoch.batch_size) == "numba":
            choice.load().steps(self, w, epoch, batches, lr)
        elif isinstance(X, np.ndarray):
            self._plain_steps(w, epoch, batches, lr)
        else:
            lazy_steps(self, w, epoch, batches, lr)

    def _parts(self, w: FloatVector) -> tuple[Array, Array]:
        cut = self.n_features * self.width
        return w[:cut].reshape(self.n_features, self.width), w[cut:]
