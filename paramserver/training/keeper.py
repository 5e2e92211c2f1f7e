"""Who keeps a training: when a checkpoint is due, what is in it, and what may go on from it.

Rule 1: it runs on the user's thread; the I/O thread makes one copy of the vectors and goes on.
Rule 2: a checkpoint is taken at once when training is interrupted: what is in flight is not waited
        for, it is computed again.
Rule 3: nothing is kept of a state that may be half changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from time import monotonic
from typing import Any, Final

from paramserver.errors import ClusterClosed, ConfigError, DataError
from paramserver.training.checkpoint import Checkpoints
from paramserver.training.checkpoint_file import TrainingState
from paramserver.training.result import History
from paramserver.training.run_constants import describe_machine, require_same, warn_of_machine
from paramserver.training.runs import Run
from paramserver.training.vector import FloatVector

CAPTURE_S: Final = 30.0
"""How long the I/O thread may take to hand out the state: it may be amid a long step."""
PAUSE_FACTOR: Final = 9.0
"""The least pause between two checkpoints, in the time that one takes: no more than a tenth of a
core goes into writing them."""
LAST_CAPTURE_S: Final = 5.0
"""The same when training is broken off, and somebody waits for the end."""


class Keeper:
    """Keeps one training in a folder, or nothing where there is no folder.

    Parameters
    ----------
    checkpoints : Checkpoints or None
        Locked by who calls.
    resume : bool
        Whether to go on from the newest checkpoint, if there is one.

    Attributes
    ----------
    recorded : TrainingState or None
        What is gone on from.

    Raises
    ------
    ConfigError
        If there are checkpoints of an earlier training, and it is not to be resumed.
    DataError
        If it is to be resumed, and all of its checkpoints are damaged.
    """

    def __init__(self, checkpoints: Checkpoints | None, *, resume: bool) -> None:
        self.recorded: TrainingState | None = None
        self._checkpoints = checkpoints
        self._constants: Mapping[str, Any] = {}
        self._machine: Mapping[str, Any] = {}
        self._next_at = inf
        self._unit_saved: int | None = None
        if checkpoints is None:
            if resume:
                raise ConfigError(
                    "resume=True needs the folder to go on from: checkpoints=Checkpoints(folder).",
                    field="resume",
                    value=resume,
                )
            return
        self._next_at = monotonic() + checkpoints.every_s
        if resume:
            self.recorded = _of_a_training(checkpoints.newest(), checkpoints)
            if self.recorded is None and (damaged := checkpoints.paths()):
                raise DataError(
                    f"All {len(damaged)} checkpoints in {checkpoints.folder} are damaged, so there "
                    "is nothing to go on from; nothing was changed. Begin a new training in "
                    "another folder, or bring one of these files back from a copy.",
                    path=str(checkpoints.folder),
                )
            if self.recorded is not None:
                self._unit_saved = self.recorded.meta["unit"]
        elif checkpoints.paths():
            raise ConfigError(
                f"{checkpoints.folder} holds the checkpoints of a training already. Go on with it "
                "(resume=True), or choose another folder.",
                field="checkpoints",
                value=str(checkpoints.folder),
            )

    def recorded_constant(self, name: str) -> Any:
        """Return a setting of the training that is gone on with; None if there is none."""
        return None if self.recorded is None else self.recorded.meta["constants"][name]

    def settle(self, constants: Mapping[str, Any]) -> None:
        """Take in what this training is; refuse another one than that which is recorded.

        Raises
        ------
        ConfigError
        """
        if self._checkpoints is None:
            return
        self._constants, self._machine = constants, describe_machine()
        if self.recorded is not None:
            require_same(self.recorded.meta["constants"], constants)
            warn_of_machine(self.recorded.meta["machine"], self._machine)

    def history(self) -> History:
        """Return what was told before the training was interrupted."""
        rows = [] if self.recorded is None else self.recorded.meta["history"]
        return History.from_rows(rows)

    def counters(self) -> dict[str, int]:
        """Return what became of the checkpoints; empty where none is written."""
        counted = {} if self._checkpoints is None else self._checkpoints.counters
        return {f"checkpoints_{what}": n for what, n in counted.items()}

    @property
    def due_in_s(self) -> float:
        """Seconds until the next checkpoint; infinite where none is written."""
        return max(0.0, self._next_at - monotonic())

    def save(
        self, run: Run, history: History, score: Callable[[FloatVector], float | None]
    ) -> None:
        """Write a checkpoint, if there is something new to write.

        Parameters
        ----------
        run : Run
        history : History
        score : callable
            Says how good weights are.
        """
        if self._checkpoints is not None:
            began = monotonic()
            self._write(_capture(run, CAPTURE_S), history, score)
            now = monotonic()
            self._next_at = now + max(self._checkpoints.every_s, PAUSE_FACTOR * (now - began))

    def rescue(self, run: Run, history: History) -> None:
        """Write what there is when training is broken off, as far as that can be had at once."""
        if self._checkpoints is not None and run.is_sound and run.began_at:
            self._write(_capture(run, LAST_CAPTURE_S), history, lambda _: None)

    def _write(
        self,
        state: TrainingState | None,
        history: History,
        score: Callable[[FloatVector], float | None],
    ) -> None:
        assert self._checkpoints is not None
        if state is None or state.meta["unit"] == self._unit_saved:
            return
        meta = state.meta | {
            "constants": self._constants,
            "machine": self._machine,
            "history": history.to_rows(),
        }
        path = self._checkpoints.save(TrainingState(meta, state.arrays), score(state.arrays["w"]))
        if path is not None:
            self._unit_saved = state.meta["unit"]


def _capture(run: Run, timeout_s: float) -> TrainingState | None:
    try:
        return run.capture(timeout_s)
    except (ClusterClosed, TimeoutError):  # training has its own ways to find that out
        return None


def _of_a_training(state: TrainingState | None, checkpoints: Checkpoints) -> TrainingState | None:
    """Refuse what somebody has saved there who is not `fit`."""
    if state is not None and "constants" not in state.meta:
        raise ConfigError(
            f"The newest checkpoint in {checkpoints.folder} is not one of a training by `fit`. "
            "Choose another folder.",
            field="checkpoints",
            value=str(checkpoints.folder),
        )
    return state
