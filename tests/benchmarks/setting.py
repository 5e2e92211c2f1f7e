"""Where trainings take place: the images of rows 10 and 11, our clusters, threads."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any

N_QUICK = 2_000
"""Rows in a quick run."""


def fashion(quick: bool) -> Any:
    """Return Fashion-MNIST as float32 arrays in memory, or some of it."""
    from paramserver.data.datasets import load

    data = load("fashion-mnist")
    return some_rows(data) if quick else data


def some_rows(data: Any) -> Any:
    """Return a data set with the first rows of the given one: enough to see that it works."""
    return replace(
        data,
        X_train=data.X_train[:N_QUICK],
        y_train=data.y_train[:N_QUICK],
        X_test=data.X_test[:N_QUICK],
        y_test=data.y_test[:N_QUICK],
    )


def one_thread() -> AbstractContextManager[Any]:
    """Keep BLAS of this process to one thread: where workers compute, it must not compete."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)


def our_clusters() -> dict[str, Callable[[], Any]]:
    """Return what starts each of ours, by the contender's name."""
    import paramserver as ps

    return {
        "paramserver": partial(ps.LocalCluster, 2),
        "paramserver, one worker": partial(ps.LocalCluster, 1),
    }
