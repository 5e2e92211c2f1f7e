"""The driver of iterative averaging: carries out what `averaging.Averaging` decides.

Rule 1: a round is p pure jobs of one phase, handed in on the I/O thread when the last one was
        folded.
Rule 2: the weights of a round lie in one of two vectors, and are not touched while it is open.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from time import perf_counter

import numpy as np

from paramserver.core.commands import AnnounceWorker, CallService
from paramserver.core.events import ServiceReplied
from paramserver.errors import Diverged, LocalProtocolError
from paramserver.protocol import calls
from paramserver.protocol.messages import Payload
from paramserver.runtime.internals import Internals
from paramserver.training.aggregation import Aggregation, TailMean
from paramserver.training.averaging import Averaging, Command, Finish, Fold, StartRound
from paramserver.training.checkpoint_file import TrainingState
from paramserver.training.plan import TrainingPlan
from paramserver.training.run import TrainingRun
from paramserver.training.vector import FloatVector
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
    """

    def __init__(
        self,
        internals: Internals,
        plan: TrainingPlan,
        machine: Averaging,
        w: FloatVector,
        aggregation: Aggregation,
        tail: TailMean,
    ) -> None:
        super().__init__(internals, plan, pure=True)
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
        self._results: dict[int, str] = {}
        """Name of the result of each partition in the open round."""
        self._slots: dict[str, SharedVector] = {}
        self._dead: set[str] = set()
        """Workers that were lost since the round was opened."""
        np.copyto(self._weights[machine.round % 2].array, w)
        self._master.on_worker.append(self._worker_changed)

    def _restore(self, state: TrainingState) -> None:
        machine, arrays = self.machine, state.arrays
        machine.round = state.meta["round"]
        machine.counters.update(state.meta["counters"])
        self._round.array[0] = machine.round
        np.copyto(self._weights[machine.round % 2].array, arrays["w"])
        n_vectors = sum(name.startswith("outer.") for name in arrays)
        outer = [arrays[f"outer.{i}"] for i in range(n_vectors)]
        self._aggregation.restore(state.meta["outer_steps"], outer)
        if "tail" in arrays:
            self._tail.restore(state.meta["tail_rounds"], arrays["tail"])

    # --- on the I/O thread ------------------------------------------------------------------------

    def _state(self) -> TrainingState:
        machine = self.machine
        outer_steps, outer = self._aggregation.state()
        tail_rounds, tail = self._tail.state()
        arrays = {"w": self._weights[machine.round % 2].array.copy()}
        arrays |= {f"outer.{i}": vector.copy() for i, vector in enumerate(outer)}
        if tail.size:
            arrays["tail"] = tail.copy()
        meta = {
            "round": machine.round,
            "unit": machine.round,
            "outer_steps": outer_steps,
            "tail_rounds": tail_rounds,
            "counters": dict(machine.counters),
        }
        return TrainingState(meta, arrays)

    def _begin(self) -> None:
        self._perform(self.machine.start())

    def _stop(self) -> None:
        self.machine.stop()

    def _give_up(self) -> None:
        self._round.array[0] = NO_ROUND

    def _job_done(self, what: tuple[int, int], payload: Payload) -> None:
        number, partition = what
        name, compute_s = calls.decode_value(payload, trusted=self._internals.trusted)
        self.compute_s += compute_s
        if name and number == self.machine.round:
            self._results[partition] = name
        self._perform(self.machine.done(number, partition))

    def _perform(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case StartRound(number, partitions):
                    self._round.array[0] = number
                    self._submit(train_round, number, partitions, f"w{number % 2}")
                case Fold():
                    self._fold(command)
                    self._results.clear()
                    if self._dead:
                        self._bury()
                    self._perform(self.machine.folded())
                case Finish(rounds):
                    self._round.array[0] = rounds  # who is still at work may stop
                    w = self._tail.mean(self._weights[rounds % 2].array)
                    self._offer(w, rounds, is_last=True)

    def _fold(self, fold: Fold) -> None:
        began = perf_counter()
        slots = [self._slot(self._results[partition]) for partition in fold.partitions]
        old, new = (self._weights[number % 2].array for number in (fold.round, fold.round + 1))
        if not self._aggregation.fold(old, slots, fold.coefficients, new):
            raise self._diverged(fold, slots, old)
        self._tail.add(fold.round, new)
        plan = self.plan
        self.examples += sum(
            min(plan.steps_a_round(k) * plan.batch_size, self._most(k)) for k in fold.partitions
        )
        self.apply_s += perf_counter() - began
        self._offer(new, fold.round + 1)

    def _most(self, partition: int) -> int:
        plan = self.plan
        epochs = plan.steps_a_round(partition) / plan.n_batches[partition]
        return round(epochs * plan.rows.n_examples[partition])

    def _slot(self, name: str) -> FloatVector:
        slot = self._slots.get(name)
        if slot is None:
            learner = self.plan.learner
            slot = SharedVector.open(self._folder / Path(name).name, learner.size, learner.dtype)
            self._slots[name] = slot
        return slot.array

    def _diverged(self, fold: Fold, slots: list[FloatVector], last: FloatVector) -> Diverged:
        """Say which results of a round are not finite, and whose they are."""
        bad = [
            partition
            for partition, slot in zip(fold.partitions, slots, strict=True)
            if not self._aggregation.is_finite(slot)
        ]
        workers = [self._results[partition].partition(".")[2] for partition in bad]
        whose = ", ".join(
            f"partition {partition} ({worker})"
            for partition, worker in zip(bad, workers, strict=True)
        )
        return Diverged(
            f"Round {fold.round}: the weights from {whose or 'the outer step'} are not finite. The "
            "learning rate is too large, or the data hold NaN; try a tenth of it. The weights "
            "before that round are kept (`weights` of this error).",
            round=fold.round,
            partitions=tuple(bad),
            workers=tuple(workers),
            weights=last.copy(),
        )

    def _answer(self, command: CallService, now: float) -> Iterable[ServiceReplied]:
        raise LocalProtocolError(f"Averaging has no method '{command.method}'.")

    def _forget(self, incarnation: int) -> None:
        pass  # see `_bury`: a result that was taken in may lie in a slot of the dead

    def _worker_changed(self, change: AnnounceWorker) -> None:
        if change.change in ("lost", "left"):
            self._dead.add(change.worker_id)

    def _bury(self) -> None:
        """Remove the slots of lost workers, between two rounds."""
        for name in [name for name in self._slots if name.partition(".")[2] in self._dead]:
            self._slots.pop(name).unlink()
        self._dead.clear()

    def _release(self) -> None:
        self._master.on_worker.remove(self._worker_changed)
        self._slots.clear()
        self._weights.clear()
