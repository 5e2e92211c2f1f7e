"""From settings to what is trained: data, learner and mode, all chosen and written down.

Rule 1: nothing is started and nothing is written here; what cannot be is refused in words.
Rule 2: every choice that was left to the program ("auto", one for each core) ends up as a value in
        `Prepared.settings`, so that these settings alone repeat the run.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from paramserver.commands.settings import AVG, TrainSettings
from paramserver.data.dataset import Dataset
from paramserver.data.datasets import LOADERS, load
from paramserver.data.readers import LARGE_BYTES, read_files
from paramserver.errors import ConfigError
from paramserver.models.kernels.choice import settle
from paramserver.models.named import make_model
from paramserver.runtime.cores import n_cores
from paramserver.training.callbacks import TargetScore, TimeLimit
from paramserver.training.intake import SELF_SCALED, choose_lr, take_in
from paramserver.training.learner import Batch, Learner
from paramserver.training.modes import AsyncSGD, Averaging
from paramserver.training.optimizers import Momentum, Optimizer, make_optimizer
from paramserver.training.plan import kernel_of

if TYPE_CHECKING:
    from paramserver.cluster import Cluster


@dataclass(frozen=True)
class Prepared:
    """A run that could begin.

    Attributes
    ----------
    settings : TrainSettings
        With every choice made.
    dataset : Dataset
    learner : Learner
    mode : Averaging or AsyncSGD
    n_workers : int
    """

    settings: TrainSettings
    dataset: Dataset
    learner: Learner
    mode: Averaging | AsyncSGD
    n_workers: int

    @property
    def callbacks(self) -> list[TargetScore | TimeLimit]:
        """What ends the run before its rounds or epochs are over."""
        target, limit_s = self.settings.target_score, self.settings.time_limit
        found: list[TargetScore | TimeLimit] = []
        if target is not None:
            found.append(TargetScore(target))
        if limit_s is not None:
            found.append(TimeLimit(limit_s))
        return found

    @property
    def lr(self) -> float:
        """The learning rate, chosen."""
        assert self.settings.lr is not None
        return self.settings.lr

    @property
    def lr_is(self) -> str:
        """What the learning rate is where it was not given, in words."""
        if self.settings.mode != AVG and self.settings.optimizer in SELF_SCALED:
            return f"usual for {self.settings.optimizer}"
        has_bound = hasattr(self.learner, "curvature")
        return "1 / L of the data" if has_bound else "usual for this model"

    @property
    def kernel(self) -> str:
        """Which kernel computes on a partition; empty where the model does not tell."""
        n = len(self.dataset.y_train) // (self.mode.n_partitions or 1)
        rows = Batch(self.dataset.X_train[:n], self.dataset.y_train[:n])
        return kernel_of(self.learner, rows, self.mode, self.settings.batch_size)

    @property
    def total(self) -> float:
        """Rounds or epochs to come to."""
        return float(self.settings.rounds if self.settings.mode == AVG else self.settings.epochs)


def is_large(settings: TrainSettings) -> bool:
    """Say whether the data are read by the workers, so that a cluster has to be there first."""
    paths = [path for path in (settings.data, settings.test) if path and not is_name(path)]
    files = [file for path in map(Path, paths) for file in ([path], path.glob("*.npy"))]
    found = [each for group in files for each in group if each.is_file()]
    return sum(file.stat().st_size for file in found) >= LARGE_BYTES


def load_data(settings: TrainSettings, cluster: Cluster | None = None) -> Dataset:
    """Return the data set by its name, or from its file.

    Parameters
    ----------
    settings : TrainSettings
    cluster : Cluster, optional
        Its workers read what is large.

    Raises
    ------
    ConfigError
        If there is no data set of that name, or a setting does not go with it.
    DataError
        If a file is not what it should be.
    """
    data = settings.data
    if not is_name(data):
        return read_files(
            data,
            settings.test,
            label=settings.label,
            weight=settings.weight,
            key=settings.key,
            seed=settings.seed,
            dtype=settings.dtype,
            cluster=cluster,
            n_partitions=settings.partitions,
            partition=settings.partitioning,
        )
    for name in ("test", "label", "weight", "key"):
        if (value := getattr(settings, name)) is not None:
            raise ConfigError(
                f"--{name} goes with a file, and '{data}' is the name of a data set.",
                field=name,
                value=value,
            )
    return load(data, seed=settings.seed, dtype=settings.dtype)


def is_name(data: str) -> bool:
    """Say whether this is the name of a data set rather than that of a file or folder."""
    return data in LOADERS or not ("." in data or os.sep in data or Path(data).exists())


def prepare(settings: TrainSettings, dataset: Dataset) -> Prepared:
    """Make every choice that is left.

    Raises
    ------
    ConfigError
        If a setting is not allowed, or does not go with the data.
    """
    learner, model = make_model(
        settings.model,
        dataset.n_features,
        dataset.n_classes,
        settings.l2,
        settings.dtype,
        l1=settings.l1,
        kernel=settings.kernel,
        hidden=settings.units,
        activation=settings.activation,
    )
    mode = _mode(settings)
    if settings.batch_size < 1:
        raise ConfigError(
            f"batch_size must be 1 or more, not {settings.batch_size}.",
            field="batch_size",
            value=settings.batch_size,
        )
    lr = settings.lr
    if lr is None:
        rows, _ = take_in(learner, dataset, None, class_weight(settings))
        optimizer = "sgd" if settings.mode == AVG else settings.optimizer
        lr = choose_lr(learner, rows, settings.seed, optimizer)
    make_optimizer("sgd", lr)  # refuses what is no learning rate
    n_workers = settings.workers or n_cores()
    partitions = settings.partitions or min(n_workers, len(dataset.y_train))
    if partitions > len(dataset.y_train):
        raise ConfigError(
            f"{len(dataset.y_train)} examples cannot be cut into {partitions} partitions: use "
            "fewer partitions or workers.",
            field="partitions",
            value=partitions,
        )
    made = replace(
        settings,
        data=settings.data if is_name(settings.data) else str(Path(settings.data).absolute()),
        test=None if settings.test is None else str(Path(settings.test).absolute()),
        keys=None if settings.keys is None else str(Path(settings.keys).absolute()),
        model=model,
        kernel=settle(settings.kernel),  # numba may have come when the run is repeated or resumed
        lr=lr,
        workers=n_workers,
        partitions=partitions,
    )
    return Prepared(made, dataset, learner, replace(mode, n_partitions=partitions), n_workers)


def class_weight(settings: TrainSettings) -> str | None:
    """Return the class weight as `fit` takes it."""
    return None if settings.class_weight == "none" else settings.class_weight


def _outer(settings: TrainSettings) -> Optimizer | None:
    if settings.outer == "none":
        return None
    is_nesterov = settings.outer == "nesterov"
    return Momentum(settings.outer_lr, settings.outer_momentum, nesterov=is_nesterov)


def _mode(settings: TrainSettings) -> Averaging | AsyncSGD:
    if settings.mode == AVG:
        return Averaging(
            rounds=settings.rounds,
            local_epochs=settings.local_epochs,
            local_steps=settings.local_steps,
            n_partitions=settings.partitions,
            wait_for=settings.wait_for,
            tail=settings.tail,
            outer=_outer(settings),
        )
    return AsyncSGD(
        epochs=settings.epochs,
        optimizer=settings.optimizer,
        staleness_bound=settings.bound,
        staleness_aware=settings.staleness_aware,
        clip_norm=settings.clip_norm,
        local_steps=1 if settings.local_steps is None else settings.local_steps,
        n_partitions=settings.partitions,
    )
