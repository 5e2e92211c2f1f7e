"""`fit` as users call it: the training of `training.session`, with somebody watching.

Rule 1: it adds what is shown and changes nothing else: the same arguments give the same weights.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

import paramserver
from paramserver.observe.display import Display, Silence, choose_display
from paramserver.observe.events import RunStarted
from paramserver.observe.notebook import NotebookView, is_notebook
from paramserver.observe.watch import Watch
from paramserver.training import session
from paramserver.training.callbacks import Callbacks
from paramserver.training.checkpoint import Checkpoints
from paramserver.training.learner import Learner
from paramserver.training.modes import Averaging, Mode
from paramserver.training.result import Progress, TrainingResult

if TYPE_CHECKING:
    from paramserver.cluster import Cluster


def fit(
    learner: Learner,
    data: Any,
    *,
    mode: Mode,
    cluster: Cluster | None,
    test: Any = None,
    sample_weight: npt.ArrayLike | None = None,
    class_weight: str | Mapping[Any, float] | None = None,
    partition: str | npt.ArrayLike = "shuffled",
    batch_size: int = 32,
    lr: float | str = "auto",
    seed: int = 0,
    start: npt.ArrayLike | None = None,
    on_progress: Callable[[Progress], object] | None = None,
    callbacks: Callbacks = (),
    in_step: bool = False,
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    verbose: bool | None = None,
) -> TrainingResult:
    display = _display(verbose)
    if display is None and cluster is not None and cluster.has_dashboard:
        display = Silence()
    options: dict[str, Any] = {
        "mode": mode,
        "cluster": cluster,
        "test": test,
        "sample_weight": sample_weight,
        "class_weight": class_weight,
        "partition": partition,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "start": start,
        "on_progress": on_progress,
        "in_step": in_step,
        "checkpoints": checkpoints,
        "resume": resume,
    }
    if display is None:
        return session.fit(learner, data, callbacks=callbacks, **options)
    started = _started(learner, data, mode, cluster, resumed=resume)
    dealt = partition if isinstance(partition, str) else "as given"
    given = {"partition": dealt, "batch_size": batch_size, "lr": lr, "seed": seed}
    config = {f.name: getattr(mode, f.name) for f in fields(mode)} | given
    command = f"ps.fit({type(learner).__name__}(...), data, mode={mode!r}, cluster=cluster, ...)"
    with Watch(cluster, started, display, config=config, command=command) as watch:
        return session.fit(learner, data, callbacks=[*callbacks, watch], **options)


VERBOSE: Final = """verbose : bool, optional
        Whether to show how the training goes on: by a table in a terminal, by figures and a curve
        in a notebook, by lines elsewhere. By default it is shown where somebody watches: in a
        terminal and in a notebook.

    Returns
    """
assert session.fit.__doc__ is not None
fit.__doc__ = session.fit.__doc__.replace("Returns\n    ", VERBOSE, 1)


def _display(verbose: bool | None) -> Display | None:
    if verbose is False:
        return None
    if is_notebook():
        return NotebookView()
    if verbose or sys.stderr.isatty():
        return choose_display(sys.stderr)
    return None


def _started(
    learner: Learner, data: Any, mode: Mode, cluster: Cluster | None, *, resumed: bool
) -> RunStarted:
    n_rows, n_features = _shape(data)
    n_workers = 1 if cluster is None else cluster.n_wanted
    return RunStarted(
        version=paramserver.__version__,
        mode="avg" if isinstance(mode, Averaging) else "async",
        model=type(learner).__name__,
        data="arrays",
        n_workers=n_workers,
        n_partitions=mode.n_partitions or min(n_workers, n_rows),
        n_examples=n_rows,
        n_features=n_features,
        n_parameters=learner.size,
        total=float(mode.rounds if isinstance(mode, Averaging) else mode.epochs),
        host=socket.gethostname(),
        pid=os.getpid(),
        resumed=resumed,
    )


def _shape(data: Any) -> tuple[int, int]:
    """Return rows and features as far as they can be seen; what is no data is refused later."""
    X: Any = getattr(data, "X_train", None)
    if X is None and isinstance(data, (tuple, list)) and data:
        X = data[0]
    try:
        shape = getattr(X, "shape", None) or np.shape(X)
    except ValueError:  # rows of unequal length
        return 0, 0
    return (shape[0] if shape else 0), (shape[1] if len(shape) > 1 else 1)
