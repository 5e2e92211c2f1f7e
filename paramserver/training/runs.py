"""What `fit` asks of a training on its way, wherever it runs: on a cluster, or in this process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Protocol

from paramserver.training.checkpoint_file import TrainingState
from paramserver.training.measures import Measures, Snapshot
from paramserver.training.plan import TrainingPlan
from paramserver.training.timeline import Timeline


class Run(Protocol):
    """One training; see `run.TrainingRun` and `inline.InlineRun`."""

    plan: TrainingPlan
    is_sound: bool
    began_at: float
    setup_s: float

    @property
    def timeline(self) -> Timeline:
        """When which job was where; empty where there are no jobs."""

    @property
    def ended_at(self) -> float: ...

    @property
    def final(self) -> Snapshot | None: ...

    @property
    def staleness(self) -> Counter[int] | None:
        """How many updates had which staleness; None for averaging."""

    @property
    def staleness_by_worker(self) -> dict[str, Counter[int]]: ...

    def refused(self) -> dict[str, int]:
        """Return what was not applied, by reason."""

    def start(self, tell: Callable[[str], object]) -> None:
        """Begin. What the user should know while it lasts is told in words, on this thread."""

    def stop(self) -> None: ...

    def go_on(self) -> None: ...

    def wait(self, timeout_s: float, *, look: bool, not_before_s: float = 0.0) -> Snapshot | None:
        """Return a copy of the weights, or None when the time is up or the run has ended."""

    def nudge(self) -> None: ...

    def break_away(self, timeout_s: float) -> None: ...

    def capture(self, timeout_s: float = 30.0) -> TrainingState: ...

    def restore(self, state: TrainingState) -> None: ...

    def measures(self) -> Measures: ...

    def take_differences(self) -> dict[str, str]:
        """Return what of some workers' arithmetic differs, with one that does; each once."""

    def close(self) -> None: ...
