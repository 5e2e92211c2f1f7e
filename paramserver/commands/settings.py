"""Everything that can be set for a training run. Values only; the one place for defaults.

Rule 1: a field is an option of the command line, a key of ``config.toml`` and (as
        ``PARAMSERVER_NAME``) an environment variable, under the same name.
Rule 2: it imports nothing slow: the command line is parsed with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from paramserver.commands.setting import Group, Lasts, abouts, flag, kinds_of, refuse, setting
from paramserver.config import nearest

AVG, ASYNC = "avg", "async"

DATA = Group("Data")
MODEL = Group("Model and steps")
AVERAGING = Group("Averaging (--mode avg)", mode=AVG)
PUSHING = Group("Asynchronous SGD (--mode async)", mode=ASYNC)
RUN = Group("Where and how long")
SHOW = Group("What is shown")


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What ``paramserver train`` is told, in the order of its ``--help``."""

    mode: str
    data: str = setting(
        "digits",
        DATA,
        "NAME|PATH",
        "A data set on this machine (a wrong name lists them), or a file: .csv, .tsv, .svm, also "
        ".gz, .npz, or a folder with X.npy and y.npy.",
    )
    test: str | None = setting(
        None, DATA, "PATH", "File with the held-out rows; by default a random fifth."
    )
    label: str | None = setting(
        None,
        DATA,
        "NAME",
        "Column of the label in a table, by its name or by its number from 1; by default the last. "
        "In .npz files the array; by default y.",
    )
    weight: str | None = setting(
        None,
        DATA,
        "NAME",
        "Column that says how much each row counts; by default all count the same.",
    )
    key: str | None = setting(
        None, DATA, "NAME", "Column for --partitioning by-key; in svmlight files 'qid'."
    )
    partitions: int | None = setting(
        None,
        DATA,
        "P",
        "Pieces of the data; by default one for each worker. They are part of the result.",
    )
    partitioning: str = setting(
        "shuffled",
        DATA,
        "HOW",
        "How rows are dealt out: shuffled, contiguous, stratified, or by-key: those with the same "
        "--key together.",
        choices=("shuffled", "contiguous", "stratified", "by-key"),
    )
    class_weight: str = setting(
        "none",
        DATA,
        "",
        "'balanced' lets rare classes count as much as frequent ones.",
        choices=("none", "balanced"),
    )
    model: str = setting(
        "auto",
        MODEL,
        "NAME",
        "softmax, logistic, hinge, ridge or mlp; by default softmax for classes, ridge for "
        "numbers.",
    )
    batch_size: int = setting(32, MODEL, "B", "Examples of one step.")
    lr: float | None = setting(
        None,
        MODEL,
        "X",
        "Learning rate; by default 1 / L of a sample of the data, or what is usual for adagrad,"
        " adam or mlp.",
    )
    l2: float = setting(1e-4, MODEL, "X", "Strength of the penalty (l2 / 2) ||w||^2.")
    l1: float = setting(0.0, MODEL, "X", "Strength of the penalty l1 |w|.")
    hidden: str = setting("128", MODEL, "N[,N]", "Units of the hidden layers of mlp.")
    activation: str = setting(
        "relu", MODEL, "", "Between the layers of mlp.", choices=("relu", "tanh")
    )
    dtype: str = setting(
        "float32", MODEL, "", "Of data and weights.", choices=("float32", "float64")
    )
    kernel: str = setting(
        "auto",
        MODEL,
        "",
        "What takes the steps; the same numbers to rounding.",
        choices=("auto", "numpy", "numba"),
    )
    local_steps: int | None = setting(
        None, MODEL, "H", "Steps in a round instead of passes (avg), or behind a push (async)."
    )
    seed: int = setting(0, MODEL, "N", "Of everything that is left to chance.")
    rounds: int = setting(20, AVERAGING, "R", "Averaging rounds.", lasts=Lasts.TILL_RESUMED)
    local_epochs: int = setting(1, AVERAGING, "K", "Passes of each learner in a round.")
    wait_for: int | None = setting(None, AVERAGING, "K", "Average when so many learners are done.")
    tail: float = setting(
        0.0, AVERAGING, "PART", "Return the mean of this last part of the rounds."
    )
    outer: str = setting(
        "none",
        AVERAGING,
        "NAME",
        "Step of the master along the averaged change: none takes the average itself; momentum;"
        " nesterov, as in DiLoCo.",
        choices=("none", "momentum", "nesterov"),
    )
    outer_lr: float = setting(0.7, AVERAGING, "X", "Learning rate of --outer.")
    outer_momentum: float = setting(0.9, AVERAGING, "X", "Momentum of --outer.")
    epochs: int = setting(20, PUSHING, "E", "Passes over the data.", lasts=Lasts.TILL_RESUMED)
    optimizer: str = setting(
        "sgd", PUSHING, "NAME", "On the master: sgd, momentum, nesterov, adagrad or adam."
    )
    staleness_bound: str = setting(
        "none",
        PUSHING,
        "S|none",
        "Steps a worker may be ahead of the slowest: 0 is synchronous, 'none' has no bound.",
    )
    staleness_aware: bool = setting(
        False, PUSHING, "", "Divide the learning rate of a gradient by its staleness."
    )
    clip_norm: float | None = setting(None, PUSHING, "X", "Shrink longer gradients.")
    workers: int | None = setting(
        None,
        RUN,
        "N",
        "Worker processes; by default one for each core. With --address: how many to wait for.",
        lasts=Lasts.TILL_RESUMED,
    )
    target_score: float | None = setting(
        None, RUN, "A", "End as soon as the held-out score is reached.", lasts=Lasts.TILL_RESUMED
    )
    time_limit: float | None = setting(
        None, RUN, "S", "End after so many seconds of training.", lasts=Lasts.TILL_RESUMED
    )
    out: str | None = setting(
        None,
        RUN,
        "DIR",
        "New or empty folder for the run; by default runs/TIME-MODE.",
        lasts=Lasts.ONCE,
    )
    no_out: bool = setting(False, RUN, "", "Keep nothing.", lasts=Lasts.ONCE)
    checkpoint_every: float = setting(
        10.0, RUN, "S", "Seconds between two checkpoints.", lasts=Lasts.TILL_RESUMED
    )
    address: str | None = setting(
        None,
        RUN,
        "tcp://HOST:PORT",
        "Listen here for workers on other machines.",
        lasts=Lasts.TILL_RESUMED,
    )
    keys: str | None = setting(
        None, RUN, "DIR", "Folder made by `paramserver keys`.", lasts=Lasts.TILL_RESUMED
    )
    baseline: bool = setting(
        True,
        SHOW,
        "",
        "Compare with one scikit-learn process on the same data.",
        lasts=Lasts.TILL_RESUMED,
    )
    json: bool = setting(False, SHOW, "", "Print the summary on the last line.", lasts=Lasts.ONCE)
    dashboard: bool = setting(
        False,
        SHOW,
        "",
        "Serve a live page of the training on this machine, and print its link.",
        lasts=Lasts.ONCE,
    )
    quiet: bool = setting(
        False, SHOW, "", "Print nothing but errors (and --json).", lasts=Lasts.ONCE
    )

    def __post_init__(self) -> None:
        if self.mode not in (AVG, ASYNC):
            hint = nearest(self.mode, (AVG, ASYNC))
            refuse("mode", self.mode, f"is 'avg' or 'async', not '{self.mode}'.{hint}")
        for name in ("l2", "l1", "seed"):
            value = getattr(self, name)
            if not value >= 0:
                refuse(name, value, f"must be 0 or more, not {value:g}.")
        for name in ("time_limit", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                refuse(name, value, f"must be above 0, not {value:g}.")
        for name, about in abouts(TrainSettings):
            value = getattr(self, name)
            if about.choices and value not in about.choices:
                refuse(name, value, f"is {' or '.join(about.choices)}, not '{value}'.")
        if self.outer == "none":
            for name in ("outer_lr", "outer_momentum"):
                if getattr(self, name) != getattr(TrainSettings, name):
                    refuse(name, getattr(self, name), "goes with --outer momentum or nesterov.")
        if (self.key is None) != (self.partitioning != "by-key"):
            refuse(
                "key",
                self.key,
                "goes with --partitioning by-key: rows with the same value in that column come to "
                "the same partition.",
            )
        if self.workers is not None and self.workers < 1:
            refuse("workers", self.workers, f"must be 1 or more, not {self.workers}.")
        if (self.address is None) != (self.keys is None):
            missing = "keys" if self.keys is None else "address"
            refuse(
                missing,
                None,
                "is missing: --address tcp://HOST:PORT and --keys DIR go together. `paramserver "
                "keys DIR` makes the keys.",
            )
        if self.address is not None and self.workers is None:
            refuse(
                "workers",
                None,
                "is missing: how many workers of other machines begin the training.",
            )
        _bound(self.staleness_bound)
        _units(self.hidden)

    @property
    def bound(self) -> int | None:
        """The staleness bound as a number; None for none."""
        return _bound(self.staleness_bound)

    @property
    def units(self) -> tuple[int, ...]:
        """Units of the hidden layers of an MLP."""
        return _units(self.hidden)

    def to_keep(self) -> dict[str, Any]:
        """Return what ``config.toml`` holds: all that this mode knows and that makes the result."""
        return {"mode": self.mode} | {
            name: getattr(self, name)
            for name, about in abouts(TrainSettings)
            if about.group.mode in ("", self.mode) and about.lasts is not Lasts.ONCE
        }


def kinds() -> dict[str, type]:
    """Return the type of each setting, without "or None"."""
    return kinds_of(TrainSettings)


def check_sources(mode: str, given: dict[str, str], *, resumes: bool) -> None:
    """Refuse settings that would be ignored, or that would make a resumed run another one.

    Parameters
    ----------
    mode : str
    given : dict of str to str
        For each setting that is not a default: where it comes from ("command line",
        "environment", "file").
    resumes : bool

    Raises
    ------
    ConfigError
    """
    of_mode = [flag(name) for name, about in abouts(TrainSettings) if about.group.mode == mode]
    for name, about in abouts(TrainSettings):
        if name not in given:
            continue
        source = given[name]
        if about.group.mode not in ("", mode):
            words = (
                f"goes with --mode {about.group.mode}; --mode {mode} knows {', '.join(of_mode)}."
            )
            refuse(name, source, words, source)
        if resumes and source != "file" and about.lasts is Lasts.ALWAYS:
            refuse(
                name,
                source,
                "cannot change while a run is resumed: it would be another run. Start a new one "
                "from the old settings with  --config DIR/config.toml",
                source,
            )


def _bound(text: str) -> int | None:
    if text.lower() == "none":
        return None
    if not text.isdecimal():
        words = f"is a number of steps or 'none', not '{text}'."
        refuse("staleness_bound", text, words)
    return int(text)


def _units(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        words = f"is the units of each hidden layer, as in 128 or 256,64, not '{text}'."
        refuse("hidden", text, words)
    return tuple(int(part) for part in parts)
