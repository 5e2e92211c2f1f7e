"""The driver of asynchronous SGD: epochs as phases of jobs that push while they run.

Rule 1: an epoch is p jobs, each with one live attempt; what they push is `pushing`'s.
Rule 2: a job that ends counts only if the ledger says that its partition is done; the rest of one
        that is not is handed out again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import inf
from typing import Any

import numpy as np

from paramserver.core.commands import AnnounceAttempt, AttemptEnd, CallService
from paramserver.core.events import ServiceReplied
from paramserver.errors import PoisonJob, RemoteProtocolError
from paramserver.protocol.messages import Payload
from paramserver.runtime.internals import Internals
from paramserver.training.checkpoint_file import TrainingState
from paramserver.training.front_desk import refuse, reply
from paramserver.training.measures import Measures
from paramserver.training.optimizers import Optimizer
from paramserver.training.plan import TrainingPlan
from paramserver.training.pushes import PushPullRules
from paramserver.training.pushing import Pushing
from paramserver.training.run import TrainingRun
from paramserver.training.tally import PartitionState
from paramserver.training.training_jobs import SETUP
from paramserver.training.vector import FloatVector
from paramserver.training.work import train_partition


class PushPullRun(TrainingRun):
    """One training by pushes to a parameter server.

    Parameters
    ----------
    internals : Internals
    plan : TrainingPlan
    w : ndarray
        The weights to start from.
    optimizer : Optimizer
    epochs : int
    rules : PushPullRules
    in_step : bool, default=False
        Begin an epoch only when the weights before it have been looked at.
    """

    def __init__(
        self,
        internals: Internals,
        plan: TrainingPlan,
        w: FloatVector,
        optimizer: Optimizer,
        epochs: int,
        rules: PushPullRules,
        *,
        in_step: bool = False,
    ) -> None:
        super().__init__(internals, plan, pure=False, in_step=in_step)
        self._pushing = Pushing(
            self._master,
            plan,
            w,
            optimizer,
            rules,
            agreement=self._agreement,
            names=self.worker_names,
            tally=self.tally,
            on_step=self._stepped,
            fail=self._fail,
        )
        self.server = self._pushing.server
        self._optimizer = optimizer
        self._epochs = epochs
        self._n_running = 0
        self._handed_out_at: dict[int, int] = {}
        """Cursor of each partition when its job was handed out."""
        self._asked_s = 0.0
        """From questions to their answers, as the workers have seen it."""
        self._is_bulk = rules.staleness_bound == 0
        self._staleness_before: dict[str, Counter[int]] = {}
        """Of the workers of the masters that had this training before."""
        self._second_chances: set[tuple[int, int]] = set()
        """Work that was handed out once more, since one worker alone had failed at it."""

    def _restore(self, state: TrainingState) -> None:
        arrays = state.arrays
        np.copyto(self._pushing.desk.start, arrays["w"])
        n_vectors = sum(name.startswith("optimizer.") for name in arrays)
        vectors = [arrays[f"optimizer.{i}"] for i in range(n_vectors)]
        self._optimizer.restore(state.meta["optimizer_steps"], vectors)
        self.server.restore(state.meta["books"])
        self._staleness_before = {
            name: Counter({int(staleness): n for staleness, n in counts.items()})
            for name, counts in state.meta["staleness_by_worker"].items()
        }

    @property
    def unit(self) -> int:
        """Updates so far."""
        return self.server.version

    def partitions(self) -> list[PartitionState]:
        """Return how far the training is with each partition, and who is at it now."""
        seats = dict(self.server.seats)
        names = self.worker_names
        return [
            state._replace(owner=names.get(seats[state.partition].incarnation, state.owner))
            if state.partition in seats
            else state
            for state in super().partitions()
        ]

    def _epochs_of(self, partition: int) -> float:
        server = self.server
        return server.epoch + server.cursors[partition] / server.n_batches[partition]

    def nudge(self) -> None:
        """Go on without those who have not joined, if nothing has moved since the last nudge."""
        if self._is_bulk:
            self._master.ask(lambda _: self._guard(self._pushing.nudge))

    def _measures(self) -> Measures:
        pushing = self._pushing
        waited_s, apply_s = pushing.answers.waited_s, pushing.apply_s
        return Measures(
            self.compute_s,
            max(0.0, waited_s - apply_s),
            max(0.0, self._asked_s - waited_s),
            apply_s,
            pushing.desk.pushed_bytes,
            pushing.desk.pulled_bytes,
            self._front.rows_bytes,
        )

    def refused(self) -> dict[str, int]:
        """Return what was not applied, by reason."""
        return dict(self.server.counters + self.counters)

    @property
    def staleness(self) -> Counter[int]:
        """How many updates had which staleness."""
        return self.server.staleness

    @property
    def staleness_by_worker(self) -> dict[str, Counter[int]]:
        """How many updates of each worker had which staleness."""
        found = {name: Counter(counts) for name, counts in self._staleness_before.items()}
        for incarnation, staleness in self.server.staleness_of.items():
            found.setdefault(self.worker_names.get(incarnation, "?"), Counter()).update(staleness)
        return found

    # --- jobs, on the I/O thread ------------------------------------------------------------------

    def _vectors(self) -> dict[str, FloatVector]:
        state = {f"optimizer.{i}": vector for i, vector in enumerate(self._optimizer.state)}
        return {"w": self.server.w} | state

    def _facts(self) -> dict[str, Any]:
        return {
            "unit": self.server.version,
            "optimizer_steps": self._optimizer.n_steps,
            "books": self.server.books(),
            "staleness_by_worker": self.staleness_by_worker,
        }

    def _begin(self) -> None:
        self._pushing.open()
        self._hand_in()

    def _open_epoch(self, number: int) -> None:
        server = self.server
        if number >= self._epochs or server.stopped:
            self._offer(server.w, server.version, is_last=True)
            return
        server.open_epoch(number)
        self._hand_in()

    def _hand_in(self) -> None:
        """Have the rest of an epoch worked on: all of it, or what a checkpoint has left of it."""
        server = self.server
        ends = zip(server.cursors, server.n_batches, strict=True)
        partitions = [k for k, (cursor, end) in enumerate(ends) if cursor < end]
        if server.epoch >= self._epochs or not partitions:
            self._open_epoch(server.epoch + 1)
            return
        self._pushing.count_hands()
        self._n_running = len(partitions)
        self._hand_out(partitions)

    def _hand_out(self, partitions: Sequence[int]) -> None:
        self._handed_out_at |= {k: self.server.cursors[k] for k in partitions}
        self._submit(train_partition, self.server.epoch, partitions)

    def _job_failed(self, what: tuple[int, int], error: BaseException) -> None:
        """Go on where it may be the worker's fault, or nobody's, and not that of the work."""
        epoch, partition = what
        has_moved = epoch != SETUP and (
            self.server.cursors[partition] > self._handed_out_at[partition]
        )
        if isinstance(error, PoisonJob) and has_moved:  # it is long, not the killer of its workers
            self._hand_out((partition,))
        elif (suspect := self._only_suspect(what)) is not None:
            self._second_chances.add(what)
            self._agreement.expel(suspect, "had only gradients that are not finite for some work")
            self._hand_out((partition,))
        else:
            super()._job_failed(what, error)

    def _only_suspect(self, what: tuple[int, int]) -> int | None:
        """Return who alone has tried some work, each time in vain, if another one could try it."""
        if what in self._second_chances or len(self._agreement.workers()) == 1:
            return None
        return self._agreement.trust.only_doubted(what)

    def _stop(self) -> None:
        self._pushing.stop()

    def _go_on(self) -> None:
        self._open_epoch(self.server.epoch + 1)

    def _give_up(self) -> None:
        self._stop()

    def _job_done(self, what: tuple[int, int], payload: Payload, worker_id: str) -> None:
        match self._agreement.read(payload):
            case (int(), float(compute_s), float(asked_s)) if 0 <= compute_s + asked_s < inf:
                self.compute_s += compute_s
                self._asked_s += asked_s
                self.tally.work(worker_id, compute_s, self._pushing.take_waited_s(worker_id))
            case _:
                self._agreement.strike(worker_id, "given back what is no result")
        _, partition = what
        server = self.server
        if not server.stopped and server.cursors[partition] < server.n_batches[partition]:
            self._agreement.strike(worker_id, f"ended amid partition {partition}")
            self._hand_out((partition,))  # the rest, by whomever
            return
        if (worker := self._agreement.workers().get(worker_id)) is not None:
            for accused in self._agreement.trust.finish(what, worker.incarnation):
                self._agreement.accuse(
                    accused, "had gradients that are not finite where another had not"
                )
        self._n_running -= 1
        if self._n_running == 0:
            if self._lookout.in_step:
                self._offer(server.w, server.version)
            else:
                self._go_on()

    def _answer(self, command: CallService, now: float) -> Iterable[ServiceReplied]:
        what = self._jobs.unsettled.get(command.job)
        if what is None:  # it has ended meanwhile
            self.server.counters["stale"] += 1
            return (refuse(command, now),)
        if command.method == "join":
            joined = self._pushing.join(command, what, self._master.clock() - self.began_at)
            return (reply(command, now, joined),)
        if command.method not in ("push_pull", "pull"):
            raise RemoteProtocolError(f"push and pull have no method {command.method!r}", peer="")
        self._pushing.call(command, what)
        return ()

    def _stepped(self) -> None:
        """Take in that there are new weights."""
        server = self.server
        self.examples = server.examples
        if self._lookout.is_asked and not self._lookout.in_step:
            self._offer(server.w, server.version)

    def _attempt_ended(self, attempt: AnnounceAttempt) -> None:
        super()._attempt_ended(attempt)
        what = self._jobs.unsettled.get(attempt.job)
        if attempt.end is AttemptEnd.LOST and what is not None:
            self._guard(self._pushing.give_up, what[1], attempt.worker_id)

    def _forget(self, incarnation: int) -> None:
        self._pushing.forget(incarnation)

    def _explain(self, what: tuple[int, int], error: BaseException) -> BaseException:
        return self._pushing.explain(what, error)

    def _leave(self) -> None:
        super()._leave()
        self._pushing.answers.close()

    def _release(self) -> None:
        super()._release()
        self._pushing.desk.close()
