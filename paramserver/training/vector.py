"""Weights as one flat vector, and how the parts of a model lie in it. Arithmetic only.

Rule 1: a model's weights are ONE contiguous vector of float32 or float64; parts are views of it.
Rule 2: loops over a vector go by blocks that stay in the cache, so a step costs one pass of memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from paramserver.errors import ShapeMismatch

FloatVector: TypeAlias = npt.NDArray[Any]
"""A flat, C-contiguous array of float32 or float64."""

BLOCK = 32_768
"""Elements handled at a time: 128 KiB of float32, measured best between 4,096 and 131,072 (below,
calls of numpy show; above, the second operation of a block reads from memory again)."""


@dataclass(frozen=True)
class Layout:
    """Where the named parts of a model lie in its flat vector.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        In the order in which they lie there.

    Examples
    --------
    >>> import numpy as np
    >>> layout = Layout({"coef": (2, 3), "intercept": (3,)})
    >>> layout.size
    9
    >>> layout.views(np.arange(9.0))["intercept"]
    array([6., 7., 8.])
    """

    shapes: Mapping[str, tuple[int, ...]]

    @property
    def size(self) -> int:
        """Length of the flat vector."""
        return sum(prod(shape) for shape in self.shapes.values())

    def views(self, w: FloatVector) -> dict[str, npt.NDArray[Any]]:
        """Return the parts of `w` by name, as views: what is written to them is written to `w`."""
        parts: dict[str, npt.NDArray[Any]] = {}
        start = 0
        for name, shape in self.shapes.items():
            end = start + prod(shape)
            parts[name] = w[start:end].reshape(shape)
            start = end
        return parts


def blocks(d: int) -> Iterator[slice]:
    """Cut ``range(d)`` into pieces of `BLOCK`."""
    for start in range(0, d, BLOCK):
        yield slice(start, min(start + BLOCK, d))


class Workspace:
    """Scratch memory for passes over a vector of one dtype, so that a step allocates nothing."""

    __slots__ = ("_zeros", "room")

    def __init__(self, d: int, dtype: npt.DTypeLike) -> None:
        self.room: FloatVector = np.empty(min(d, BLOCK), dtype)
        self._zeros: FloatVector = np.zeros(min(d, BLOCK), dtype)

    def is_finite(self, block: FloatVector) -> bool:
        """Say whether a block of at most `BLOCK` elements has neither NaN nor infinity.

        Notes
        -----
        ``x . 0`` is 0 for finite x and NaN otherwise (infinity times 0 is NaN), and a dot product
        is ten times faster than `isfinite(...).all()`. One read of the block. Callers silence
        the warning (`numpy.errstate`), once for all blocks.
        """
        return bool(np.dot(block, self._zeros[: block.size]) == 0.0)

    def all_finite(self, x: FloatVector) -> bool:
        """Say whether a whole vector has neither NaN nor infinity. One pass."""
        with np.errstate(all="ignore"):
            return all(self.is_finite(x[block]) for block in blocks(x.size))


def combine(
    vectors: Sequence[FloatVector],
    coefficients: Sequence[float],
    out: FloatVector,
    workspace: Workspace,
) -> bool:
    """Write the sum of ``coefficient * vector`` to `out`, in the order given.

    Parameters
    ----------
    vectors : sequence of ndarray of shape (d,)
    coefficients : sequence of float
    out : ndarray of shape (d,)
        None of the vectors.
    workspace : Workspace

    Returns
    -------
    bool
        Whether every element of `out` is finite.

    Notes
    -----
    The sum starts from the first term, so a single vector with coefficient 1 is copied bit for bit
    (``0.0 + -0.0`` would not be). The result depends on the order of the vectors and on nothing
    else. One pass: each vector is read once.
    """
    finite = True
    with np.errstate(all="ignore"):
        for block in blocks(out.size):
            target = out[block]
            room = workspace.room[: target.size]
            np.multiply(vectors[0][block], coefficients[0], out=target)
            for vector, coefficient in zip(vectors[1:], coefficients[1:], strict=True):
                np.multiply(vector[block], coefficient, out=room)
                np.add(target, room, out=target)
            finite = workspace.is_finite(target) and finite
    return finite


def require(x: npt.NDArray[Any], d: int, dtype: npt.DTypeLike, what: str) -> None:
    """Refuse an array that is not a vector as agreed.

    Raises
    ------
    ShapeMismatch
    """
    if x.shape != (d,) or x.dtype != np.dtype(dtype) or not x.flags.c_contiguous:
        raise ShapeMismatch(
            f"{what} must be a contiguous vector of shape ({d},) and dtype {np.dtype(dtype)}, "
            f"not {x.dtype} of shape {x.shape}."
        )


def fingerprint(w: FloatVector) -> str:
    """Return the SHA-256 of the bytes of a vector: equal bits, equal fingerprint."""
    return hashlib.sha256(np.ascontiguousarray(w).data).hexdigest()
