"""The largest eigenvalue of a matrix of second moments: what learning rates are chosen by."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from paramserver.errors import DataError
from paramserver.models.losses import Array
from paramserver.training.learner import Matrix

SMALL: Final = 1_000
"""Up to so many rows or columns all eigenvalues are computed; beyond, Lanczos finds the one."""


def largest_eigenvalue(X: Matrix, weight: Array | None = None) -> float:
    """Return the largest eigenvalue of ``X1.T @ diag(weight) @ X1 / n``.

    X1 is X with a column of ones.

    Parameters
    ----------
    X : ndarray or csr_array of shape (n, n_features)
    weight : ndarray of shape (n,), optional
        Not negative.

    Raises
    ------
    DataError
        If the moments overflow.
    """
    n, d = X.shape
    root = np.ones(n) if weight is None else np.sqrt(weight.astype(np.float64))
    with np.errstate(over="ignore", invalid="ignore"):
        gram = _gram(X, root)
    if not np.isfinite(gram).all():
        raise DataError(
            f"Values of X as large as {abs(X).max():.3g} cannot be squared, so that no learning "
            "rate can be chosen by them. Scale the columns (StandardScaler or MinMaxScaler).",
            path="X",
        )
    if min(n, d + 1) <= SMALL:
        return float(np.linalg.eigvalsh(gram)[-1] / n)
    from scipy.sparse.linalg import eigsh

    start = np.ones(gram.shape[0])
    return float(eigsh(gram, k=1, v0=start, return_eigenvectors=False)[0] / n)


def _gram(X: Matrix, root: Array) -> Any:
    """Return ``A.T @ A`` or ``A @ A.T``, whichever is smaller, of ``A = root * X1``."""
    n, d = X.shape
    if isinstance(X, np.ndarray):
        A = np.hstack([X.astype(np.float64), np.ones((n, 1))]) * root[:, None]
        return A.T @ A if n >= d + 1 else A @ A.T
    A = X.astype(np.float64).multiply(root[:, None]).tocsr()
    if n < d + 1:
        return (A @ A.T).toarray() + np.outer(root, root)
    gram = np.empty((d + 1, d + 1))
    gram[:d, :d] = (A.T @ A).toarray()
    gram[d, :d] = gram[:d, d] = A.T @ root
    gram[d, d] = root @ root
    return gram
