"""The driver of iterative averaging: carries out what `averaging.Averaging` decides.

Rule 1: a round is p pure jobs of one phase, handed in on the I/O thread when the last one was
        folded.
Rule 2: the weights of a round lie in one of two vectors, and are not touched while it is open.
Rule 3: a near worker gives the name of a vector that the master can map, a far one the vector
        itself. What is not as agreed is not taken in: that partition is trained once more.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from paramserver.core.commands import AnnounceWorker, CallService
from paramserver.core.events import ServiceReplied
from paramserver.errors import RemoteProtocolError, ShapeMismatch, TransportError
from paramserver.protocol.messages import Payload
from paramserver.runtime.internals import Internals
from paramserver.training.aggregation import Aggregation, TailMean, divergence
from paramserver.training.averaging import Averaging, Command, Finish, Fold, StartRound
from paramserver.training.checkpoint_file import TrainingState
from paramserver.training.diverged import round_diverged
from paramserver.training.formats import ROUND, payload_of
from paramserver.training.front_desk import reply
from paramserver.training.measures import Measures
from paramserver.training.plan import TrainingPlan
from paramserver.training.run import TrainingRun
from paramserver.training.vector import FloatVector, require
from paramserver.training.work import train_round
from paramserver.transport.shm import SharedVector

NO_ROUND = -1
"""What the word that says which round is open holds when none is, and none will be."""


class AveragingRun(TrainingRun):
    """One training by averaging.

    Parameters
    ----------
    internals : Internals
    plan : TrainingPlan
    machine : Averaging
    w : ndarray
        The weights to start from.
    aggregation : Aggregation
    tail : TailMean
    in_step : bool, default=False
        Begin a round only when the weights before it have been looked at.
    """

    def __init__(
        self,
        internals: Internals,
        plan: TrainingPlan,
        machine: Averaging,
        w: FloatVector,
        aggregation: Aggregation,
        tail: TailMean,
        *,
        in_step: bool = False,
    ) -> None:
        super().__init__(internals, plan, pure=True, in_step=in_step)
        self.machine = machine
        self._aggregation = aggregation
        self._tail = tail
        learner = plan.learner
        self._folder = Path(plan.folder)
        self._weights = [
            SharedVector.create(self._folder / f"w{i}", learner.size, learner.dtype) for i in (0, 1)
        ]
        self._round = SharedVector.create(self._folder / "round", 1, np.int64)
        self._round.array[0] = machine.round
        self._held: list[Command] = []
        """What comes next, when somebody has looked at the weights."""
        self._results: dict[int, FloatVector] = {}
        """Result of each partition in the open round."""
        self._whose: dict[int, str] = {}
        """Worker that has computed it."""
        self._folded: tuple[Sequence[FloatVector], Sequence[float]] = ((), ())
        """Results and coefficients of the latest round, until the next one begins."""
        self._done_at: list[float] = []
        """When the results of the open round came."""
        self._n_folded = [0] * len(plan.n_batches)
        """How many results of each partition were averaged."""
        self._wait_s = self._apply_s = 0.0
        self._pushed_bytes = self._pulled_bytes = 0
        self._slots: dict[str, SharedVector] = {}
        self._dead: set[str] = set()
        """Workers that were lost since the round was opened."""
        np.copyto(self._weights[machine.round % 2].array, w)

    @property
    def unit(self) -> int:
        """Rounds so far."""
        return self.machine.round

    def _epochs_of(self, partition: int) -> float:
        seen = self._n_folded[partition] * self.plan.examples_a_round(partition)
        return seen / self.plan.rows.n_examples[partition]

    def refused(self) -> dict[str, int]:
        """Return what was not averaged, by reason."""
        return dict(self.machine.counters + self.counters)

    def _measures(self) -> Measures:
        return Measures(
            self.compute_s,
            self._wait_s,
            sum(worker.wire_s for worker in list(self.tally.workers.values())),
            self._apply_s,
            self._pushed_bytes,
            self._pulled_bytes,
            self._front.rows_bytes,
        )

    def _divergence(self) -> float | None:
        """Look at the latest round: when somebody asks, for it costs as much as the fold."""
        vectors, coefficients = self._folded
        return divergence(vectors, coefficients) if vectors else None

    def _restore(self, state: TrainingState) -> None:
        machine, arrays = self.machine, state.arrays
        machine.round = state.meta["round"]
        machine.counters.update(state.meta["counters"])
        p = len(self._n_folded)  # checkpoints of earlier releases have no such list
        self._n_folded = list(state.meta.get("n_folded", [machine.round] * p))
        self._round.array[0] = machine.round
        np.copyto(self._weights[machine.round % 2].array, arrays["w"])
        n_vectors = sum(name.startswith("outer.") for name in arrays)
        outer = [arrays[f"outer.{i}"] for i in range(n_vectors)]
        self._aggregation.restore(state.meta["outer_steps"], outer)
        if "tail" in arrays:
            self._tail.restore(state.meta["tail_rounds"], arrays["tail"])

    # --- on the I/O thread ------------------------------------------------------------------------

    def _vectors(self) -> dict[str, FloatVector]:
        vectors = {"w": self._weights[self.machine.round % 2].array}
        _, outer = self._aggregation.state()
        vectors |= {f"outer.{i}": vector for i, vector in enumerate(outer)}
        _, tail = self._tail.state()
        return vectors | ({"tail": tail} if tail.size else {})

    def _facts(self) -> dict[str, Any]:
        machine = self.machine
        return {
            "round": machine.round,
            "unit": machine.round,
            "outer_steps": self._aggregation.state()[0],
            "tail_rounds": self._tail.state()[0],
            "n_folded": list(self._n_folded),
            "counters": dict(machine.counters),
        }

    def _n_wanted(self) -> int:
        return self.machine.quorum

    def _begin(self) -> None:
        self._perform(self.machine.start())

    def _stop(self) -> None:
        self.machine.stop()
        if self._held:
            self._held = [Finish(self.machine.round)]

    def _go_on(self) -> None:
        held, self._held = self._held, []
        self._perform(held)

    def _give_up(self) -> None:
        self._round.array[0] = NO_ROUND

    def _job_done(self, what: tuple[int, int], payload: Payload, worker_id: str) -> None:
        number, partition = what
        match self._agreement.read(payload):
            case (result, float(compute_s)) if 0 <= compute_s < inf:
                fault = self._take_in(result, number, partition, worker_id)
            case _:
                fault, compute_s = "given back what is no result", 0.0
        if fault:
            self._agreement.strike(worker_id, fault)
            self._submit(train_round, number, (partition,))  # once more, by whomever
            return
        self.compute_s += compute_s
        self.tally.work(worker_id, compute_s)
        self._perform(self.machine.done(number, partition))

    def _take_in(self, result: Any, number: int, partition: int, worker_id: str) -> str:
        """Keep the result of the open round, and return ''; or say what is wrong with it."""
        if isinstance(result, str):
            if not result:  # the round was over before it was done
                is_open = number == self._round.array[0]
                return "given back nothing for a round that is open" if is_open else ""
            if result != f"result{partition}.{worker_id}":
                return f"called its result {result!r:.80}"
            if number != self.machine.round:  # late; it may have been buried with a former life
                return ""
            try:
                result = self._slot(result)
            except (OSError, TransportError) as error:
                return f"named a result that cannot be mapped ({error})"
        elif isinstance(result, np.ndarray):
            try:
                require(result, self.plan.learner.size, self.plan.learner.dtype, "a result")
            except ShapeMismatch as error:
                return f"given back other weights than asked for ({error})"
        else:
            return f"given back a {type(result).__name__}"
        if number == self.machine.round:
            self._results[partition] = result
            self._whose[partition] = worker_id
            self._pushed_bytes += result.nbytes
            self._done_at.append(perf_counter())
        return ""

    def _perform(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case StartRound(number, partitions):
                    self._round.array[0] = number
                    self._folded = ((), ())
                    self._pulled_bytes += len(partitions) * self._weights[0].array.nbytes
                    self._submit(train_round, number, partitions)
                case Fold():
                    self._fold(command)
                    self._results.clear()
                    self._done_at.clear()
                    if self._dead:
                        self._bury()
                    self._held = self.machine.folded()
                    if not self._lookout.in_step:
                        self._go_on()
                case Finish(rounds):
                    self._round.array[0] = rounds  # who is still at work may stop
                    w = self._tail.mean(self._weights[rounds % 2].array)
                    self._offer(w, rounds, is_last=True)

    def _fold(self, fold: Fold) -> None:
        began = perf_counter()
        self._wait_s += sum(began - at for at in self._done_at)
        slots = [self._results[partition] for partition in fold.partitions]
        old, new = (self._weights[number % 2].array for number in (fold.round, fold.round + 1))
        if not self._aggregation.fold(old, slots, fold.coefficients, new):
            bad = [
                partition
                for partition, slot in zip(fold.partitions, slots, strict=True)
                if not self._aggregation.is_finite(slot)
            ]
            raise round_diverged(fold.round, bad, [self._whose[k] for k in bad], old)
        self._tail.add(fold.round, new)
        self._folded = (slots, fold.coefficients)
        for partition in fold.partitions:
            self._n_folded[partition] += 1
            self.examples += self.plan.examples_a_round(partition)
        self._apply_s += perf_counter() - began
        self._offer(new, fold.round + 1)

    def _slot(self, name: str) -> FloatVector:
        slot = self._slots.get(name)
        if slot is None:
            learner = self.plan.learner
            slot = SharedVector.open(self._folder / name, learner.size, learner.dtype)
            self._slots[name] = slot
        return slot.array

    def _answer(self, command: CallService, now: float) -> Iterable[ServiceReplied]:
        """Tell far workers the weights of their round, and which round is open."""
        try:
            (number,) = ROUND.unpack(command.body.data)
        except struct.error as error:
            raise RemoteProtocolError("a worker asks for no round", peer="") from error
        open_round = int(self._round.array[0])
        is_open = number == open_round and not self._lookout.has_ended
        match command.method:
            case "pull":
                w = (self._weights[number % 2].array,) if is_open else ()
                body = payload_of(b"", *w)
            case "round":
                body = payload_of(ROUND.pack(open_round))
            case _:
                raise RemoteProtocolError(f"averaging has no method {command.method!r}", peer="")
        return (reply(command, now, body),)

    def _forget(self, incarnation: int) -> None:
        pass  # see `_bury`: a result that was taken in may lie in a slot of the dead

    def _worker_changed(self, change: AnnounceWorker) -> None:
        super()._worker_changed(change)
        if change.change in ("lost", "left"):
            self._dead.add(change.worker_id)

    def _bury(self) -> None:
        """Remove the slots of lost workers, between two rounds."""
        for name in [name for name in self._slots if name.partition(".")[2] in self._dead]:
            self._slots.pop(name).unlink()
        self._dead.clear()

    def _release(self) -> None:
        super()._release()
        self._results.clear()
        self._folded = ((), ())
        self._slots.clear()
        self._weights.clear()
