"""What is to be trained, checked and complete, and the run that trains it.

Rule 1: a run on a cluster and one in this process are made of the same parts.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from paramserver.runtime.internals import Internals
from paramserver.training.aggregation import Aggregation, TailMean
from paramserver.training.averaging import Averaging as AveragingMachine
from paramserver.training.averaging_run import AveragingRun
from paramserver.training.checked import check_finite
from paramserver.training.folder import make_folder, proof_of
from paramserver.training.inline import InlineRows, InlineRun
from paramserver.training.inline_averaging import InlineAveraging
from paramserver.training.inline_pushing import InlinePushing
from paramserver.training.learner import Batch, Learner
from paramserver.training.modes import Averaging, Mode
from paramserver.training.optimizers import make_optimizer
from paramserver.training.partitions import Rows, SharedRows, generator
from paramserver.training.plan import TrainingPlan, row_width
from paramserver.training.push_pull_run import PushPullRun
from paramserver.training.run import TrainingRun
from paramserver.training.runs import Run
from paramserver.training.vector import FloatVector, require


class Task(NamedTuple):
    """What is to be trained, checked and complete."""

    learner: Learner
    rows: Batch
    parts: Sequence[npt.NDArray[np.intp]]
    stored: SharedRows | None
    mode: Mode
    batch_size: int
    lr: float
    seed: int
    start: npt.ArrayLike | None
    in_step: bool

    def open_run(self, internals: Internals | None) -> Run:
        """Return the training, not begun: on a cluster, or in this process."""
        if internals is None:
            return self._make_inline()
        folder = make_folder(internals)
        try:
            return self._make_run(internals, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)  # memory, perhaps
            raise

    def _make_run(self, internals: Internals, folder: Path) -> TrainingRun:
        mode, in_step = self.mode, self.in_step
        shared = self.stored or SharedRows.write(folder, self.rows, self.parts)
        plan = self._plan(shared, os.fspath(folder), folder.name, proof_of(folder))
        w = self._start_weights(plan)
        if isinstance(mode, Averaging):
            parts = _averaging(mode, shared.n_examples, w)
            return AveragingRun(internals, plan, *parts, in_step=in_step)
        optimizer = make_optimizer(mode.optimizer, self.lr)
        return PushPullRun(
            internals, plan, w, optimizer, mode.epochs, mode.rules(), in_step=in_step
        )

    def _make_inline(self) -> InlineRun:
        mode, in_step = self.mode, self.in_step
        plan = self._plan(self.stored or InlineRows(self.rows, self.parts))
        w = self._start_weights(plan)
        if isinstance(mode, Averaging):
            parts = _averaging(mode, plan.rows.n_examples, w)
            return InlineAveraging(
                plan, *parts, in_step=in_step, arrival=_chance(mode, self.seed, len(self.parts))
            )
        optimizer = make_optimizer(mode.optimizer, self.lr)
        return InlinePushing(plan, w, optimizer, mode.epochs, mode.rules(), in_step=in_step)

    def _plan(
        self, rows: Rows, folder: str = "", service: str = "", here: str = ""
    ) -> TrainingPlan:
        """Return what all workers are told."""
        mode = self.mode
        return TrainingPlan(
            service=service,
            folder=folder,
            learner=self.learner,
            rows=rows,
            batch_size=self.batch_size,
            seed=self.seed,
            local_lr=self.lr,
            local_steps=mode.local_steps,
            local_epochs=mode.local_epochs if isinstance(mode, Averaging) else 1,
            width=row_width(self.learner, self.rows, mode),
            here=here,
        )

    def _start_weights(self, plan: TrainingPlan) -> FloatVector:
        """Return the weights to start from, as a copy."""
        if self.start is None:
            return plan.start_weights()
        w = np.array(self.start, self.learner.dtype, order="C")
        require(w, self.learner.size, self.learner.dtype, "start")
        check_finite(w, "start", "start")
        return w


def _chance(
    mode: Averaging, seed: int, p: int
) -> Callable[[int, Sequence[int]], Sequence[int]] | None:
    """Return who is done when, where not all are waited for: else the last would never count."""
    if mode.wait_for is None:
        return None
    return lambda number, partitions: generator(seed, number, p).permutation(partitions).tolist()


def _averaging(
    mode: Averaging, n_examples: Sequence[int], w: FloatVector
) -> tuple[AveragingMachine, FloatVector, Aggregation, TailMean]:
    """Return what an averaging run is made of, in the order of its parameters."""
    first = mode.rounds - round(mode.tail * mode.rounds)
    return (
        AveragingMachine(n_examples, mode.rounds, wait_for=mode.wait_for),
        w,
        Aggregation(w.size, w.dtype, outer=mode.outer),
        TailMean(w.size if mode.tail else 0, w.dtype, first),
    )
