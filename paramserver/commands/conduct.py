"""One run of ``paramserver train``, from its settings to its last line. It only conducts.

Rule 1: the first line is said before anything slow is imported.
Rule 2: whatever was trained is on the disk before the comparison with scikit-learn begins.
Rule 3: a signal interrupts what takes long (reading, starting workers, training, comparing) and
        nothing else; see `commands.interrupts`, and `commands.ending` for what is left then.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import paramserver
from paramserver.commands.ending import Ending
from paramserver.commands.exits import EXIT_DONE, EXIT_FAILED
from paramserver.commands.interrupts import Interrupts
from paramserver.commands.settings import TrainSettings
from paramserver.errors import ConfigError, DataError, Diverged, NoWorkers
from paramserver.observe.display import Display, Silence, choose_display
from paramserver.observe.events import RunEnded, RunStarted, plain
from paramserver.observe.run_folder import CONFIG, RunFolder, check_is_free
from paramserver.observe.words import count
from paramserver.runtime.cores import n_cores

if TYPE_CHECKING:
    from paramserver.cluster import Cluster
    from paramserver.commands.prepare import Prepared
    from paramserver.training.result import TrainingResult


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
    resumed = None if settings.out is None or not resumes else Path(settings.out)
    if settings.out is not None and not resumes:
        check_is_free(Path(settings.out))  # before much is read
    with ExitStack() as stack:
        interrupts = stack.enter_context(Interrupts())
        stack.enter_context(_warnings_told(display))
        ending = Ending(interrupts, resumed)
        try:
            with _early_cluster(settings, display, interrupts) as early:
                with interrupts.allowed():
                    prepared = _prepare(settings, display, early)
                folder = _open_folder(prepared, resumes=resumes)
                if folder is not None:
                    ending.has(stack.enter_context(folder))
                return _run(prepared, ending, display, early, resumes=resumes)
        except KeyboardInterrupt:
            return ending.tell("stopped")
        except NoWorkers as error:
            return ending.tell(str(error).rstrip("."), EXIT_FAILED)
        except Exception:
            if not interrupts.n_received:
                raise
            return ending.tell("stopped")  # what a library has made of it


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
def _early_cluster(
    settings: TrainSettings, display: Display, interrupts: Interrupts
) -> Iterator[Cluster | None]:
    """Open the cluster before the data are there, where its workers have to read them."""
    from paramserver.commands.prepare import is_large

    if not is_large(settings):
        yield None
        return
    with ExitStack() as stack:
        with interrupts.allowed():
            cluster = stack.enter_context(_open_cluster(settings))
        display.fact("reading", f"{settings.data}, by {count(cluster.n_workers, 'worker')}")
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
    prepared: Prepared, ending: Ending, display: Display, early: Cluster | None, *, resumes: bool
) -> int:
    try:
        with ExitStack() as stack:
            cluster = early
            if cluster is None:
                with ending.interrupts.allowed():
                    cluster = stack.enter_context(_open_cluster(prepared.settings))
            result = _train(prepared, ending, display, cluster, resumes=resumes)
        _finish(prepared, result, ending, display)
    except BaseException as error:
        _break_off(prepared, error, ending)
        raise
    return EXIT_DONE


def _break_off(prepared: Prepared, error: BaseException, ending: Ending) -> None:
    """Keep what there is of a run that has ended before its time."""
    from paramserver.commands.report import write_report

    is_stop = isinstance(error, KeyboardInterrupt) or ending.interrupts.n_received
    if is_stop:  # whatever a library, or a terminal that is gone, has made of it
        ending.note(RunEnded(outcome="interrupted"))
    else:
        ending.note(RunEnded(outcome="failed", reason=str(error)))
    if ending.folder is not None:
        if isinstance(error, Diverged):
            _keep_last_finite(prepared, error, ending.folder)
        with suppress(DataError):  # such as: there is nothing to tell yet
            write_report(ending.folder.path)


def _finish(prepared: Prepared, result: TrainingResult, ending: Ending, display: Display) -> None:
    """Show, keep and compare what a training has brought."""
    from paramserver.commands.summary import describe, summarise

    folder = ending.folder
    summary = summarise(prepared, result)
    for label, text in describe(prepared, result):
        display.fact(label, text)
    if folder is not None:
        _keep(prepared, result, summary, folder)
    if prepared.settings.baseline:
        summary |= _compare(prepared, result, display, ending.interrupts)
    if folder is not None:
        folder.write_summary(summary)
        ending.note(RunEnded(outcome="done", summary=summary))
        display.fact("kept in", str(folder.path))
        report = _write_report(folder)
        if report is not None:
            display.fact("report", str(report))
    if prepared.settings.json:
        print(json.dumps(plain(summary), allow_nan=False), flush=True)


def _train(
    prepared: Prepared, ending: Ending, display: Display, cluster: Cluster, *, resumes: bool
) -> TrainingResult:
    from paramserver.commands.prepare import class_weight
    from paramserver.commands.report import command_of
    from paramserver.observe.watch import Watch
    from paramserver.training.checkpoint import Checkpoints
    from paramserver.training.session import fit

    settings, dataset, folder = prepared.settings, prepared.dataset, ending.folder
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
    with (
        Watch(cluster, started, display, folder, config=config, command=command) as watch,
        ending.interrupts.allowed(),
    ):
        result = fit(
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
            callbacks=(*prepared.callbacks, ending.interrupts.insist),
            checkpoints=checkpoints,
            resume=resumes,
        )
    if resumes and not watch.has_shown:
        longer = "--rounds" if result.mode == "avg" else "--epochs"
        display.fact("", f"it was over before; {longer} N lets it go on")
    return result


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
    assert p is not None
    display.fact("workers", f"{count(n, 'process', 'processes')} {where}, {count(p, 'partition')}")
    if prepared.settings.address is None and n > n_cores():
        display.fact("", "more workers than cores: they take turns, which is no faster")
    if n > p:
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


def _compare(
    prepared: Prepared, result: TrainingResult, display: Display, interrupts: Interrupts
) -> dict[str, Any]:
    from paramserver.commands.baseline import compare

    if prepared.dataset.rows is not None:
        display.fact(
            "compared", "not with scikit-learn: these data are made for more than one process"
        )
        return {}
    display.fact("compared", "with one scikit-learn process on the same data, to the same score:")
    try:
        with interrupts.allowed():
            comparison = compare(prepared, result)
    except (KeyboardInterrupt, Exception):
        if not interrupts.n_received:  # else a library may have made something else of it
            raise
        display.fact("", "interrupted; the run itself is complete")
        return {}
    if comparison is None:
        display.fact("", "not possible: the MLP of this scikit-learn takes no weights")
        return {}
    for line in comparison.describe():
        display.fact("", line)
    return comparison.as_summary()


def _write_report(folder: RunFolder) -> Path | None:
    """Write ``report.html``; what keeps it from that costs the report, and not the run."""
    from paramserver.commands.report import write_report

    try:
        return write_report(folder.path)
    except DataError as error:
        print(f"paramserver: there is no report: {error}", file=sys.stderr)
        return None
