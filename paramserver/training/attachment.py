"""What a worker process holds of one training: the plan, open rows, mapped vectors, a line.

Rule 1: nothing here is needed for the result: what is lost is opened, fetched or computed again.
Rule 2: a worker is *near* when it shares the training's folder with the master (see `folder`). Any
        other one is *far*: it maps nothing, and all it needs comes by its connection.
Rule 3: weights are mapped read-only; results and gradients go to vectors that belong to this
        process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from paramserver.protocol import calls
from paramserver.protocol.messages import Payload, PayloadKind
from paramserver.runtime.context import JobContext, current
from paramserver.training.arithmetic import arithmetic_here, use_threads
from paramserver.training.far_rows import FarRows
from paramserver.training.folder import is_near
from paramserver.training.formats import LINE, REPLY
from paramserver.training.learner import Batch, FastLearner
from paramserver.training.optimizers import SGD
from paramserver.training.partitions import Epoch
from paramserver.training.plan import TrainingPlan
from paramserver.training.row_cache import RowCache, room_here
from paramserver.training.rowslot import RowSlot
from paramserver.training.vector import FloatVector
from paramserver.training.warm_up import warm_up
from paramserver.transport.lines import Line
from paramserver.transport.shm import SharedVector

MAX_ATTACHMENTS: Final = 4
"""Trainings whose files one worker keeps open."""
NOTHING: Final = Payload(PayloadKind.PLAIN, b"")
MAX_ORDERS: Final = 8
"""Partitions whose current order one worker remembers."""


class Attachment:
    """What this process has opened for one training.

    Parameters
    ----------
    plan : TrainingPlan
    owner : str
        The worker's name.
    is_near : bool
    blas_threads : int
        How many threads all workers of the training compute with; 0 where that cannot be set.
    on_compile : callable
        Called when what trains has to be compiled first, which takes seconds.

    Attributes
    ----------
    optimizer : SGD
        Of the steps that a learner takes by itself; started.
    row_slot : RowSlot or None
        What this worker hands in gradients of some rows by.
    local_epoch : callable or None
        The learner's own way through a pass, if it has one and rounds are whole passes.
    """

    def __init__(
        self,
        plan: TrainingPlan,
        owner: str,
        *,
        is_near: bool,
        blas_threads: int = 0,
        on_compile: Callable[[], object] = lambda: None,
    ) -> None:
        self.plan = plan
        self.blas_threads = blas_threads
        self.is_near = is_near
        self._owner = owner
        self._on_compile = on_compile
        self._folder = Path(plan.folder)
        self._vectors: dict[str, SharedVector] = {}
        self._rows = RowCache(plan.rows.open, None if is_near else room_here())
        self._is_warm = False
        self._epochs: dict[int, tuple[int, Epoch]] = {}
        self._line: Line | None = None
        self.row_slot: RowSlot | None = None
        learner = plan.learner
        is_fast = plan.local_steps is None and isinstance(learner, FastLearner)
        self.local_epoch = learner.local_epoch if is_fast else None  # type: ignore[attr-defined]
        self.optimizer = SGD(plan.local_lr)
        self.optimizer.start(learner.size, learner.dtype)

    @property
    def has_ended(self) -> bool:
        """Whether the training is known to have ended: its folder is gone. From afar none is."""
        return self.is_near and not self._folder.exists()

    def weights(self, name: str) -> FloatVector:
        """Map a vector of the master's, to read."""
        return self._open(name, writable=False)

    def slot(self, name: str) -> FloatVector:
        """Map a vector that the master has made for this worker, to write."""
        return self._open(name, writable=True)

    def own(self, purpose: str) -> tuple[str, FloatVector]:
        """Return a vector that this process has made itself, and its name."""
        name = f"{purpose}.{self._owner}"
        vector = self._vectors.get(name)
        if vector is None or not vector.path.exists():  # the master gave this process up, once
            learner = self.plan.learner
            vector = self._vectors[name] = self._make(name, learner.size, learner.dtype)
        return name, vector.array

    def make_room(self, name: str, n_bytes: int) -> FloatVector:
        """Return memory that the master can map, too, made by this process under this name."""
        vector = self._vectors.get(name)
        if vector is None:
            vector = self._vectors[name] = self._make(name, n_bytes, np.uint8)
        return vector.array

    def line(self) -> Line:
        """Return the line to the master's parameter server."""
        if self._line is None:
            self._line = Line(self._folder / LINE, REPLY.size)
        return self._line

    def hang_up(self) -> None:
        """Close the line: the next job dials anew."""
        if self._line is not None:
            self._line.close()
            self._line = None

    @cached_property
    def gradient(self) -> FloatVector:
        """Room for gradients of this process alone."""
        return np.zeros(self.plan.learner.size, self.plan.learner.dtype)

    @cached_property
    def local(self) -> FloatVector:
        """Room for weights of this process alone."""
        return np.empty(self.plan.learner.size, self.plan.learner.dtype)

    def rows(self, partition: int) -> Batch:
        """Return the rows of a partition; opened, or fetched, unless they are kept still."""
        found = self._rows.get(partition)
        for other in [each for each in self._epochs if each not in self._rows]:
            del self._epochs[other]  # it holds rows that were let go
        if not self._is_warm:  # before anybody measures a round
            self._is_warm = True
            warm_up(self.plan, found, self._on_compile)
        return found

    def epoch(self, number: int, partition: int) -> Epoch:
        """Return a pass over a partition; the same order wherever it is made."""
        known = self._epochs.get(partition)
        if known is None or known[0] != number:
            plan = self.plan
            rows = self.rows(partition)
            known = (number, Epoch(rows, plan.batch_size, plan.seed, number, partition))
            self._epochs.pop(partition, None)
            while len(self._epochs) >= MAX_ORDERS:
                del self._epochs[next(iter(self._epochs))]
            self._epochs[partition] = known
        return known[1]

    def open_round(self) -> FloatVector:
        """Map the word that says which averaging round is open."""
        vector = self._vectors.get("round")
        if vector is None:
            vector = self._vectors["round"] = SharedVector.open(self._folder / "round", 1, np.int64)
        return vector.array

    def _make(self, name: str, d: int, dtype: npt.DTypeLike) -> SharedVector:
        path = self._folder / name
        try:
            return SharedVector.create(path, d, dtype)
        except FileExistsError:  # this process had it, and let go of it for other trainings
            return SharedVector.open(path, d, dtype, writable=True)

    def _open(self, name: str, *, writable: bool) -> FloatVector:
        vector = self._vectors.get(name)
        if vector is None:
            learner = self.plan.learner
            vector = SharedVector.open(
                self._folder / name, learner.size, learner.dtype, writable=writable
            )
            self._vectors[name] = vector
        return vector.array


_attachments: dict[str, Attachment] = {}
"""By the folder of the training, which is unique: one process can serve several at a time."""


def attach(service: str, folder: str, context: JobContext) -> Attachment:
    """Return what this process has open for a training; ask the master for the plan at first.

    Whatever it computes from then on, it computes with as many threads as the others.
    """
    found = _attachments.get(folder)
    if found is None:
        for ended in [key for key, each in _attachments.items() if each.has_ended]:
            _attachments.pop(ended).hang_up()  # its memory is free when nobody maps it any more
        while len(_attachments) >= MAX_ATTACHMENTS:
            _attachments.pop(next(iter(_attachments))).hang_up()
        found = _attachments[folder] = _make(service, context)
    if found.blas_threads:
        use_threads(found.blas_threads)
    return found


def _make(service: str, context: JobContext) -> Attachment:
    here = calls.encode_value(arithmetic_here().as_plain(), trusted=False)
    agreed = calls.decode_value(context.call(service, "agree", here), trusted=False)
    plan = TrainingPlan.read(context.call(service, "plan", NOTHING), context)
    near = is_near(Path(plan.folder), plan.here)
    if not near:
        plan = plan.with_rows(FarRows(service, plan.rows.n_examples))
    return Attachment(
        plan,
        context.worker_id,
        is_near=near,
        blas_threads=agreed,
        on_compile=lambda: current().call(service, "compiles", NOTHING),
    )
