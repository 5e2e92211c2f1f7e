"""Everything that can be set for a training run. Values only; the one place for defaults.

Rule 1: a field is an option of the command line, a key of ``config.toml`` and (as
        ``PARAMSERVER_NAME``) an environment variable, under the same name.
Rule 2: it imports nothing slow: the command line is parsed with it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from paramserver.config import nearest
from paramserver.errors import ConfigError

AVG, ASYNC = "avg", "async"

ONLY = {
    AVG: (
        "rounds", "local_epochs", "wait_for", "tail", "outer", "outer_lr", "outer_momentum"
    ),
    ASYNC: ("epochs", "optimizer", "staleness_bound", "staleness_aware", "clip_norm"),
}  # fmt: skip
"""Settings that mean something in one mode only."""

RESUMABLE = (
    "mode", "out", "no_out", "rounds", "epochs", "target_score", "time_limit", "workers",
    "checkpoint_every", "address", "keys", "baseline", "json", "quiet", "dashboard",
)  # fmt: skip
"""Settings that only say when to end, and where: they may be others when a run is resumed."""

PASSING = ("out", "no_out", "json", "quiet", "dashboard")
"""... and those of them that belong to one start of the program, and are not kept."""

CHOICES = {
    "activation": ("relu", "tanh"),
    "dtype": ("float32", "float64"),
    "kernel": ("auto", "numpy", "numba"),
    "outer": ("none", "momentum", "nesterov"),
    "class_weight": ("none", "balanced"),
    "partitioning": ("shuffled", "contiguous", "stratified"),
}
"""Settings with few values."""


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What ``paramserver train`` is told. See its ``--help`` for what each field means."""

    mode: str
    data: str = "digits"
    test: str | None = None
    label: str | None = None
    model: str = "auto"
    batch_size: int = 32
    lr: float | None = None
    l2: float = 1e-4
    l1: float = 0.0
    hidden: str = "128"
    activation: str = "relu"
    dtype: str = "float32"
    kernel: str = "auto"
    seed: int = 0
    class_weight: str = "none"
    workers: int | None = None
    partitions: int | None = None
    partitioning: str = "shuffled"
    local_steps: int | None = None
    rounds: int = 20
    local_epochs: int = 1
    wait_for: int | None = None
    tail: float = 0.0
    outer: str = "none"
    outer_lr: float = 0.7
    outer_momentum: float = 0.9
    epochs: int = 20
    optimizer: str = "sgd"
    staleness_bound: str = "none"
    staleness_aware: bool = False
    clip_norm: float | None = None
    target_score: float | None = None
    time_limit: float | None = None
    out: str | None = None
    no_out: bool = False
    checkpoint_every: float = 10.0
    address: str | None = None
    keys: str | None = None
    baseline: bool = True
    json: bool = False
    quiet: bool = False
    dashboard: bool = False

    def __post_init__(self) -> None:
        if self.mode not in (AVG, ASYNC):
            hint = nearest(self.mode, (AVG, ASYNC))
            _refuse("mode", self.mode, f"is 'avg' or 'async', not '{self.mode}'.{hint}")
        for name in ("l2", "l1", "seed"):
            value = getattr(self, name)
            if not value >= 0:
                _refuse(name, value, f"must be 0 or more, not {value:g}.")
        for name in ("time_limit", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                _refuse(name, value, f"must be above 0, not {value:g}.")
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                _refuse(name, value, f"is {' or '.join(allowed)}, not '{value}'.")
        if self.outer == "none":
            for name in ("outer_lr", "outer_momentum"):
                if getattr(self, name) != getattr(TrainSettings, name):
                    _refuse(name, getattr(self, name), "goes with --outer momentum or nesterov.")
        if self.workers is not None and self.workers < 1:
            _refuse("workers", self.workers, f"must be 1 or more, not {self.workers}.")
        if (self.address is None) != (self.keys is None):
            missing = "keys" if self.keys is None else "address"
            _refuse(
                missing,
                None,
                "is missing: --address tcp://HOST:PORT and --keys DIR go together. `paramserver "
                "keys DIR` makes the keys.",
            )
        if self.address is not None and self.workers is None:
            _refuse(
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
        foreign = ONLY[ASYNC if self.mode == AVG else AVG]
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in foreign and name not in PASSING
        }


def kinds() -> dict[str, type]:
    """Return the type of each setting, without "or None"."""
    hints = get_type_hints(TrainSettings)
    return {field.name: _kind(hints[field.name]) for field in fields(TrainSettings)}


def flag(name: str) -> str:
    """Return how a setting is typed on the command line."""
    return "--no-baseline" if name == "baseline" else "--" + name.replace("_", "-")


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
    other = ASYNC if mode == AVG else AVG
    for name, source in given.items():
        if name in ONLY[other]:
            known = ", ".join(flag(known) for known in ONLY[mode])
            _refuse(name, source, f"goes with --mode {other}; --mode {mode} knows {known}.", source)
        if resumes and source != "file" and name not in RESUMABLE:
            _refuse(
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
        _refuse("staleness_bound", text, words)
    return int(text)


def _units(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        words = f"is the units of each hidden layer, as in 128 or 256,64, not '{text}'."
        _refuse("hidden", text, words)
    return tuple(int(part) for part in parts)


def _kind(hint: Any) -> type:
    if get_origin(hint) is UnionType:
        hint = next(part for part in get_args(hint) if part is not NoneType)
    assert isinstance(hint, type)
    return hint


def _refuse(name: str, value: Any, words: str, source: str = "") -> None:
    said = f"PARAMSERVER_{name.upper()}" if source == "environment" else flag(name)
    raise ConfigError(f"{said} {words}", field=name, value=value)
