"""How a gradient changes the weights. Arithmetic only: no clock, no chance, no I/O.

Rule 1: an optimizer is settings plus, after `start`, state; settings are never changed.
Rule 2: a step writes the new weights where it is told, which may be where the old ones are.
Rule 3: a step says whether the new weights are finite. One with state must be given a finite
        gradient, for its state is changed in place; `is_stateless` says which kind it is.
Rule 4: a step goes by blocks that stay in the cache, and allocates nothing. A step by a gradient
        of some rows costs nothing for the others, and changes nothing where it would not be finite.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite, sqrt
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from paramserver.errors import ConfigError, ShapeMismatch
from paramserver.training.vector import BLOCK, FloatVector, Workspace, blocks, require


@dataclass
class Optimizer(ABC):
    """One rule of changing weights.

    Parameters
    ----------
    lr : float
        Learning rate.
    """

    lr: float
    n_steps: int = field(default=0, init=False)
    """Steps since `start`."""
    _state: list[FloatVector] = field(default_factory=list, init=False, repr=False)
    _workspace: Workspace = field(init=False, repr=False, compare=False)
    _room: FloatVector = field(init=False, repr=False, compare=False)
    """For what a step computes of one block on its way, besides the workspace's."""

    N_STATES: ClassVar[int] = 0
    """Vectors of state."""
    IS_SPARSE: ClassVar[bool] = False
    """Whether it can step by a gradient of some rows: those whose gradient is zero stay."""

    def __post_init__(self) -> None:
        if not (self.lr > 0 and isfinite(self.lr)):
            raise ConfigError(
                f"The learning rate must be above 0 and finite, not {self.lr}.",
                field="lr",
                value=self.lr,
            )

    @property
    def is_stateless(self) -> bool:
        """Whether a step depends on nothing but its arguments."""
        return self.N_STATES == 0

    @property
    def state(self) -> list[FloatVector]:
        """The vectors that steps remember; for checkpoints."""
        return self._state

    def start(self, d: int, dtype: npt.DTypeLike) -> None:
        """Allocate what steps need, for vectors of this size; forget earlier steps."""
        self.n_steps = 0
        self._state = [np.zeros(d, dtype) for _ in range(self.N_STATES)]
        self._workspace = Workspace(d, dtype)
        self._room = np.empty(min(d, BLOCK) if self._state else 0, dtype)

    def restore(self, n_steps: int, state: Sequence[FloatVector]) -> None:
        """Go on from `n_steps` and `state` of an optimizer of the same kind; after `start`.

        Parameters
        ----------
        n_steps : int
        state : sequence of ndarray of shape (d,)
            Copied.

        Raises
        ------
        ShapeMismatch
            If the vectors are not as many, or not such, as this optimizer has; nothing is changed.
        """
        if len(state) != len(self._state):
            raise ShapeMismatch(
                f"{type(self).__name__} remembers {len(self._state)} vectors, not {len(state)}."
            )
        for own, recorded in zip(self._state, state, strict=True):
            require(recorded, own.size, own.dtype, f"The state of {type(self).__name__}")
        for own, recorded in zip(self._state, state, strict=True):
            np.copyto(own, recorded)
        self.n_steps = n_steps

    def step(
        self,
        w: FloatVector,
        g: FloatVector,
        out: FloatVector,
        *,
        lr_scale: float = 1.0,
        g_scale: float = 1.0,
    ) -> bool:
        """Write to `out` what `w` becomes by the gradient `g`.

        Parameters
        ----------
        w, g : ndarray of shape (d,)
            Weights, and the gradient of the mean loss. `g` is left alone.
        out : ndarray of shape (d,)
            Where the new weights go; may be `w`, must not be `g`.
        lr_scale, g_scale : float
            Factors on the learning rate and on the gradient of this step.

        Returns
        -------
        bool
            Whether all of `out` is finite.
        """
        self.n_steps += 1
        lr = self.lr * lr_scale
        workspace = self._workspace
        finite = True
        with np.errstate(all="ignore"):
            for block in blocks(w.size):
                target = out[block]
                change = workspace.room[: target.size]
                self._change(g[block], block, lr, g_scale, change)
                np.subtract(w[block], change, out=target)
                finite = workspace.is_finite(target) and finite
        return finite

    def require_sparse(self) -> None:
        """Refuse what only an optimizer can do that steps by some rows.

        Raises
        ------
        ConfigError
            If this one cannot: it moves weights whose gradient is zero.
        """
        if not self.IS_SPARSE:
            able = " and ".join(k.__name__ for k in OPTIMIZERS.values() if k.IS_SPARSE)
            raise ConfigError(
                f"{type(self).__name__} moves weights whose gradient is zero, so it cannot apply "
                f"sparse gradients: {able} can. Choose one of them, or push all weights "
                "(sparse=False).",
                field="optimizer",
                value=type(self).__name__.lower(),
            )

    def sparse_step(
        self,
        w: npt.NDArray[Any],
        rows: npt.NDArray[np.int64],
        values: npt.NDArray[Any],
        *,
        lr_scale: float = 1.0,
        g_scale: float = 1.0,
    ) -> bool:
        """Change some rows of the weights in place.

        Parameters
        ----------
        w : ndarray of shape (n_rows, width)
            Weights.
        rows : ndarray of shape (k,)
            No row twice.
        values : ndarray of shape (k, width)
            Gradient of these rows; that of the others is zero. Left alone.
        lr_scale, g_scale : float
            As for `step`.

        Returns
        -------
        bool
            Whether the new rows are finite; if not, nothing has changed.

        Raises
        ------
        ConfigError
            If the optimizer cannot; `w` is untouched.

        Notes
        -----
        The same numbers as `step` by the gradient made whole. O(k * width), and allocates as much.
        """
        self.require_sparse()
        with np.errstate(all="ignore"):
            new = w.take(rows, axis=0)
            state = self._sparse_change(new, rows, values, self.lr * lr_scale, g_scale)
            if not self._workspace.all_finite(new.reshape(-1)):
                return False
        self.n_steps += 1
        w[rows] = new
        if state is not None:
            self._state[0].reshape(w.shape)[rows] = state
        return True

    @abstractmethod
    def _change(
        self, g: FloatVector, block: slice, lr: float, g_scale: float, change: FloatVector
    ) -> None:
        """Write what is to be subtracted from one block of the weights to `change`."""

    def _sparse_change(
        self,
        new: npt.NDArray[Any],
        rows: npt.NDArray[np.int64],
        values: npt.NDArray[Any],
        lr: float,
        g_scale: float,
    ) -> npt.NDArray[Any] | None:
        """Change a copy of rows of the weights; return those rows of the state anew, if any."""
        raise NotImplementedError


@dataclass
class SGD(Optimizer):
    """Plain gradient descent: ``w - lr * g``. One pass, 2 d flops."""

    IS_SPARSE = True

    def _change(
        self, g: FloatVector, block: slice, lr: float, g_scale: float, change: FloatVector
    ) -> None:
        np.multiply(g, lr * g_scale, out=change)

    def _sparse_change(
        self,
        new: npt.NDArray[Any],
        rows: npt.NDArray[np.int64],
        values: npt.NDArray[Any],
        lr: float,
        g_scale: float,
    ) -> None:
        new -= values * (lr * g_scale)


@dataclass
class Momentum(Optimizer):
    """Heavy ball: ``v = momentum * v + g``, ``w - lr * v``.

    Parameters
    ----------
    momentum : float, default=0.9
    nesterov : bool, default=False
        Step by ``g + momentum * v`` instead of ``v``.

    References
    ----------
    .. [1] Sutskever, Martens, Dahl, Hinton (2013), "On the importance of initialization and
       momentum in deep learning"; in the form that PyTorch uses.
    """

    momentum: float = 0.9
    nesterov: bool = False

    N_STATES = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            raise ConfigError(
                f"momentum must be at least 0 and below 1, not {self.momentum}.",
                field="momentum",
                value=self.momentum,
            )

    def _change(
        self, g: FloatVector, block: slice, lr: float, g_scale: float, change: FloatVector
    ) -> None:
        v = self._state[0][block]
        np.multiply(g, g_scale, out=change)
        v *= self.momentum
        v += change
        if self.nesterov:
            change += np.multiply(v, self.momentum, out=self._room[: v.size])
            change *= lr
        else:
            np.multiply(v, lr, out=change)


@dataclass
class Adagrad(Optimizer):
    """Steps that shrink by coordinate: ``h += g**2``, ``w - lr * g / (sqrt(h) + eps)``.

    References
    ----------
    .. [1] Duchi, Hazan, Singer (2011), "Adaptive subgradient methods", Alg. 1 (diagonal).
    """

    eps: float = 1e-8

    N_STATES = 1
    IS_SPARSE = True

    def _change(
        self, g: FloatVector, block: slice, lr: float, g_scale: float, change: FloatVector
    ) -> None:
        h, room = self._state[0][block], self._room[: g.size]
        np.multiply(g, g_scale, out=change)
        h += np.multiply(change, change, out=room)
        np.sqrt(h, out=room)
        room += self.eps
        change *= lr
        change /= room

    def _sparse_change(
        self,
        new: npt.NDArray[Any],
        rows: npt.NDArray[np.int64],
        values: npt.NDArray[Any],
        lr: float,
        g_scale: float,
    ) -> npt.NDArray[Any]:
        change = values * g_scale
        h = self._state[0].reshape(-1, new.shape[1]).take(rows, axis=0)
        h += change * change
        change *= lr
        change /= np.sqrt(h) + self.eps
        new -= change
        return h


@dataclass
class Adam(Optimizer):
    """Adaptive moments with bias correction.

    References
    ----------
    .. [1] Kingma, Ba (2015), "Adam: a method for stochastic optimization", Alg. 1.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    N_STATES = 2

    def _change(
        self, g: FloatVector, block: slice, lr: float, g_scale: float, change: FloatVector
    ) -> None:
        m, v, room = self._state[0][block], self._state[1][block], self._room[: g.size]
        np.multiply(g, g_scale, out=change)
        m *= self.beta1
        m += np.multiply(change, 1 - self.beta1, out=room)
        v *= self.beta2
        np.multiply(change, change, out=room)
        room *= 1 - self.beta2
        v += room
        root = sqrt(1 - self.beta2**self.n_steps)
        np.multiply(m, lr * root / (1 - self.beta1**self.n_steps), out=change)
        np.sqrt(v, out=room)
        room += self.eps * root
        change /= room


def norm(g: FloatVector) -> float:
    """Return the Euclidean norm, summed by blocks in double precision. One pass."""
    return sqrt(sum(float(np.dot(g[block], g[block])) for block in blocks(g.size)))


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "momentum": Momentum,
    "adagrad": Adagrad,
    "adam": Adam,
}
"""By the name of the command line's option."""


def make_optimizer(name: str, lr: float) -> Optimizer:
    """Return an optimizer by its name, with its usual settings.

    Raises
    ------
    ConfigError
        If there is no such optimizer; the error lists those there are.
    """
    if name == "nesterov":
        return Momentum(lr, nesterov=True)
    kind = OPTIMIZERS.get(name)
    if kind is None:
        known = ", ".join(sorted([*OPTIMIZERS, "nesterov"]))
        raise ConfigError(
            f"There is no optimizer '{name}'. There are: {known}.", field="optimizer", value=name
        )
    return kind(lr)
