"""Both training modes in this very process: no cluster, no workers, but the same machines.

Rule 1: averaging gives, to the last bit, what a cluster gives for the same plan: what is decided,
        how partitions are trained and how results are folded is the same code.
Rule 2: gradients are pushed one at a time by partitions that take turns, in an order that follows
        from the seed. So there is staleness as on a cluster (p - 1, mostly), and no chance.
Rule 3: it computes in `wait` alone: there are no threads, and nothing to give back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from time import monotonic, perf_counter
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from paramserver.errors import ConfigError, Diverged
from paramserver.training.aggregation import Aggregation, TailMean, divergence
from paramserver.training.attachment import Attachment
from paramserver.training.averaging import Averaging, Command, Finish, Fold, StartRound
from paramserver.training.checkpoint_file import TrainingState
from paramserver.training.learner import Batch
from paramserver.training.measures import Measures, Snapshot
from paramserver.training.optimizers import Optimizer
from paramserver.training.partitions import Epoch, generator
from paramserver.training.plan import TrainingPlan
from paramserver.training.push_pull import ParameterServer
from paramserver.training.pushes import Gradient, Push, PushPullRules, RowGradient, Verdict
from paramserver.training.timeline import Timeline
from paramserver.training.vector import FloatVector
from paramserver.training.work import compute_push, train_passes


class InlineRows:
    """`Rows` that are in this process already.

    Parameters
    ----------
    rows : Batch
    parts : sequence of ndarray of int
        The rows of each partition.
    """

    def __init__(self, rows: Batch, parts: Sequence[npt.NDArray[np.intp]]) -> None:
        self._rows = rows
        self._parts = parts
        self.n_examples = tuple(len(part) for part in parts)

    def open(self, partition: int) -> Batch:
        """Gather the rows of a partition, as copies: each pass then reads them in one piece."""
        return self._rows.take(self._parts[partition])


class InlineRun:
    """One training in this process. See `runs.Run`.

    Parameters
    ----------
    plan : TrainingPlan
    in_step : bool
        Let `wait` return after each round or epoch.
    """

    def __init__(self, plan: TrainingPlan, *, in_step: bool) -> None:
        self.plan = plan
        self.is_sound = True
        self.began_at = 0.0
        self.ended_at = 0.0
        self.setup_s = 0.0
        self.examples = 0
        self.compute_s = 0.0
        self.apply_s = 0.0
        self.final: Snapshot | None = None
        self.staleness: Counter[int] | None = None
        self.staleness_by_worker: dict[str, Counter[int]] = {}
        self.timeline = Timeline()
        self._attached = Attachment(plan, "", is_near=False)
        self._in_step = in_step
        self._stops = False
        self._steps: Iterator[tuple[FloatVector, int]] = iter(())

    def start(self) -> None:
        """Open the rows, and compile what trains on them; then the clock begins to run."""
        began = monotonic()
        for k in range(len(self.plan.rows.n_examples)):
            self._attached.rows(k)
        self.began_at = monotonic()
        self.setup_s = self.began_at - began
        self._steps = self._train()

    def wait(self, timeout_s: float, *, look: bool, not_before_s: float = 0.0) -> Snapshot | None:
        """Train on; return the weights when it is time for it, or None at the end.

        Parameters
        ----------
        timeout_s : float
        look : bool
        not_before_s : float
        """
        now = monotonic()
        end, look_at = now + timeout_s, now + not_before_s
        for w, unit in self._steps:
            now = monotonic()
            if self._in_step or (look and now >= look_at):
                return self._snapshot_of(w, unit, now)
            if now >= end:
                break
        return None

    def stop(self) -> None:
        """Let the round or the push that was last be the last one."""
        self._stops = True

    def go_on(self) -> None:
        """Do nothing: `wait` goes on."""

    def nudge(self) -> None:
        """Do nothing: nobody is absent."""

    def break_away(self, timeout_s: float) -> None:
        """Do nothing: nobody is at work."""

    def close(self) -> None:
        """Let go of the rows."""
        self._steps = iter(())

    def capture(self, timeout_s: float = 30.0) -> TrainingState:
        """Refuse: checkpoints are kept for the death of a master, and there is none.

        Raises
        ------
        ConfigError
        """
        _refuse_checkpoints()

    def restore(self, state: TrainingState) -> None:
        """Refuse, as `capture` does.

        Raises
        ------
        ConfigError
        """
        _refuse_checkpoints()

    def measures(self) -> Measures:
        """Return where the time went."""
        return Measures(self.compute_s, 0.0, 0.0, self.apply_s, 0, 0, 0)

    def refused(self) -> dict[str, int]:
        """Return what was not applied, by reason."""
        raise NotImplementedError

    def _train(self) -> Iterator[tuple[FloatVector, int]]:
        """Train; yield the weights, and the rounds or updates that led to them, now and then."""
        raise NotImplementedError

    def _finish(self, w: FloatVector, unit: int) -> None:
        self.ended_at = monotonic()
        self.final = self._snapshot_of(w, unit, self.ended_at)

    def _snapshot_of(self, w: FloatVector, unit: int, now: float) -> Snapshot:
        return Snapshot(w.copy(), unit, self.examples, now, self._divergence())

    def _divergence(self) -> float | None:
        """Return how far the learners of the latest round were from each other (averaging)."""
        return None


class InlineAveraging(InlineRun):
    """Averaging, one partition after the other.

    Parameters
    ----------
    plan : TrainingPlan
    machine : Averaging
    w : ndarray of shape (d,)
        The weights to start from; left alone.
    aggregation : Aggregation
    tail : TailMean
    in_step : bool, default=False
    arrival : callable, optional
        ``arrival(round, partitions)`` returns these partitions in the order in which they are done;
        by default in their own.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        machine: Averaging,
        w: FloatVector,
        aggregation: Aggregation,
        tail: TailMean,
        *,
        in_step: bool = False,
        arrival: Callable[[int, Sequence[int]], Sequence[int]] | None = None,
    ) -> None:
        super().__init__(plan, in_step=in_step)
        self.machine = machine
        self.w = w.copy()
        self._new = np.empty_like(w)
        self._aggregation = aggregation
        self._tail = tail
        self._arrival = arrival or (lambda _, partitions: partitions)
        self._results = [np.empty_like(w) for _ in plan.rows.n_examples]
        self._folded: Fold | None = None

    def refused(self) -> dict[str, int]:
        """Return what was not averaged, by reason."""
        return dict(self.machine.counters)

    def _train(self) -> Iterator[tuple[FloatVector, int]]:
        machine = self.machine
        commands: list[Command] = machine.start()
        while commands:
            match commands.pop(0):
                case StartRound(number, partitions):
                    for k in self._arrival(number, partitions):
                        self._train_one(number, k)
                        commands += machine.done(number, k)
                case Fold() as fold:
                    self._fold(fold)
                    commands += machine.folded()
                    yield self.w, machine.round
                    if self._stops:
                        commands = [Finish(machine.round)]
                case Finish(rounds):
                    self._finish(self._tail.mean(self.w), rounds)

    def _divergence(self) -> float | None:
        if self._folded is None:
            return None
        results = [self._results[k] for k in self._folded.partitions]
        return divergence(results, self._folded.coefficients)

    def _train_one(self, number: int, partition: int) -> None:
        began = perf_counter()
        result = self._results[partition]
        np.copyto(result, self.w)
        train_passes(self._attached, result, number, partition, lambda: True)
        self.compute_s += perf_counter() - began

    def _fold(self, fold: Fold) -> None:
        began = perf_counter()
        results = [self._results[k] for k in fold.partitions]
        if not self._aggregation.fold(self.w, results, fold.coefficients, self._new):
            bad = [k for k in fold.partitions if not np.isfinite(self._results[k]).all()]
            raise Diverged(
                f"Round {fold.round}: the weights from {_partitions(bad)} are not finite. The "
                "learning rate is too large, or the data hold NaN; try a tenth of it. The weights "
                "before that round are kept (`weights` of this error).",
                round=fold.round,
                partitions=tuple(bad),
                workers=(),
                weights=self.w.copy(),
            )
        self._folded = fold
        self.w, self._new = self._new, self.w
        self._tail.add(fold.round, self.w)
        self.examples += sum(self.plan.examples_a_round(k) for k in fold.partitions)
        self.apply_s += perf_counter() - began


class InlinePushing(InlineRun):
    """Asynchronous SGD by partitions that take turns.

    Parameters
    ----------
    plan : TrainingPlan
    w : ndarray of shape (d,)
        The weights to start from; left alone.
    optimizer : Optimizer
    epochs : int
    rules : PushPullRules, optional
    in_step : bool, default=False

    Attributes
    ----------
    server : ParameterServer
    cursor : list of int
        The next batch of each partition.
    waiting : set of int
        Partitions whose gradients wait for those of others, or for their turn.
    views : list of View
        What each partition computes its next gradient from.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        w: FloatVector,
        optimizer: Optimizer,
        epochs: int,
        rules: PushPullRules | None = None,
        *,
        in_step: bool = False,
    ) -> None:
        super().__init__(plan, in_step=in_step)
        sizes = plan.rows.n_examples
        self.p = len(sizes)
        self.server = ParameterServer(
            w.copy(), optimizer, sizes, plan.push_size, rules, width=plan.width
        )
        self.staleness = self.server.staleness
        self._n_epochs = epochs
        self.cursor = [0] * self.p
        self._seq = [0] * self.p
        self.waiting: set[int] = set()
        self._epochs: list[Epoch] = []
        self.views: list[View] = []
        # One buffer to be seen by each partition, one that is current, one to write to.
        n_spares = 0 if plan.width else self.p + 1
        self._buffers = [np.empty_like(w) for _ in range(n_spares)] + [self.server.w]
        self._gradients = [] if plan.width else [np.empty_like(w) for _ in sizes]

    def refused(self) -> dict[str, int]:
        """Return what was not applied, by reason."""
        return dict(self.server.counters)

    # --- turns ------------------------------------------------------------------------------------

    def open_epoch(self, number: int) -> None:
        """Begin a pass over all partitions."""
        self.server.open_epoch(number)
        self._epochs = [self._attached.epoch(number, k) for k in range(self.p)]
        self.cursor = [self.server.join(k + 1, number, k) for k in range(self.p)]
        self.views = [self._look(k) for k in range(self.p)]

    def can_step(self, k: int) -> bool:
        """Say whether a partition has a gradient to push, and does not wait for an answer."""
        return k not in self.waiting and self.cursor[k] < self.server.n_batches[k]

    def step(self, k: int) -> Verdict:
        """Let a partition push its next gradient; those whose answers are due pull.

        Raises
        ------
        Diverged
            If that gradient, or what it makes of the weights, is not finite.
        """
        server, view = self.server, self.views[k]
        began = perf_counter()
        g = self._gradient(k, view)
        computed = perf_counter()
        self._seq[k] += 1
        push = Push(k + 1, self._seq[k], server.epoch, k, self.cursor[k], view.version)
        self.waiting.add(k)
        verdict = server.push(push, g, self._spare())
        if verdict not in (Verdict.APPLIED, Verdict.HELD):
            self._complain(push, verdict)
        for incarnation in server.take_due():
            j = incarnation - 1
            self.waiting.discard(j)
            self.cursor[j] += 1
            self.views[j] = self._look(j)
        self.examples = server.examples
        self.compute_s += computed - began
        self.apply_s += perf_counter() - computed
        return verdict

    def _train(self) -> Iterator[tuple[FloatVector, int]]:
        server = self.server
        for number in range(self._n_epochs):
            self.open_epoch(number)
            turns = generator(self.plan.seed, number, self.p).permutation(self.p).tolist()
            while able := [k for k in turns if self.can_step(k)]:
                for k in able:
                    self.step(k)
                    if self._in_step:
                        continue
                    yield server.w, server.version
                    if self._stops:
                        break
                if self._stops:
                    break
            if self._in_step:
                yield server.w, server.version
            if self._stops:
                break
        self._finish(server.w, server.version)

    # --- what a partition sees, and what it makes of it -------------------------------------------

    def _look(self, k: int) -> View:
        """Let a partition pull what its next gradient is computed from."""
        server, width = self.server, self.plan.width
        if width is None:
            return View(server.w, server.version)
        if self.cursor[k] >= server.n_batches[k]:
            return View(server.w[:0], server.version)
        batch = self._epochs[k].batch(self.cursor[k])
        learner: Any = self.plan.learner  # a SparseLearner: the width says so
        rows = learner.touched(batch)
        return View(server.w.reshape(-1, width)[rows], server.version, batch, rows)

    def _gradient(self, k: int, view: View) -> Gradient:
        if view.batch is None or view.rows is None:
            g = self._gradients[k]
            compute_push(self._attached, view.w, self._epochs[k], self.cursor[k], g)
            return g
        out = np.empty_like(view.w)
        learner: Any = self.plan.learner
        learner.sparse_gradient(view.w, view.rows, view.batch, out)
        return RowGradient(view.rows, out)

    def _spare(self) -> FloatVector:
        """Return a vector that nobody sees; where gradients are of some rows, none is needed."""
        seen = {id(view.w) for view in self.views} | {id(self.server.w)}
        return next((w for w in self._buffers if id(w) not in seen), self.server.w)

    def _complain(self, push: Push, verdict: Verdict) -> NoReturn:
        what = "has a gradient that is not finite"
        if verdict is Verdict.DIVERGED:
            what = "would make the weights overflow"
        raise Diverged(
            f"Update {self.server.version} (epoch {push.epoch}, partition {push.partition}) "
            f"{what}; it was not applied. The learning rate is too large, or the data hold NaN; "
            "try a tenth of it. The weights before it are kept (`weights` of this error).",
            round=self.server.version,
            partitions=(push.partition,),
            workers=(),
            weights=self.server.w.copy(),
        )


class View:
    """What a partition has pulled: all weights, or the rows that its next batch touches."""

    __slots__ = ("batch", "rows", "version", "w")

    def __init__(
        self,
        w: FloatVector,
        version: int,
        batch: Batch | None = None,
        rows: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.w = w
        self.version = version
        self.batch = batch
        self.rows = rows


def _partitions(numbers: Sequence[int]) -> str:
    return ", ".join(f"partition {k}" for k in numbers) or "the outer step"


def _refuse_checkpoints() -> NoReturn:
    raise ConfigError(
        "Checkpoints keep a training across the death of its master, and there is none without a "
        "cluster: give one (cluster=LocalCluster(...)), or leave the checkpoints out.",
        field="checkpoints",
        value=None,
    )
