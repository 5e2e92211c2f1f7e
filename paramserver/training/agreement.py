"""What the workers of one training have to agree on, and what becomes of who does not keep to it.

Rule 1: the first worker says how all compute (`Arithmetic`): what can be set is set, the rest said.
Rule 2: what a worker gives back may be anything; it is read without running code of its, and what
        is not as agreed is counted.
Rule 3: who is accused (`trust`) is expelled: its process is ended, its machine put in quarantine,
        and the training goes on with others. Only where there are none it ends, with its state
        whole.

Everything happens on the master's I/O thread, but for `take_differences`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from paramserver.core.events import WorkerAccused
from paramserver.core.roster import Worker
from paramserver.errors import RemoteProtocolError, TrainingError
from paramserver.protocol import calls
from paramserver.protocol.arrays import unpack_plain
from paramserver.protocol.messages import Payload
from paramserver.runtime.master import Master
from paramserver.training.arithmetic import Arithmetic
from paramserver.training.trust import Trust

LOGGER: Final = logging.getLogger("paramserver")
MAX_EXPELLED: Final = 3
"""Workers of one machine that may be expelled while there is no other one: then training ends."""


class Agreement:
    """Judges what workers say of themselves and give back.

    Parameters
    ----------
    counters : Counter of str
        Where "mismatched" is counted.
    master : Master
    fail : callable
        Ends the training with an error.
    trusted : bool
        Whether all workers are inside the local trust domain.

    Attributes
    ----------
    arithmetic : Arithmetic or None
        How all compute; None before the first worker has said so.
    trust : Trust
    """

    def __init__(
        self,
        counters: Counter[str],
        master: Master,
        fail: Callable[[BaseException], None],
        *,
        trusted: bool,
    ) -> None:
        self.arithmetic: Arithmetic | None = None
        self.trust = Trust()
        self._counters = counters
        self._master = master
        self._fail = fail
        self._trusted = trusted
        self._differences: dict[str, str] = {}
        """What of which worker's arithmetic differs; '' for a worker where that was said."""
        self._n_expelled = 0
        """Workers that nobody of another machine could stand in for."""

    # --- what workers say -------------------------------------------------------------------------

    def compare(self, told: Payload, worker_id: str) -> Payload:
        """Take in how a worker computes; return how many threads it is to compute with.

        Raises
        ------
        RemoteProtocolError
            If it says nothing that can be read.
        """
        arithmetic = Arithmetic.from_plain(unpack_plain(told.data))
        if self.arithmetic is None:
            self.arithmetic = arithmetic
        if difference := self.arithmetic.difference(arithmetic):
            self._differences.setdefault(difference, worker_id)
        return calls.encode_value(self.arithmetic.blas_threads, trusted=False)

    def take_differences(self) -> dict[str, str]:
        """Return what of some workers' arithmetic differs, with one that does; each once."""
        found = {
            what: worker_id for what, worker_id in list(self._differences.items()) if worker_id
        }
        self._differences |= dict.fromkeys(found, "")
        return found

    def read(self, result: Payload) -> Any:
        """Return what a job has returned; None if it is nothing plain. Vectors are not copied."""
        if self._trusted:
            return calls.decode_value(result, trusted=True)
        try:
            return unpack_plain(result.data, result.buffers)
        except RemoteProtocolError:
            return None

    # --- who does not keep to it ------------------------------------------------------------------

    def strike(self, worker_id: str, what: str) -> None:
        """Count a result that is not as agreed."""
        self._counters["mismatched"] += 1
        worker = self.workers().get(worker_id)
        if worker is not None and self.trust.strike(worker.incarnation):
            self.accuse(worker.incarnation, what)

    def strike_caller(self, incarnation: int) -> None:
        """Count a call that makes no sense."""
        self._counters["mismatched"] += 1
        if self.trust.strike(incarnation):
            self.accuse(incarnation, "asked for what cannot be")

    def accuse(self, incarnation: int, what: str) -> None:
        """Expel a worker for the last of its strikes."""
        self.expel(incarnation, f"{what}, and was not as agreed {self.trust.max_strikes} times")

    def expel(self, incarnation: int, what: str) -> None:
        """Have a worker ended and its machine put in quarantine, or end the training in words."""
        workers = self.workers()
        accused = next((w for w in workers.values() if w.incarnation == incarnation), None)
        if accused is None:  # its life has ended meanwhile
            return
        name = accused.worker_id
        reason = f"it has {what}"
        if all(worker.agent is accused.agent for worker in workers.values()):
            self._n_expelled += 1
            if len(workers) == 1 or self._n_expelled >= MAX_EXPELLED:
                self._fail(
                    TrainingError(
                        f"Worker {name} is not to be trusted: {reason}; and there is no other "
                        "machine to go on with. Look whether it has the same release of "
                        "paramserver and of the learner, and whether its memory is sound."
                    )
                )
                return
        LOGGER.warning("Worker %s is expelled, and its machine in quarantine: %s.", name, reason)
        self._master.post(WorkerAccused(self._master.clock(), incarnation, reason))

    def workers(self) -> dict[str, Worker]:
        """Return the living workers by name."""
        return self._master.ask(lambda machine: machine.roster.workers)
