"""What the workers of one training have to agree on, and how much may be otherwise.

Rule 1: all compute alike: the first worker says how (`Arithmetic`), another one is refused.
Rule 2: what a worker gives back may be anything; it is read without running code of its, and what
        is not as agreed is counted. A few times it is an accident, then the training ends.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from paramserver.errors import RemoteProtocolError, TrainingError
from paramserver.protocol import calls
from paramserver.protocol.arrays import unpack_plain
from paramserver.protocol.messages import Payload
from paramserver.training.arithmetic import Arithmetic

MAX_STRIKES: Final = 3
"""Results and calls of workers that may be other than agreed before the training ends."""


class Agreement:
    """Judges what workers say of themselves and give back.

    Parameters
    ----------
    counters : Counter of str
        Where "mismatched" is counted.
    trusted : bool
        Whether all workers are inside the local trust domain.

    Attributes
    ----------
    arithmetic : Arithmetic or None
        How all compute; None before the first worker has said so.
    """

    def __init__(self, counters: Counter[str], *, trusted: bool) -> None:
        self.arithmetic: Arithmetic | None = None
        self._counters = counters
        self._trusted = trusted

    def compare(self, told: Payload) -> None:
        """See that a worker computes as the others do.

        Raises
        ------
        ConfigError
            If it does not; it says what differs.
        RemoteProtocolError
            If it says nothing that can be read.
        """
        arithmetic = Arithmetic.from_plain(unpack_plain(told.data))
        if self.arithmetic is None:
            self.arithmetic = arithmetic
        self.arithmetic.require(arithmetic)

    def read(self, result: Payload) -> Any:
        """Return what a job has returned; None if it is nothing plain. Vectors are not copied."""
        if self._trusted:
            return calls.decode_value(result, trusted=True)
        try:
            return unpack_plain(result.data, result.buffers)
        except RemoteProtocolError:
            return None

    def strike(self, worker_id: str, what: str) -> None:
        """Count something that is not as agreed.

        Raises
        ------
        TrainingError
            When it is once too often.
        """
        self._counters["mismatched"] += 1
        if self._counters["mismatched"] >= MAX_STRIKES:
            raise TrainingError(
                f"Worker {worker_id} has {what}, and it is the {MAX_STRIKES}rd time in this "
                "training that something of a worker is not as agreed. Stop that worker, and look "
                "whether it has the same release of paramserver and of the learner."
            )
