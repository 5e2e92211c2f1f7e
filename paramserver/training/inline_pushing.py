"""Asynchronous SGD in this very process, by partitions that take turns.

Rule 1: gradients are pushed one at a time, in an order that follows from the seed. So there is
        staleness as on a cluster (p - 1, mostly), and no chance.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from paramserver.training.diverged import update_diverged
from paramserver.training.inline import InlineRun
from paramserver.training.learner import RowPass
from paramserver.training.optimizers import Optimizer
from paramserver.training.partitions import Epoch, generator
from paramserver.training.plan import TrainingPlan
from paramserver.training.push_pull import ParameterServer
from paramserver.training.pushes import Gradient, Push, PushPullRules, RowGradient, Verdict
from paramserver.training.row_pass import pass_over
from paramserver.training.vector import FloatVector
from paramserver.training.work import compute_push


class View:
    """What a partition has pulled: all weights, or the rows that its next batch touches."""

    __slots__ = ("rows", "version", "w")

    def __init__(
        self,
        w: FloatVector,
        version: int,
        rows: npt.NDArray[np.int64] | None = None,
    ) -> None:
        self.w = w
        self.version = version
        self.rows = rows


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
        self._passes: list[RowPass] = []
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
        if self.plan.width:
            learner: Any = self.plan.learner  # a SparseLearner: the width says so
            self._passes = [pass_over(learner, epoch) for epoch in self._epochs]
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
            is_gradient = verdict is not Verdict.DIVERGED
            raise update_diverged(server.version, push, "", server.w, is_gradient=is_gradient)
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
            for _ in self._take_turns(number):
                if not self._in_step:
                    yield server.w, server.version
                if self._stops:
                    break
            if self._in_step:
                yield server.w, server.version
            if self._stops:
                break
        self._finish(server.w, server.version)

    def _take_turns(self, number: int) -> Iterator[int]:
        """Push the gradients of an epoch, one after the other; yield whose has been pushed."""
        self.open_epoch(number)
        turns = generator(self.plan.seed, number, self.p).permutation(self.p).tolist()
        while able := [k for k in turns if self.can_step(k)]:
            for k in able:
                self.step(k)
                yield k

    # --- what a partition sees, and what it makes of it -------------------------------------------

    def _look(self, k: int) -> View:
        """Let a partition pull what its next gradient is computed from."""
        server, width = self.server, self.plan.width
        if width is None:
            return View(server.w, server.version)
        if self.cursor[k] >= server.n_batches[k]:
            return View(server.w[:0], server.version)
        rows = self._passes[k].touched(self.cursor[k])
        return View(server.w.reshape(-1, width)[rows], server.version, rows)

    def _gradient(self, k: int, view: View) -> Gradient:
        if view.rows is None:
            g = self._gradients[k]
            compute_push(self._attached, view.w, self._epochs[k], self.cursor[k], g)
            return g
        out = np.empty_like(view.w)
        self._passes[k].gradient(self.cursor[k], view.w, view.rows, out)
        return RowGradient(view.rows, out)

    def _spare(self) -> FloatVector:
        """Return a vector that nobody sees; where gradients are of some rows, none is needed."""
        seen = {id(view.w) for view in self.views} | {id(self.server.w)}
        return next((w for w in self._buffers if id(w) not in seen), self.server.w)
