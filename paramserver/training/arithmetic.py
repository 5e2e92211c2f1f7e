"""What has to be the same in all workers of one training, so that results have the same bits.

Rule 1: the first worker that asks for the plan decides for all workers of the run; one that would
        compute otherwise is refused, in words that say how to start it.
Rule 2: dtype and kernel are none of these: they are the learner's own, and travel with it.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from paramserver.errors import ConfigError, RemoteProtocolError
from paramserver.runtime.worker_spec import THREADS_VARIABLES


@dataclass(frozen=True)
class Arithmetic:
    """How a worker computes.

    Parameters
    ----------
    blas_threads : str
        Threads of its numeric libraries, as it was started; "" for as many as they like.
    """

    blas_threads: str

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
        match told:
            case {"blas_threads": str(blas_threads)} if len(told) == 1 and len(blas_threads) < 20:
                return cls(blas_threads)
        raise RemoteProtocolError("a worker has not said how it computes", peer="")

    def require(self, other: Arithmetic) -> None:
        """Refuse a worker that computes otherwise.

        Raises
        ------
        ConfigError
        """
        if other != self:
            wanted = self.blas_threads or "the default number of"
            raise ConfigError(
                f"This worker computes with {other.blas_threads or 'the default number of'} BLAS "
                f"threads, the others of this training with {wanted}: sums would be rounded in "
                "another order, and the result depend on who computed it. Start all workers with "
                "the same --blas-threads N.",
                field="blas_threads",
                value=other.blas_threads,
            )


def arithmetic_here() -> Arithmetic:
    """Return how this process computes."""
    return Arithmetic(os.environ.get(THREADS_VARIABLES[0], ""))
