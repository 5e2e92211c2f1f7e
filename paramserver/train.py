"""``python -m paramserver.train``: train a model on all cores, and say honestly what it brought.

Rule 1: the first line is printed before anything slow is imported.
Rule 2: it decides nothing about training: it reads settings, calls `fit` and prints.
Rule 3: exit codes: 0 done, 1 failed, 77 a setting that cannot be.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

import paramserver
from paramserver.errors import ConfigError, ParamServerError

if TYPE_CHECKING:
    from paramserver.data.datasets import Dataset
    from paramserver.training.learner import Learner
    from paramserver.training.modes import AsyncSGD, Averaging
    from paramserver.training.result import Progress, TrainingResult

EXIT_FAILED = 1
EXIT_CONFIG = 77
EXIT_USAGE = 2
BASELINE_MAX_S = 60.0
BASELINE_MAX_EPOCHS = 200


class Mode(StrEnum):
    """How to train."""

    AVG = "avg"
    ASYNC = "async"


app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


ONLY = {
    Mode.AVG: ("rounds", "local_epochs", "wait_for", "tail"),
    Mode.ASYNC: ("epochs", "optimizer", "staleness_bound", "clip_norm"),
}
"""Options that mean something in one mode only."""


@app.command()
def train(
    context: typer.Context,
    mode: Annotated[
        Mode, typer.Option(help="Rounds of averaging, or asynchronous pushes of gradients.")
    ],
    data: Annotated[
        str,
        typer.Option(help="Name of a data set on this machine, or a file: .csv, .csv.gz, .npz."),
    ] = "digits",
    test: Annotated[
        str | None, typer.Option(help="File with the held-out rows; by default a random fifth.")
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Column of the label in a CSV file; by default the last.")
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            help="softmax, logistic, hinge, ridge or mlp; by default softmax for classes, ridge "
            "for numbers."
        ),
    ] = "auto",
    workers: Annotated[
        int | None, typer.Option(help="Worker processes; by default one for each core.")
    ] = None,
    partitions: Annotated[
        int | None, typer.Option(help="Pieces of the data; by default one for each worker.")
    ] = None,
    rounds: Annotated[int, typer.Option(help="Averaging rounds (--mode avg).")] = 20,
    local_epochs: Annotated[
        int, typer.Option(help="Passes of each learner in a round (--mode avg).")
    ] = 1,
    local_steps: Annotated[
        int | None,
        typer.Option(help="Steps in a round instead of passes (avg), or behind a push (async)."),
    ] = None,
    wait_for: Annotated[
        int | None, typer.Option(help="Average when so many learners are done (--mode avg).")
    ] = None,
    tail: Annotated[
        float,
        typer.Option(help="Return the mean of this last part of the rounds (--mode avg)."),
    ] = 0.0,
    epochs: Annotated[int, typer.Option(help="Passes over the data (--mode async).")] = 20,
    optimizer: Annotated[
        str,
        typer.Option(
            help="sgd, momentum, nesterov, adagrad or adam, on the master (--mode async)."
        ),
    ] = "sgd",
    staleness_bound: Annotated[
        str,
        typer.Option(
            help="Steps a worker may be ahead of the slowest: 0 is synchronous, 'none' has no "
            "bound (--mode async)."
        ),
    ] = "none",
    clip_norm: Annotated[
        float | None, typer.Option(help="Shrink longer gradients (--mode async).")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Examples of one step.")] = 32,
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate; by default 1 / L of a sample of the data."),
    ] = None,
    l2: Annotated[float, typer.Option(help="Strength of the penalty (l2 / 2) ||w||^2.")] = 1e-4,
    seed: Annotated[int, typer.Option(help="Of everything that is left to chance.")] = 0,
    target_score: Annotated[
        float | None, typer.Option(help="End as soon as the held-out score is reached.")
    ] = None,
    time_limit: Annotated[
        float | None, typer.Option(help="End after so many seconds of training.")
    ] = None,
    baseline: Annotated[
        bool, typer.Option(help="Compare with one scikit-learn process on the same data.")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a summary as JSON on the last line.")
    ] = False,
    quiet: Annotated[bool, typer.Option(help="Print nothing but errors (and --json).")] = False,
) -> None:
    """Train a model on this machine's cores, by averaging or by asynchronous SGD."""
    _refuse_foreign_options(context, mode)
    if not l2 >= 0:
        raise ConfigError(f"--l2 must be 0 or more, not {l2:g}.", field="l2", value=l2)
    say = _silence if quiet else _say
    say(f"paramserver {paramserver.__version__}: training on '{data}', --mode {mode.value}")

    from paramserver.models.named import make_model
    from paramserver.training.modes import AsyncSGD, Averaging

    dataset = _load(data, test, label, seed)
    learner, model_name = make_model(model, dataset.n_features, dataset.n_classes, l2)
    say(
        f"data: {len(dataset.y_train):,} examples to train on, {len(dataset.y_test):,} held out, "
        f"{dataset.n_features} features, {dataset.n_classes or 'no'} classes"
    )
    for note in dataset.notes:
        say(f"      {note}")
    settings: Averaging | AsyncSGD
    if mode is Mode.AVG:
        settings = Averaging(
            rounds=rounds,
            local_epochs=local_epochs,
            local_steps=local_steps,
            n_partitions=partitions,
            wait_for=wait_for,
            tail=tail,
        )
    else:
        settings = AsyncSGD(
            epochs=epochs,
            optimizer=optimizer,
            staleness_bound=_read_bound(staleness_bound),
            clip_norm=clip_norm,
            local_steps=1 if local_steps is None else local_steps,
            n_partitions=partitions,
        )
    ends = _Ends(say, "rounds" if mode is Mode.AVG else "updates", target_score, time_limit)
    say(f"model: {model_name}, {learner.size:,} weights in {learner.dtype}")
    result, n_workers = _fit(learner, dataset, settings, workers, batch_size, lr, seed, say, ends)
    _report(result, dataset.metric, say)
    summary = _summary(result, dataset, n_workers)
    if baseline:
        summary |= _compare(dataset, result, model_name, l2, seed, say)
    if as_json:
        print(json.dumps(summary), flush=True)


def _refuse_foreign_options(context: typer.Context, mode: Mode) -> None:
    other = Mode.ASYNC if mode is Mode.AVG else Mode.AVG
    for name in ONLY[other]:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            flag = "--" + name.replace("_", "-")
            raise ConfigError(
                f"{flag} goes with --mode {other.value}; --mode {mode.value} knows "
                + ", ".join("--" + known.replace("_", "-") for known in ONLY[mode])
                + ".",
                field=name,
                value=context.params.get(name),
            )


def _load(data: str, test: str | None, label: str | None, seed: int) -> Dataset:
    from paramserver.data.datasets import LOADERS, load
    from paramserver.data.readers import read_files

    is_name = data in LOADERS or not ("." in data or os.sep in data)
    if not is_name:
        return read_files(data, test, label=label, seed=seed)
    for name, value in (("test", test), ("label", label)):
        if value is not None:
            raise ConfigError(
                f"--{name} goes with a file, and '{data}' is the name of a data set.",
                field=name,
                value=value,
            )
    return load(data, seed=seed)


def _read_bound(text: str) -> int | None:
    if text.lower() == "none":
        return None
    if not text.isdecimal():
        raise ConfigError(
            f"--staleness-bound is a number of steps or 'none', not '{text}'.",
            field="staleness_bound",
            value=text,
        )
    return int(text)


class _Ends:
    """Prints progress, and says when it is enough."""

    def __init__(
        self,
        say: Callable[[str], None],
        unit: str,
        target_score: float | None,
        time_limit_s: float | None,
    ) -> None:
        self._say = say
        self._unit = unit
        self._target = target_score
        self._limit_s = time_limit_s

    def __call__(self, progress: Progress) -> bool:
        score = progress.test_score
        self._say(
            f"{progress.unit:>9,} {self._unit}  {progress.epochs:7.1f} epochs  "
            f"{progress.wall_s:7.2f} s  loss {progress.train_loss:.4f}  held-out score {score:.4f}"
        )
        reached = self._target is not None and score is not None and score >= self._target
        return reached or (self._limit_s is not None and progress.wall_s >= self._limit_s)


def _fit(
    learner: Learner,
    dataset: Dataset,
    mode: Averaging | AsyncSGD,
    workers: int | None,
    batch_size: int,
    lr: float | None,
    seed: int,
    say: Callable[[str], None],
    ends: _Ends,
) -> tuple[TrainingResult, int]:
    from paramserver.cluster import LocalCluster
    from paramserver.training.session import fit

    with LocalCluster(workers) as cluster:
        n_workers = cluster.n_workers
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        say(f"workers: {n_workers} processes on {cores} cores")
        result = fit(
            learner,
            (dataset.X_train, dataset.y_train),
            mode=mode,
            cluster=cluster,
            test=(dataset.X_test, dataset.y_test),
            batch_size=batch_size,
            lr="auto" if lr is None else lr,
            seed=seed,
            on_progress=ends,
        )
    return result, n_workers


def _report(result: TrainingResult, metric: str, say: Callable[[str], None]) -> None:
    rate = result.examples / result.wall_s
    last = result.history[-1]
    say(
        f"done: held-out {metric} {last.test_score:.4f} after {result.epochs:.1f} epochs in "
        f"{result.wall_s:.2f} s ({rate:,.0f} examples/s), learning rate {result.lr:.4g}"
    )
    say(
        f"      learners computed {result.compute_s:.2f} s in all, the master "
        f"{'averaged' if result.mode == 'avg' else 'applied'} for {result.apply_s:.2f} s"
    )
    if result.mode == "async":
        staleness = staleness_summary(result)
        say(
            f"      staleness: mean {staleness['mean']:.2f}, p95 {staleness['p95']}, "
            f"max {staleness['max']}"
        )
    say(f"      weights sha256 {result.sha256}")


def staleness_summary(result: TrainingResult) -> dict[str, Any]:
    """Return mean, percentiles and histogram of the staleness of all updates."""
    counts = sorted(result.staleness.items())
    total = sum(n for _, n in counts)
    if not total:
        return {"mean": 0.0, "p50": 0, "p95": 0, "max": 0, "histogram": {}}
    marks: dict[float, int] = {}
    for q in (0.5, 0.95):
        seen = 0
        for value, n in counts:
            seen += n
            if seen >= q * total:
                marks[q] = value
                break
    return {
        "mean": sum(value * n for value, n in counts) / total,
        "p50": marks[0.5],
        "p95": marks[0.95],
        "max": counts[-1][0],
        "histogram": {str(value): n for value, n in counts},
    }


def _summary(result: TrainingResult, dataset: Dataset, n_workers: int) -> dict[str, Any]:
    last = result.history[-1]
    is_averaging = result.mode == "avg"
    return {
        "mode": result.mode,
        "n_workers": n_workers,
        "n_partitions": result.n_partitions,
        "n_examples": result.n_examples,
        "n_features": dataset.n_features,
        "n_parameters": int(result.weights.size),
        "rounds": result.units if is_averaging else None,
        "updates": None if is_averaging else result.units,
        "epochs": result.epochs,
        "wall_s": result.wall_s,
        "examples_per_s": result.examples / result.wall_s,
        "train_loss": last.train_loss,
        "test_score": last.test_score,
        "metric": dataset.metric,
        "staleness": None if is_averaging else staleness_summary(result),
        "rejected": {reason: n for reason, n in result.rejected.items() if n},
        "workers_lost": result.workers_lost,
        "weights_sha256": result.sha256,
        "baseline": None,
        "speedup": None,
    }


def _compare(
    dataset: Dataset,
    result: TrainingResult,
    model_name: str,
    l2: float,
    seed: int,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Train scikit-learn's own model in this process to the same score, and compare the times."""
    target = result.history[-1].test_score
    assert target is not None
    name, model = _baseline(model_name, dataset.n_classes, l2, seed)
    extra = {"classes": list(range(dataset.n_classes))} if dataset.n_classes else {}
    spent_s, score, epoch = 0.0, float("-inf"), 0
    while score < target and spent_s < BASELINE_MAX_S and epoch < BASELINE_MAX_EPOCHS:
        began = time.perf_counter()
        model.partial_fit(dataset.X_train, dataset.y_train, **extra)
        spent_s += time.perf_counter() - began
        score = max(score, float(model.score(dataset.X_test, dataset.y_test)))
        epoch += 1
    speedup: float | None = None
    reached = next(p for p in result.history if p.test_score is not None and p.test_score >= target)
    if score >= target:
        speedup = spent_s / reached.wall_s
        times = f"{speedup:.1f} times faster" if speedup >= 1 else f"{1 / speedup:.1f} times SLOWER"
        say(
            f"compared with one scikit-learn process: {name} reaches {score:.4f} in "
            f"{spent_s:.2f} s ({epoch} epochs); this run, in {reached.wall_s:.2f} s, is {times} "
            "(imports and the start of processes not counted on either side)"
        )
    else:
        say(
            f"compared with one scikit-learn process: {name} reaches {score:.4f} at best in "
            f"{spent_s:.2f} s ({epoch} epochs), not {target:.4f}"
        )
    return {
        "baseline": {"name": name, "wall_s": spent_s, "score": score},
        "speedup": speedup,
    }


def _baseline(model_name: str, n_classes: int, l2: float, seed: int) -> tuple[str, Any]:
    """Return scikit-learn's counterpart, and what to call it."""
    if model_name == "mlp":
        from sklearn.neural_network import MLPClassifier, MLPRegressor

        kind = MLPClassifier if n_classes else MLPRegressor
        return f"{kind.__name__}((128,))", kind((128,), alpha=l2, random_state=seed)
    from sklearn.linear_model import SGDClassifier, SGDRegressor

    if not n_classes:
        return "SGDRegressor()", SGDRegressor(alpha=l2, random_state=seed)
    loss = "hinge" if model_name == "hinge" else "log_loss"
    return f"SGDClassifier(loss='{loss}')", SGDClassifier(loss=loss, alpha=l2, random_state=seed)


def _say(line: str) -> None:
    print(line, flush=True)


def _silence(line: str) -> None:
    """Print nothing."""


def main() -> int:
    """Run the command; return its exit code."""
    try:
        app()
    except SystemExit as end:  # how the parser ends; it says 2 for what it does not understand
        return EXIT_CONFIG if end.code == EXIT_USAGE else int(end.code or 0)
    except ParamServerError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
