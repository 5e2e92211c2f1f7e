"""One run of ``paramserver train``, from its settings to its last line. It only conducts.

Rule 1: the first line is said before anything slow is imported.
Rule 2: whatever was trained is on the disk before the comparison with scikit-learn begins.
Rule 3: an end by Ctrl-C, SIGTERM or an error leaves a folder that can be resumed, and says how.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import paramserver
from paramserver.commands.interrupts import STOPPED, Interrupts
from paramserver.commands.settings import TrainSettings
from paramserver.errors import ConfigError, DataError, Diverged, NoWorkers
from paramserver.observe.display import Display, Silence, choose_display
from paramserver.observe.events import RunEnded, RunStarted, plain
from paramserver.observe.run_folder import CONFIG, RunFolder, check_is_free
from paramserver.runtime.cores import n_cores

if TYPE_CHECKING:
    from paramserver.cluster import Cluster
    from paramserver.commands.prepare import Prepared
    from paramserver.training.result import TrainingResult

EXIT_DONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_RESUMABLE: Final = 75


def conduct(settings: TrainSettings, *, resumes: bool) -> int:
    """Train as the settings say; return the exit code.

    Parameters
    ----------
    settings : TrainSettings
    resumes : bool
        Whether ``settings.out`` is the folder of a run to go on with.

    Raises
    ------
    ParamServerError
        What ended the run before its time. The folder holds what there was by then.
    """
    display: Display = Silence() if settings.quiet else choose_display(sys.stdout)
    verb = "resuming" if resumes else "training on"
    what = settings.out if resumes else settings.data
    display.say(f"paramserver {paramserver.__version__}: {verb} '{what}', --mode {settings.mode}")
    kept = None if settings.out is None or not resumes else Path(settings.out)
    if settings.out is not None and not resumes:
        check_is_free(Path(settings.out))  # before much is read
    with ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        stack.enter_context(_warnings_told(display))
        try:
            with _early_cluster(settings, display) as early:
                prepared = _prepare(settings, display, early)
                folder = _open_folder(prepared, resumes=resumes)
                if folder is not None:
                    stack.enter_context(folder)
                    kept = folder.path
                return _run(prepared, folder, display, early, resumes=resumes)
        except KeyboardInterrupt:
            return _tell_how_to_resume(kept, "stopped")
        except NoWorkers as error:
            return _tell_how_to_resume(kept, str(error).rstrip("."), EXIT_FAILED)
        except Exception:
            if not interrupts.n_received:
                raise
            return _tell_how_to_resume(kept, "stopped")  # what a library has made of it


@contextmanager
def _warnings_told(display: Display) -> Iterator[None]:
    """Show our own warnings as lines of the run, without the place in the code."""

    show_others = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if category.__module__.startswith("paramserver."):
            display.fact("warning", str(message))
        else:
            show_others(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.showwarning = show
        warnings.filterwarnings("always", module=r"paramserver\.")  # each one is news
        yield


@contextmanager
def _early_cluster(settings: TrainSettings, display: Display) -> Iterator[Cluster | None]:
    """Open the cluster before the data are there, where its workers have to read them."""
    from paramserver.commands.prepare import is_large

    if not is_large(settings):
        yield None
        return
    with _open_cluster(settings) as cluster:
        display.fact("reading", f"{settings.data}, by {cluster.n_workers} workers")
        yield cluster


def _prepare(settings: TrainSettings, display: Display, cluster: Cluster | None) -> Prepared:
    from paramserver.commands.prepare import load_data, prepare

    dataset = load_data(settings, cluster)
    n, n_test = len(dataset.y_train), len(dataset.y_test)
    kinds = f"{dataset.n_classes} classes" if dataset.n_classes else "numbers to predict"
    display.fact(
        "data",
        f"{n:,} examples to train on, {n_test:,} held out, {dataset.n_features:,} features, "
        f"{kinds}",
    )
    for note in dataset.notes:
        display.fact("", note)
    prepared = prepare(settings, dataset)
    chosen = ""
    if settings.lr is None:
        chosen = f" ({prepared.lr_is})"
    display.fact(
        "model",
        f"{prepared.settings.model}, {prepared.learner.size:,} weights in "
        f"{prepared.learner.dtype}, learning rate {prepared.lr:.4g}{chosen}"
        + (f", {prepared.kernel} kernel" if prepared.kernel else ""),
    )
    return prepared


def _open_folder(prepared: Prepared, *, resumes: bool) -> RunFolder | None:
    settings = prepared.settings
    if settings.no_out:
        return None
    if settings.out is None:
        folder = RunFolder.choose(settings.mode)
    elif resumes:
        folder = RunFolder.reopen(Path(settings.out))
    else:
        folder = RunFolder.make(Path(settings.out))
    try:
        _write_config(folder, settings)  # of a resumed run, too: it may go on for longer
    except BaseException:
        folder.close()
        raise
    return folder


def _write_config(folder: RunFolder, settings: TrainSettings) -> None:
    config = shlex.quote(str(folder.path / CONFIG))
    comments = (
        f"A run of paramserver {paramserver.__version__}. Repeat it with",
        f"  python -m paramserver.train --config {config}",
    )
    folder.write_config(settings.to_keep(), comments)


def _run(
    prepared: Prepared,
    folder: RunFolder | None,
    display: Display,
    early: Cluster | None,
    *,
    resumes: bool,
) -> int:
    from paramserver.commands.report import write_report

    try:
        with (
            nullcontext(early) if early is not None else _open_cluster(prepared.settings) as cluster
        ):
            result = _train(prepared, folder, display, cluster, resumes=resumes)
    except BaseException as error:
        if folder is not None:
            outcome = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            _note_end(folder, RunEnded(outcome=outcome, reason=str(error)))
            if isinstance(error, Diverged):
                _keep_last_finite(prepared, error, folder)
            with suppress(DataError):  # such as: there is nothing to tell yet
                write_report(folder.path)
        raise
    from paramserver.commands.summary import describe, summarise

    summary = summarise(prepared, result)
    for label, text in describe(prepared, result):
        display.fact(label, text)
    if folder is not None:
        _keep(prepared, result, summary, folder)
    if prepared.settings.baseline:
        summary |= _compare(prepared, result, display)
    if folder is not None:
        folder.write_summary(summary)
        _note_end(folder, RunEnded(outcome="done", summary=summary))
        display.fact("kept in", str(folder.path))
        report = _write_report(folder)
        if report is not None:
            display.fact("report", str(report))
    if prepared.settings.json:
        print(json.dumps(plain(summary), allow_nan=False), flush=True)
    return EXIT_DONE


def _train(
    prepared: Prepared,
    folder: RunFolder | None,
    display: Display,
    cluster: Cluster,
    *,
    resumes: bool,
) -> TrainingResult:
    from paramserver.commands.prepare import class_weight
    from paramserver.commands.report import command_of
    from paramserver.observe.watch import Watch
    from paramserver.training.checkpoint import Checkpoints
    from paramserver.training.session import fit

    settings, dataset = prepared.settings, prepared.dataset
    checkpoints = None
    if folder is not None:
        checkpoints = Checkpoints(folder.checkpoints, every_s=settings.checkpoint_every)
        if settings.address is not None:
            # With its real port: workers look there for the next master.
            _write_config(folder, replace(settings, address=cluster.address))
    _say_workers(prepared, cluster, display)
    if settings.dashboard:
        _open_dashboard(cluster, display)
    started = _started(prepared, resumed=resumes)
    config = settings.to_keep()
    command = command_of(config)
    with Watch(cluster, started, display, folder, config=config, command=command) as watch:
        return fit(
            prepared.learner,
            dataset,
            mode=prepared.mode,
            cluster=cluster,
            test=(dataset.X_test, dataset.y_test, dataset.weight_test),
            class_weight=class_weight(settings),
            partition=settings.partitioning,
            batch_size=settings.batch_size,
            lr=prepared.lr,
            seed=settings.seed,
            on_progress=watch,
            callbacks=prepared.callbacks,
            checkpoints=checkpoints,
            resume=resumes,
        )


def _open_cluster(settings: TrainSettings) -> Cluster:
    from paramserver.cluster import Cluster
    from paramserver.local_cluster import LocalCluster

    if settings.address is None:
        return LocalCluster(settings.workers or n_cores())
    assert settings.workers is not None
    cluster = Cluster(settings.address, settings.keys, verbose=not settings.quiet)
    try:
        cluster.wait_for_workers(settings.workers)
    except BaseException:
        cluster.shutdown()
        raise
    return cluster


def _open_dashboard(cluster: Cluster, display: Display) -> None:
    """Open the live page; what keeps it from that costs the page, and not the run."""
    try:
        display.fact("dashboard", cluster.dashboard_link)
    except ConfigError as error:
        display.fact("warning", str(error))


def _say_workers(prepared: Prepared, cluster: Cluster, display: Display) -> None:
    where = f"on {n_cores()} cores" if prepared.settings.address is None else "of other machines"
    n, p = cluster.n_workers, prepared.mode.n_partitions
    display.fact("workers", f"{n} processes {where}, {p} partitions")
    if prepared.settings.address is None and n > n_cores():
        display.fact("", "more workers than cores: they take turns, which is no faster")
    if p is not None and n > p:
        display.fact("", f"more workers than partitions: {n - p} stand by for those that are lost")


def _started(prepared: Prepared, *, resumed: bool) -> RunStarted:
    settings, dataset = prepared.settings, prepared.dataset
    assert settings.partitions is not None
    return RunStarted(
        version=paramserver.__version__,
        mode=settings.mode,
        model=settings.model,
        data=settings.data,
        n_workers=prepared.n_workers,
        n_partitions=settings.partitions,
        n_examples=len(dataset.y_train),
        n_features=dataset.n_features,
        n_parameters=prepared.learner.size,
        total=prepared.total,
        host=socket.gethostname(),
        pid=os.getpid(),
        resumed=resumed,
    )


def _keep(
    prepared: Prepared, result: TrainingResult, summary: dict[str, Any], folder: RunFolder
) -> None:
    """Write all that makes the result, so that nothing that comes later can lose it."""
    from paramserver.observe.model_files import write_model, write_stock_estimator

    write_model(folder, prepared.learner, result.weights, prepared.dataset, prepared.settings.model)
    folder.write_history(result.history)
    folder.write_summary(summary)
    write_stock_estimator(folder)


def _keep_last_finite(prepared: Prepared, error: Diverged, folder: RunFolder) -> None:
    from paramserver.observe.model_files import write_model

    weights = error.fields.get("weights")
    if weights is not None:
        write_model(folder, prepared.learner, weights, prepared.dataset, prepared.settings.model)
        print(
            f"paramserver: the last finite weights are kept in {folder.path}/model.safetensors",
            file=sys.stderr,
        )


def _compare(prepared: Prepared, result: TrainingResult, display: Display) -> dict[str, Any]:
    from paramserver.commands.baseline import compare

    if prepared.dataset.rows is not None:
        display.fact(
            "compared", "not with scikit-learn: these data are made for more than one process"
        )
        return {}
    display.fact("compared", "with one scikit-learn process on the same data, to the same score:")
    try:
        comparison = compare(prepared, result)
    except KeyboardInterrupt:
        display.fact("", "interrupted; the run itself is complete")
        return {}
    if comparison is None:
        display.fact("", "not possible: the MLP of this scikit-learn takes no weights")
        return {}
    for line in comparison.describe():
        display.fact("", line)
    return comparison.as_summary()


def _note_end(folder: RunFolder, event: RunEnded) -> None:
    try:
        folder.note(event)
    except OSError as error:
        print(f"paramserver: {folder.path}: {error.strerror or error}", file=sys.stderr)


def _write_report(folder: RunFolder) -> Path | None:
    """Write ``report.html``; what keeps it from that costs the report, and not the run."""
    from paramserver.commands.report import write_report

    try:
        return write_report(folder.path)
    except DataError as error:
        print(f"paramserver: there is no report: {error}", file=sys.stderr)
        return None


def _tell_how_to_resume(kept: Path | None, why: str, otherwise: int = STOPPED) -> int:
    if kept is None:
        print(f"\nparamserver: {why}; nothing was kept that could be resumed", file=sys.stderr)
        return otherwise
    command = f"python -m paramserver.train --resume {shlex.quote(str(kept))}"
    print(f"\nparamserver: {why}; go on with:  {command}", file=sys.stderr, flush=True)
    return EXIT_RESUMABLE
