"""When a training has gone far enough: callbacks that look at `Progress` and say so.

Rule 1: a callback is called on the user's thread with each `Progress`; when it returns True,
        training ends at the next good moment.
Rule 2: one that remembers has a method `begin`, called first, with what an earlier part of the
        same training has told, so that one that is resumed ends where an uninterrupted one would.
Rule 3: one that looks deeper has a method `attach`, called before all others with the run itself
        (`runs.Run`), of which it only reads.
Rule 4: one that has a method `look` is shown the weights first, each time before it is called: a
        copy, its own to keep.
Rule 5: one that has a method `hear` is told in words what a training waits for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from paramserver.errors import ConfigError
from paramserver.training.result import Progress


class Callback(Protocol):
    """Anything that can be called with a `Progress`; a function will do."""

    def __call__(self, progress: Progress, /) -> object:
        """Take in how far a training is; return True to end it."""


Callbacks: TypeAlias = Sequence[Callback]
"""Some of them; all are called, in this order."""


@dataclass
class EarlyStopping:
    """End when nothing gets better any more.

    Parameters
    ----------
    patience : int, default=5
        How many evaluations in a row may bring no improvement; the last of them ends the training.
    min_delta : float, default=0
        What counts as an improvement is more than this.
    monitor : {"test_score", "train_loss"}
        What is watched: a score has to rise, a loss to fall.

    Examples
    --------
    >>> from paramserver.training.callbacks import EarlyStopping
    >>> from paramserver.training.result import Progress
    >>> stop = EarlyStopping(patience=2)
    >>> [stop(Progress(i, i, i, 0.0, score)) for i, score in enumerate((0.5, 0.9, 0.8, 0.9))]
    [False, False, False, True]
    """

    patience: int = 5
    min_delta: float = 0.0
    monitor: str = "test_score"
    _best: float | None = field(default=None, init=False, repr=False)
    _n_worse: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ConfigError(
                f"patience must be 1 or more, not {self.patience}.",
                field="patience",
                value=self.patience,
            )
        if not self.min_delta >= 0:
            raise ConfigError(
                f"min_delta must be 0 or more, not {self.min_delta}.",
                field="min_delta",
                value=self.min_delta,
            )
        if self.monitor not in ("test_score", "train_loss"):
            raise ConfigError(
                f"monitor is 'test_score' or 'train_loss', not '{self.monitor}'.",
                field="monitor",
                value=self.monitor,
            )

    def begin(self, history: Sequence[Progress]) -> None:
        """Forget other trainings; take in what this one has told before it was resumed."""
        self._best, self._n_worse = None, 0
        for progress in history:
            self(progress)

    def __call__(self, progress: Progress) -> bool:
        """Say whether it is time to end."""
        if self.monitor == "train_loss":
            value = -progress.train_loss
        else:
            value = _test_score(progress, "EarlyStopping(monitor='test_score')")
        if self._best is None or value > self._best + self.min_delta:
            self._best, self._n_worse = value, 0
        else:
            self._n_worse += 1
        return self._n_worse >= self.patience


@dataclass
class TargetScore:
    """End when the held-out score is good enough.

    Parameters
    ----------
    score : float
    in_a_row : int, default=1
        How many evaluations in a row have to reach it: 2 tells a level from a lucky moment.
    """

    score: float
    in_a_row: int = 1
    _n_reached: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.in_a_row < 1:
            raise ConfigError(
                f"in_a_row must be 1 or more, not {self.in_a_row}.",
                field="in_a_row",
                value=self.in_a_row,
            )

    def begin(self, history: Sequence[Progress]) -> None:
        """Forget other trainings; take in what this one has told before it was resumed."""
        self._n_reached = 0
        for progress in history[-self.in_a_row :]:
            self(progress)

    def __call__(self, progress: Progress) -> bool:
        """Say whether it is time to end."""
        reached = _test_score(progress, "TargetScore") >= self.score
        self._n_reached = self._n_reached + 1 if reached else 0
        return self._n_reached >= self.in_a_row


@dataclass
class TimeLimit:
    """End after so much time of training, that before it was resumed included.

    Parameters
    ----------
    seconds : float
        The round that is open then is still finished (averaging).
    """

    seconds: float

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise ConfigError(
                f"A time limit must be above 0 seconds, not {self.seconds}.",
                field="seconds",
                value=self.seconds,
            )

    def __call__(self, progress: Progress) -> bool:
        """Say whether it is time to end."""
        return progress.wall_s >= self.seconds


def _test_score(progress: Progress, who: str) -> float:
    if progress.test_score is None:
        raise ConfigError(
            f"{who} watches the score on held-out rows, and there are none: give some "
            "(test=(X, y)).",
            field="test",
            value=None,
        )
    return progress.test_score
