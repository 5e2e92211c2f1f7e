"""Which rows make a partition: labels or keys in, numbers of rows out.

Rule 1: every row is in one partition, and no partition is empty.
Rule 2: the same arguments give the same partitions, on any machine.
"""

from __future__ import annotations

from heapq import heapify, heapreplace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paramserver.errors import ConfigError, ShapeMismatch

SCHEMES: Final = ("shuffled", "contiguous", "stratified")


def cut(
    y: npt.NDArray[Any], p: int, scheme: str | npt.ArrayLike, seed: int
) -> list[npt.NDArray[np.intp]]:
    """Cut the rows of a data set into partitions.

    Parameters
    ----------
    y : ndarray of shape (n,) or (n, k)
        Labels, or numbers to predict.
    p : int
        How many partitions.
    scheme : {"shuffled", "contiguous", "stratified"} or array-like of shape (n,)
        ``"shuffled"`` deals the rows out by chance, ``"contiguous"`` takes them as they come;
        sizes differ by one at most. ``"stratified"`` deals out the rows of each label for itself:
        the partitions' numbers of rows differ by one at most, as a whole and for each label.
        An array gives each row a key (a user, a site): all rows of a key come to one partition,
        keys with many rows first, each to the partition that has the fewest rows so far.
    seed : int
        Of what is left to chance.

    Returns
    -------
    parts : list of p ndarray of int
        The rows of each partition.

    Raises
    ------
    ConfigError
        If there are fewer rows (or keys) than partitions, or there is no such scheme.
    ShapeMismatch
        If there is not one key for each row.
    """
    n = len(y)
    if n < p:
        raise ConfigError(
            f"{n} examples cannot be cut into {p} partitions: use fewer partitions or workers.",
            field="n_partitions",
            value=p,
        )
    if not isinstance(scheme, str):
        return _by_key(np.asarray(scheme), n, p)
    match scheme:
        case "shuffled":
            return list(np.array_split(np.random.default_rng(seed).permutation(n), p))
        case "contiguous":
            return np.split(np.arange(n), np.cumsum(sizes_in_a_row(n, p))[:-1])
        case "stratified":
            return _stratified(y, p, seed)
    raise ConfigError(
        f"There is no partitioning '{scheme}'. There are: {', '.join(SCHEMES)}, and an array with "
        "a key for each row.",
        field="partition",
        value=scheme,
    )


def _stratified(y: npt.NDArray[Any], p: int, seed: int) -> list[npt.NDArray[np.intp]]:
    if y.ndim != 1:
        raise ConfigError(
            f"partition='stratified' needs one label a row; y has the shape {y.shape}.",
            field="partition",
            value="stratified",
        )
    order = np.random.default_rng(seed).permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    # Rows of a label stand in a row now: every p-th gives each partition its share of any label.
    return [np.sort(order[k::p]) for k in range(p)]


def _by_key(keys: npt.NDArray[Any], n: int, p: int) -> list[npt.NDArray[np.intp]]:
    """Put all rows of a key into one partition."""
    if keys.shape != (n,):
        raise ShapeMismatch(
            f"partition must have one key for each of the {n} rows; its shape is {keys.shape}."
        )
    _, group, counts = np.unique(keys, return_inverse=True, return_counts=True)
    partition = homes_of(counts, p)[group.reshape(-1)]
    order = np.argsort(partition, kind="stable")
    return np.split(order, np.cumsum(np.bincount(partition, minlength=p))[:-1])


def homes_of(counts: npt.NDArray[np.int64], p: int) -> npt.NDArray[np.int64]:
    """Return the partition of each key: keys with many rows first, each to where there is least.

    Parameters
    ----------
    counts : ndarray of shape (n_keys,)
        Rows of each key, in the order of the keys.
    p : int

    Raises
    ------
    ConfigError
        If there are fewer keys than partitions.

    References
    ----------
    .. [1] Graham (1969), "Bounds on multiprocessing timing anomalies": the largest partition has
           at most 4/3 of the rows that it has when they are cut as well as can be.
    """
    if len(counts) < p:
        raise ConfigError(
            f"The rows have {len(counts)} different keys, which cannot be cut into {p} partitions: "
            "give a smaller n_partitions.",
            field="n_partitions",
            value=p,
        )
    load = [(0, k) for k in range(p)]
    heapify(load)
    home = np.empty(len(counts), np.int64)
    for key in np.argsort(-counts, kind="stable"):
        n_rows, k = load[0]
        home[key] = k
        heapreplace(load, (n_rows + int(counts[key]), k))
    return home


def sizes_in_a_row(n: int, p: int) -> list[int]:
    """Return the sizes of p partitions of n rows: the first ones have one more, if need be."""
    return [n // p + (k < n % p) for k in range(p)]
