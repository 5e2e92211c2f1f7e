"""What has to be the same in all workers of one training, so that results have the same bits.

Rule 1: the first worker that asks for the plan decides for all workers of the run.
Rule 2: how many threads sums are split among is set: a worker that was started with another number
        computes for this training with the number of the others.
Rule 3: what cannot be set (the library, its kernels for this kind of processor) is said. Such a
        worker is of as much use; only the last bits depend on who computed what.
Rule 4: dtype and kernel are none of these: they are the learner's own, and travel with it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Any

from paramserver.errors import RemoteProtocolError
from paramserver.runtime.worker_spec import THREADS_VARIABLES
from paramserver.training.run_constants import describe_machine

MAX_WORDS = 200
"""Letters of one property that a worker may tell."""


@dataclass(frozen=True)
class Arithmetic:
    """How a worker computes.

    Parameters
    ----------
    blas_threads : int
        Threads of its numeric libraries; 0 where they cannot be counted, nor set.
    numpy, numba, blas : str
        Their releases.
    processor, simd : str
        Its kind, and which instructions of it numpy uses.
    blas_kernels : str
        What BLAS has chosen for this processor; '' where it does not tell.
    """

    blas_threads: int
    numpy: str
    numba: str
    blas: str
    processor: str
    simd: str
    blas_kernels: str

    def as_plain(self) -> dict[str, Any]:
        """Return them as plain data."""
        return asdict(self)

    @classmethod
    def from_plain(cls, told: Any) -> Arithmetic:
        """Undo `as_plain`.

        Raises
        ------
        RemoteProtocolError
            If it is something else.
        """
        if type(told) is dict and told.keys() == {f.name for f in fields(cls)}:
            threads, *words = (told[f.name] for f in fields(cls))
            are_words = all(type(word) is str and len(word) <= MAX_WORDS for word in words)
            if type(threads) is int and 0 <= threads < 1 << 20 and are_words:
                return cls(threads, *words)
        raise RemoteProtocolError("a worker has not said how it computes", peer="")

    def difference(self, other: Arithmetic) -> str:
        """Say in words what of another worker's arithmetic differs and cannot be set, or ''."""
        mine, theirs = self.as_plain(), other.as_plain()
        if self.blas_threads and other.blas_threads:
            del mine["blas_threads"]
        return "; ".join(
            f"{name} is {theirs[name] or 'unknown'} instead of {mine[name] or 'unknown'}"
            for name in mine
            if mine[name] != theirs[name]
        )


def arithmetic_here() -> Arithmetic:
    """Return how this process computes."""
    machine = describe_machine()
    libraries = _libraries()
    return Arithmetic(
        blas_threads=max((library["num_threads"] for library in libraries), default=0),
        numpy=machine["numpy"],
        numba=machine["numba"],
        blas=machine["blas"],
        processor=machine["processor"],
        simd=" ".join(machine["simd"]),
        blas_kernels=libraries[0].get("architecture") or "" if libraries else "",
    )


def use_threads(n: int) -> None:
    """Let the numeric libraries of this process use so many threads, those to be loaded, too."""
    if all(os.environ.get(name) == str(n) for name in THREADS_VARIABLES):
        return  # it was started so, or this was called before
    from threadpoolctl import threadpool_limits

    os.environ |= dict.fromkeys(THREADS_VARIABLES, str(n))
    threadpool_limits(n)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let the numeric libraries of this process use one thread within the block.

    So do workers by default (`runtime.worker_spec`), and sums that are split among another number
    of threads are rounded otherwise. It costs a millisecond.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def _libraries() -> list[dict[str, Any]]:
    """Return what is known of the BLAS libraries in this process, numpy's own first."""
    from threadpoolctl import threadpool_info

    found: list[dict[str, Any]] = [x for x in threadpool_info() if x["user_api"] == "blas"]
    return sorted(found, key=lambda library: "numpy" not in library["filepath"])
