"""What the drivers of both training modes share: an owner of jobs, and a service that they call.

Rule 1: what is for the user's thread stands first; it waits, reads, or asks the I/O thread, on
        which everything else happens.
Rule 2: no error of a training may end the I/O thread: it ends the training, and whoever waits is
        told.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from paramserver.core.commands import AnnounceAttempt, AnnounceWorker, CallService, SettleJob
from paramserver.core.events import ServiceReplied
from paramserver.core.jobs import Verdict
from paramserver.core.master import MasterMachine
from paramserver.errors import ClusterClosed
from paramserver.protocol.messages import Payload
from paramserver.runtime.internals import Internals
from paramserver.runtime.job_error import job_error
from paramserver.runtime.troubles import Troubles
from paramserver.training.agreement import Agreement
from paramserver.training.arithmetic import Arithmetic
from paramserver.training.checkpoint_file import TrainingState
from paramserver.training.front_desk import FrontDesk
from paramserver.training.jobs_panel import JobsPanel
from paramserver.training.lookout import Lookout
from paramserver.training.measures import Measures, Snapshot
from paramserver.training.plan import TrainingPlan
from paramserver.training.tally import PartitionState, Tally
from paramserver.training.timeline import Timeline
from paramserver.training.training_jobs import SETUP, TrainingJobs
from paramserver.training.vector import FloatVector
from paramserver.training.work import make_ready


class TrainingRun:
    """One training on its way. See `runtime.owners.JobOwner` and `runtime.services.Service`.

    Parameters
    ----------
    internals : Internals
        Of the cluster.
    plan : TrainingPlan
    pure : bool
        Whether its jobs may run twice at a time.
    in_step : bool, default=False
        Offer the weights after each round or epoch, and wait for `go_on` then.

    Attributes
    ----------
    is_sound : bool
        False after an error amid a step: the state may be half changed, and is not to be captured.
    compute_s : float
        Seconds that learners computed, all workers together.
    setup_s : float
        Seconds in which workers imported, opened or fetched what they train on, before the clock of
        the training began to run.
    worker_names : dict of int to str
        By incarnation.

    Raises
    ------
    ConfigError
        If workers are elsewhere, and the learner cannot travel as plain data.
    """

    def __init__(
        self, internals: Internals, plan: TrainingPlan, *, pure: bool, in_step: bool = False
    ) -> None:
        self.plan = plan
        self.counters: Counter[str] = Counter()
        self.compute_s = 0.0
        self.setup_s = 0.0
        self.examples = 0
        self.began_at = 0.0
        self.is_sound = True
        self._room: dict[str, FloatVector] = {}
        """Where `capture` copies to."""
        self._wall_s_before = 0.0
        self._measured_before = Measures(0.0, 0.0, 0.0, 0.0, 0, 0, 0)
        """By the masters that had this training before."""
        self._internals = internals
        self._master = internals.master
        self._lookout = Lookout(self._master.clock, in_step=in_step)
        self._jobs = TrainingJobs(internals, plan, pure=pure)
        self._panel = JobsPanel(self)
        self._tell: Callable[[str], object] = lambda words: None
        self._n_ready = 0
        """Partitions that a worker is ready to train on."""
        self._agreement = Agreement(
            self.counters, self._master, self._lookout.fail, trusted=internals.trusted
        )
        self._front = FrontDesk(
            internals,
            plan,
            self._agreement,
            self._lookout,
            answer=self._answer,
            fail=self._fail,
        )
        self.worker_names = self._front.names

    # --- the user's thread ------------------------------------------------------------------------

    def start(self, tell: Callable[[str], object]) -> None:
        """Open the phase, and have the workers make themselves ready; then the clock starts."""
        self._tell = tell
        master = self._master
        master.services[self.plan.service] = self
        self._show()
        self.began_at = master.clock() - self._wall_s_before  # as if it had run in one piece
        self._jobs.open()
        master.ask(lambda machine: self._guard(self._enter, machine))

    def stop(self) -> None:
        """End the training at the next good moment."""
        self._master.ask(lambda _: self._guard(self._stop))

    def go_on(self) -> None:
        """Begin the next round or epoch, where that waits until the weights were looked at."""
        self._master.ask(lambda _: self._guard(self._go_on))

    def wait(self, timeout_s: float, *, look: bool, not_before_s: float = 0.0) -> Snapshot | None:
        """Wait for the end or (with `look`) for a copy of the weights, whatever comes first.

        Parameters
        ----------
        timeout_s : float
        look : bool
        not_before_s : float
            No copy before so much time has passed.

        Returns
        -------
        Snapshot or None
            None when the time is up or the run has ended.

        Raises
        ------
        ParamServerError
            What ended the training before its time.
        """
        snapshot = self._lookout.wait(timeout_s, look=look, not_before_s=not_before_s)
        for words in self._lookout.take_words():
            self._tell(words)
        return snapshot

    def capture(self, timeout_s: float = 30.0) -> TrainingState:
        """Copy all that the rest of the training follows from, between two steps.

        The I/O thread does nothing else meanwhile: it takes as long as one copy of the vectors, to
        memory that is kept for it (new memory would cost it five times as much, for its pages).

        Returns
        -------
        TrainingState
            Its arrays are valid until the next call.

        Raises
        ------
        ClusterClosed
            If the master has ended.
        TimeoutError
            If it has no time for it.
        """
        if not self._room:
            self._room = {
                name: np.full(vector.shape, 0, vector.dtype)  # touches each page, unlike `zeros`
                for name, vector in self._vectors().items()
            }
        return self._master.ask(lambda _: self._capture(), timeout_s)

    def restore(self, state: TrainingState) -> None:
        """Go on from what `capture` has returned, instead of from the start. Before `start`."""
        self.examples = state.meta["examples"]
        self._wall_s_before = state.meta["wall_s"]
        self._measured_before = Measures(**state.meta["measures"])
        arithmetic = state.meta["arithmetic"]
        if arithmetic is not None:
            self._agreement.arithmetic = Arithmetic.from_plain(arithmetic)
        self._restore(state)

    def measures(self) -> Measures:
        """Return where the time went, and how much went round; complete at the end."""
        return self._measured_before.plus(self._measures())

    def take_differences(self) -> dict[str, str]:
        """Return what of some workers' arithmetic differs, with one that does; each once."""
        return self._agreement.take_differences()

    def refused(self) -> dict[str, int]:
        """Return what was not applied, by reason."""
        return dict(self.counters)

    @property
    def staleness(self) -> Counter[int] | None:
        """How many updates had which staleness; None for averaging."""
        return None

    @property
    def staleness_by_worker(self) -> dict[str, Counter[int]]:
        """How many updates of each worker had which staleness (async)."""
        return {}

    @property
    def unit(self) -> int:
        """Rounds (averaging) or updates (async) so far."""
        raise NotImplementedError

    def partitions(self) -> list[PartitionState]:
        """Return how far the training is with each partition; any thread may ask."""
        owners = self.tally.owners
        return [
            PartitionState(k, n, owners.get(k, ""), self._epochs_of(k))
            for k, n in enumerate(self.plan.rows.n_examples)
        ]

    def nudge(self) -> None:
        """Look whether the run is stuck; called now and then while nothing is heard of it."""

    def break_away(self, timeout_s: float) -> None:
        """Tell the workers to stop where they are, and give them a moment to do so.

        After an error or an interrupt, or when the last round has not waited for them: who is still
        at work when `close` is called is killed.
        """
        try:
            self._master.ask(lambda _: self._tell_to_stop(), timeout_s)
        except (ClusterClosed, TimeoutError):
            return
        self._lookout.wait_until(lambda: not self._jobs.unsettled, timeout_s)

    @property
    def final(self) -> Snapshot | None:
        """The weights at the end; None while it runs."""
        return self._lookout.final

    @property
    def ended_at(self) -> float:
        """When it ended, by the clock of the master; 0 while it runs."""
        return self._lookout.ended_at

    @property
    def timeline(self) -> Timeline:
        """When which job was where, since this master began or resumed the training."""
        return self._jobs.timeline

    @property
    def tally(self) -> Tally:
        """What workers have done since then."""
        return self._jobs.tally

    @property
    def troubles(self) -> Troubles:
        """What jobs have raised since then, those that make ready included."""
        return self._jobs.troubles

    def close(self) -> None:
        """Give back everything; what still runs is stopped."""
        master = self._master
        self._jobs.drop()
        master.services.pop(self.plan.service, None)
        self._panel.freeze()
        try:
            master.ask(lambda _: self._leave())
        except ClusterClosed:
            self._leave()  # the I/O thread has ended
        finally:
            self._front.close()
            self._release()
            shutil.rmtree(self.plan.folder, ignore_errors=True)

    def _show(self) -> None:
        """Take the place on the dashboard of trainings that are over, which was theirs till now."""
        panels = self._internals.panels
        for panel in [each for each in panels if isinstance(each, JobsPanel) and each.is_frozen]:
            panels.remove(panel)
        panels.append(self._panel)

    # --- the I/O thread ---------------------------------------------------------------------------

    def claim(self, job: int) -> bool:
        """Jobs of a training are wanted until its phase is dropped."""
        return True

    def settle(self, ended: SettleJob) -> None:
        """Take in how a job ended."""
        what = self._jobs.unsettled.pop(ended.job, None)
        if what is None or self._lookout.has_ended:
            if not self._jobs.unsettled:
                self._lookout.look_again()
            return
        if ended.verdict is not Verdict.SUCCEEDED:
            error = job_error(ended, trusted=self._internals.trusted)
            self._guard(self._job_failed, what, error)
            return
        if what[0] == SETUP:
            self._guard(self._one_ready)
            return
        assert ended.payload is not None
        self._guard(self._job_done, what, ended.payload, ended.worker_id)

    def break_off(self, job: int, error: BaseException) -> None:
        """Take in that the master is gone."""
        self._lookout.fail(error)

    def call(self, command: CallService, now: float) -> Iterable[ServiceReplied]:
        """Answer a job."""
        return self._front.call(command, now)

    def worker_gone(self, incarnation: int, now: float) -> Iterable[ServiceReplied]:
        """Forget a worker whose life is over."""
        self._front.forget(incarnation)
        self._guard(self._forget, incarnation)
        return ()

    # --- for the modes ----------------------------------------------------------------------------

    def _n_wanted(self) -> int:
        """Return how many partitions have to be ready before the first step."""
        return len(self.plan.n_batches)

    def _begin(self) -> None:
        raise NotImplementedError

    def _stop(self) -> None:
        raise NotImplementedError

    def _go_on(self) -> None:
        """Do what was held back for somebody to look."""
        raise NotImplementedError

    def _give_up(self) -> None:
        """Have workers stop where they are; nothing of what they do counts any more."""
        raise NotImplementedError

    def _job_done(self, what: tuple[int, int], payload: Payload, worker_id: str) -> None:
        raise NotImplementedError

    def _job_failed(self, what: tuple[int, int], error: BaseException) -> None:
        self._lookout.fail(self._explain(what, error))

    def _epochs_of(self, partition: int) -> float:
        """Return how often the examples of a partition were seen."""
        raise NotImplementedError

    def _explain(self, what: tuple[int, int], error: BaseException) -> BaseException:
        """Say what is behind the failure of a job, where more is known than its worker knows."""
        return error

    def _answer(self, command: CallService, now: float) -> Iterable[ServiceReplied]:
        """Answer a job, where what it asks is the mode's own."""
        raise NotImplementedError

    def _forget(self, incarnation: int) -> None:
        raise NotImplementedError

    def _measures(self) -> Measures:
        """Return what this master has measured."""
        raise NotImplementedError

    def _divergence(self) -> float | None:
        """Return how far the learners of the latest round were from each other (averaging)."""
        return None

    def _vectors(self) -> dict[str, FloatVector]:
        """Return the vectors that the rest of the training follows from, by name: no copies."""
        raise NotImplementedError

    def _facts(self) -> dict[str, Any]:
        """Return what else it follows from, as JSON values."""
        raise NotImplementedError

    def _restore(self, state: TrainingState) -> None:
        """Take over what these two have returned; on the user's thread, before `_begin`."""
        raise NotImplementedError

    def _leave(self) -> None:
        """Let go of what the I/O thread watches."""
        with suppress(ValueError):  # it has not been begun
            self._master.on_worker.remove(self._worker_changed)
            self._master.unwatch_attempts(self._attempt_ended)

    def _release(self) -> None:
        """Drop what maps shared memory."""

    def _worker_changed(self, change: AnnounceWorker) -> None:
        """Take in that a worker came or went."""
        self.worker_names[change.incarnation] = change.worker_id
        if change.change == "joined":
            self.tally.join(change.worker_id, self._master.clock() - self.began_at)

    def _attempt_ended(self, attempt: AnnounceAttempt) -> None:
        """Take down how an attempt ended; its job may go on with another one."""
        self._jobs.note(attempt, self.began_at, is_over=self._lookout.has_ended)

    # --- inside -----------------------------------------------------------------------------------

    def _enter(self, machine: MasterMachine) -> None:
        roster = machine.roster
        self.worker_names |= {n: w.worker_id for n, w in roster.by_incarnation.items()}
        self._master.on_worker.append(self._worker_changed)
        self._master.watch_attempts(self._attempt_ended)
        self._submit(make_ready, SETUP, range(len(self.plan.n_batches)))

    def _one_ready(self) -> None:
        """Begin when as many partitions can be trained on as the first step waits for."""
        self._n_ready += 1
        if self._n_ready == self._n_wanted():
            self.setup_s = self._master.clock() - self.began_at - self._wall_s_before
            self.began_at += self.setup_s
            self.tally.begin(self._master.clock() - self.began_at)
            self._begin()

    def _submit(self, fn: Callable[..., object], number: int, partitions: Sequence[int]) -> None:
        """Hand in the jobs of one round or epoch."""
        self._jobs.submit(fn, number, partitions, owner=self)

    def _guard(self, step: Any, *args: Any) -> None:
        try:
            step(*args)
        except Exception as error:  # noqa: BLE001 - it ends the training, not the master
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """End the training with an error that may have come amid a step."""
        self.is_sound = False
        self._lookout.fail(error)

    def _offer(self, w: FloatVector, unit: int, *, is_last: bool = False) -> None:
        """Show the weights to the user's thread if it looks; the last ones in any case."""
        if is_last:
            self._lookout.finish(self._snapshot(w, unit))
        else:
            self._lookout.offer(lambda: self._snapshot(w, unit))

    def _snapshot(self, w: FloatVector, unit: int) -> Snapshot:
        now = self._master.clock()
        return Snapshot(w.copy(), unit, self.examples, now, self._divergence())

    def _tell_to_stop(self) -> None:
        self._lookout.break_off()
        self._guard(self._give_up)

    def _capture(self) -> TrainingState:
        for name, vector in self._vectors().items():
            np.copyto(self._room[name], vector)
        arithmetic = self._agreement.arithmetic
        facts = self._facts() | {
            "examples": self.examples,
            "wall_s": (self.ended_at or self._master.clock()) - self.began_at,
            "measures": self.measures()._asdict(),
            "arithmetic": None if arithmetic is None else arithmetic.as_plain(),
        }
        return TrainingState(facts, dict(self._room))
