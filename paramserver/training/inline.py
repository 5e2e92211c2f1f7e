"""A training in this very process: no cluster, no workers, but the same machines.

Rule 1: what is decided, how partitions are trained and how results are folded is the same code as
        on a cluster.
Rule 2: it computes in `wait` alone: there are no threads of its own, and nothing to give back.
Rule 3: its sums have the bits of workers', who compute with one thread: other numbers of threads
        split a sum in other ways. Between two calls of `wait` the caller has all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from time import monotonic
from typing import NoReturn

import numpy as np
import numpy.typing as npt

from paramserver.errors import ConfigError
from paramserver.training.arithmetic import one_thread
from paramserver.training.attachment import Attachment
from paramserver.training.checkpoint_file import TrainingState
from paramserver.training.learner import Batch
from paramserver.training.measures import Measures, Snapshot
from paramserver.training.plan import TrainingPlan
from paramserver.training.timeline import Timeline
from paramserver.training.vector import FloatVector
from paramserver.training.warm_up import COMPILING
from paramserver.training.work import JUDGED_LATER


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
        self._tell: Callable[[str], object] = lambda words: None
        self._attached = Attachment(
            plan, "", is_near=False, on_compile=lambda: self._tell(COMPILING)
        )
        self._in_step = in_step
        self._stops = False
        self._steps: Iterator[tuple[FloatVector, int]] = iter(())

    def start(self, tell: Callable[[str], object]) -> None:
        """Open the rows, and compile what trains on them; then the clock begins to run."""
        self._tell = tell
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
        with one_thread(), np.errstate(**JUDGED_LATER):
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
        refuse_checkpoints()

    def restore(self, state: TrainingState) -> None:
        """Refuse, as `capture` does.

        Raises
        ------
        ConfigError
        """
        refuse_checkpoints()

    def measures(self) -> Measures:
        """Return where the time went."""
        return Measures(self.compute_s, 0.0, 0.0, self.apply_s, 0, 0, 0)

    def take_differences(self) -> dict[str, str]:
        """Return nothing: one process computes everything."""
        return {}

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


def refuse_checkpoints(folder: str | None = None) -> NoReturn:
    """Raise ConfigError: they are kept for the death of a master, and there is none."""
    raise ConfigError(
        "Checkpoints keep a training across the death of its master, and there is none without a "
        "cluster: give one (cluster=LocalCluster(...)), or leave the checkpoints out.",
        field="checkpoints",
        value=folder,
    )
