"""``python -m paramserver.train``: the options of a training, and where each comes from.

Rule 1: it parses and nothing else; the work is `commands.conduct`.
Rule 2: a flag wins over the environment (PARAMSERVER_NAME), that over the file of ``--config``,
        that over the defaults, which are those of `commands.settings`.
Rule 3: exit codes: 0 done, 1 failed, 75 stopped and resumable, 77 a setting that cannot be.
"""

from __future__ import annotations

import signal
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # before `Interrupts` there is nothing to end well

import typer
from typer.core import TyperCommand

from paramserver.commands.settings import TrainSettings, check_sources, kinds
from paramserver.config import read_settings
from paramserver.errors import ConfigError, ParamServerError
from paramserver.observe.run_folder import CONFIG, check_is_run

EXIT_FAILED = 1
EXIT_CONFIG = 77
EXIT_USAGE = 2

DATA, MODEL, AVG, ASYNC, RUN, SHOW = (
    "Data",
    "Model and steps",
    "Averaging (--mode avg)",
    "Asynchronous SGD (--mode async)",
    "Where and how long",
    "What is shown",
)

EPILOG = """\
Examples:

\b
  python -m paramserver.train --mode avg
  python -m paramserver.train --mode async --epochs 5 --staleness-bound 4
  python -m paramserver.train --mode avg --data mine.csv --label price --model ridge
  python -m paramserver.train --mode avg --rounds 500 --target-score 0.97
  python -m paramserver.train --resume runs/20261126-101500-avg
  python -m paramserver.train --config runs/20261126-101500-avg/config.toml

Each option can also be set in the file of --config (local_steps = 8) or in the environment
(PARAMSERVER_LOCAL_STEPS=8); a flag wins over the environment, that over the file.
"""


class Mode(StrEnum):
    """How to train."""

    AVG = "avg"
    ASYNC = "async"


class GroupedCommand(TyperCommand):
    """Lists its options by group in ``--help``, without colours and boxes."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write a section for each group, in the order in which options name them."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            vars(param)["show_envvar"] = False  # the epilog tells the rule
            record = param.get_help_record(ctx)
            if record is not None:
                name = getattr(param, "rich_help_panel", None) or "Options"
                groups.setdefault(name, []).append(record)
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl(records)


def _read_config(context: typer.Context, value: Path | None) -> Path | None:
    if value is not None:
        known = kinds()
        found = read_settings(value, known)
        context.default_map = {
            name: str(item) if known[name] is str else item for name, item in found.items()
        }
    return value


def _read_resumed(context: typer.Context, value: Path | None) -> Path | None:
    if value is not None:
        check_is_run(value)
        _read_config(context, value / CONFIG)
    return value


def train(
    context: typer.Context,
    mode: Annotated[
        Mode,
        typer.Option(help="Rounds of averaging, or asynchronous pushes of gradients."),
    ],
    config: Annotated[
        Path | None,
        typer.Option(
            is_eager=True, callback=_read_config, metavar="FILE", help="Read settings from a file."
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            is_eager=True,
            callback=_read_resumed,
            metavar="DIR",
            help="Go on with the run in this folder, from its newest checkpoint.",
        ),
    ] = None,
    data: Annotated[
        str,
        typer.Option(
            metavar="NAME|PATH",
            help="A data set on this machine (a wrong name lists them), or a file: .csv, .svm, "
            ".npz, also .gz, or a folder with X.npy and y.npy.",
            rich_help_panel=DATA,
        ),
    ] = TrainSettings.data,
    test: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="File with the held-out rows; by default a random fifth.",
            rich_help_panel=DATA,
        ),
    ] = TrainSettings.test,
    label: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Column of the label in a CSV file; by default the last.",
            rich_help_panel=DATA,
        ),
    ] = TrainSettings.label,
    partitions: Annotated[
        int | None,
        typer.Option(
            metavar="P",
            help="Pieces of the data; by default one for each worker. They are part of the result.",
            rich_help_panel=DATA,
        ),
    ] = TrainSettings.partitions,
    partitioning: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help="How rows are dealt out: shuffled, contiguous or stratified.",
            rich_help_panel=DATA,
        ),
    ] = TrainSettings.partitioning,
    class_weight: Annotated[
        str,
        typer.Option(
            metavar="none|balanced",
            help="'balanced' lets rare classes count as much as frequent ones.",
            rich_help_panel=DATA,
        ),
    ] = TrainSettings.class_weight,
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="softmax, logistic, hinge, ridge or mlp; by default softmax for classes, ridge "
            "for numbers.",
            rich_help_panel=MODEL,
        ),
    ] = TrainSettings.model,
    batch_size: Annotated[
        int, typer.Option(metavar="B", help="Examples of one step.", rich_help_panel=MODEL)
    ] = TrainSettings.batch_size,
    lr: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Learning rate; by default 1 / L of a sample of the data, or what is usual for "
            "adagrad, adam or mlp.",
            rich_help_panel=MODEL,
        ),
    ] = TrainSettings.lr,
    l2: Annotated[
        float,
        typer.Option(
            metavar="X", help="Strength of the penalty (l2 / 2) ||w||^2.", rich_help_panel=MODEL
        ),
    ] = TrainSettings.l2,
    l1: Annotated[
        float,
        typer.Option(metavar="X", help="Strength of the penalty l1 |w|.", rich_help_panel=MODEL),
    ] = TrainSettings.l1,
    hidden: Annotated[
        str,
        typer.Option(
            metavar="N[,N]", help="Units of the hidden layers of mlp.", rich_help_panel=MODEL
        ),
    ] = TrainSettings.hidden,
    activation: Annotated[
        str,
        typer.Option(metavar="relu|tanh", help="Between the layers of mlp.", rich_help_panel=MODEL),
    ] = TrainSettings.activation,
    dtype: Annotated[
        str,
        typer.Option(metavar="float32|float64", help="Of data and weights.", rich_help_panel=MODEL),
    ] = TrainSettings.dtype,
    kernel: Annotated[
        str,
        typer.Option(
            metavar="auto|numpy|numba",
            help="What takes the steps; the same numbers to rounding.",
            rich_help_panel=MODEL,
        ),
    ] = TrainSettings.kernel,
    local_steps: Annotated[
        int | None,
        typer.Option(
            metavar="H",
            help="Steps in a round instead of passes (avg), or behind a push (async).",
            rich_help_panel=MODEL,
        ),
    ] = TrainSettings.local_steps,
    seed: Annotated[
        int,
        typer.Option(
            metavar="N", help="Of everything that is left to chance.", rich_help_panel=MODEL
        ),
    ] = TrainSettings.seed,
    rounds: Annotated[
        int, typer.Option(metavar="R", help="Averaging rounds.", rich_help_panel=AVG)
    ] = TrainSettings.rounds,
    local_epochs: Annotated[
        int,
        typer.Option(metavar="K", help="Passes of each learner in a round.", rich_help_panel=AVG),
    ] = TrainSettings.local_epochs,
    wait_for: Annotated[
        int | None,
        typer.Option(
            metavar="K", help="Average when so many learners are done.", rich_help_panel=AVG
        ),
    ] = TrainSettings.wait_for,
    tail: Annotated[
        float,
        typer.Option(
            metavar="PART",
            help="Return the mean of this last part of the rounds.",
            rich_help_panel=AVG,
        ),
    ] = TrainSettings.tail,
    outer: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Step of the master along the averaged change: none takes the average itself; "
            "momentum; nesterov, as in DiLoCo.",
            rich_help_panel=AVG,
        ),
    ] = TrainSettings.outer,
    outer_lr: Annotated[
        float, typer.Option(metavar="X", help="Learning rate of --outer.", rich_help_panel=AVG)
    ] = TrainSettings.outer_lr,
    outer_momentum: Annotated[
        float, typer.Option(metavar="X", help="Momentum of --outer.", rich_help_panel=AVG)
    ] = TrainSettings.outer_momentum,
    epochs: Annotated[
        int, typer.Option(metavar="E", help="Passes over the data.", rich_help_panel=ASYNC)
    ] = TrainSettings.epochs,
    optimizer: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="On the master: sgd, momentum, nesterov, adagrad or adam.",
            rich_help_panel=ASYNC,
        ),
    ] = TrainSettings.optimizer,
    staleness_bound: Annotated[
        str,
        typer.Option(
            metavar="S|none",
            help="Steps a worker may be ahead of the slowest: 0 is synchronous, 'none' has no "
            "bound.",
            rich_help_panel=ASYNC,
        ),
    ] = TrainSettings.staleness_bound,
    staleness_aware: Annotated[
        bool,
        typer.Option(
            "--staleness-aware",
            help="Divide the learning rate of a gradient by its staleness.",
            rich_help_panel=ASYNC,
        ),
    ] = TrainSettings.staleness_aware,
    clip_norm: Annotated[
        float | None,
        typer.Option(metavar="X", help="Shrink longer gradients.", rich_help_panel=ASYNC),
    ] = TrainSettings.clip_norm,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Worker processes; by default one for each core. With --address: how many to "
            "wait for.",
            rich_help_panel=RUN,
        ),
    ] = TrainSettings.workers,
    target_score: Annotated[
        float | None,
        typer.Option(
            metavar="A",
            help="End as soon as the held-out score is reached.",
            rich_help_panel=RUN,
        ),
    ] = TrainSettings.target_score,
    time_limit: Annotated[
        float | None,
        typer.Option(
            metavar="S", help="End after so many seconds of training.", rich_help_panel=RUN
        ),
    ] = TrainSettings.time_limit,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="New or empty folder for the run; by default runs/TIME-MODE.",
            rich_help_panel=RUN,
        ),
    ] = TrainSettings.out,
    no_out: Annotated[
        bool, typer.Option("--no-out", help="Keep nothing.", rich_help_panel=RUN)
    ] = TrainSettings.no_out,
    checkpoint_every: Annotated[
        float,
        typer.Option(metavar="S", help="Seconds between two checkpoints.", rich_help_panel=RUN),
    ] = TrainSettings.checkpoint_every,
    address: Annotated[
        str | None,
        typer.Option(
            metavar="tcp://HOST:PORT",
            help="Listen here for workers on other machines.",
            rich_help_panel=RUN,
        ),
    ] = TrainSettings.address,
    keys: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder made by `paramserver keys`.", rich_help_panel=RUN),
    ] = TrainSettings.keys,
    baseline: Annotated[
        bool,
        typer.Option(
            help="Compare with one scikit-learn process on the same data.", rich_help_panel=SHOW
        ),
    ] = TrainSettings.baseline,
    json: Annotated[
        bool,
        typer.Option("--json", help="Print the summary on the last line.", rich_help_panel=SHOW),
    ] = TrainSettings.json,
    dashboard: Annotated[
        bool,
        typer.Option(
            "--dashboard",
            help="Serve a live page of the training on this machine, and print its link.",
            rich_help_panel=SHOW,
        ),
    ] = TrainSettings.dashboard,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", help="Print nothing but errors (and --json).", rich_help_panel=SHOW
        ),
    ] = TrainSettings.quiet,
) -> None:
    """Train a model on this machine's cores, by averaging or by asynchronous SGD.

    With nothing but --mode it trains on scikit-learn's digits with all cores, keeps the run in
    runs/, and says how that compares with one scikit-learn process.
    """
    if resume is not None and config is not None:
        raise ConfigError(
            "--resume reads the settings of its run; leave --config out.",
            field="config",
            value=str(config),
        )
    check_sources(mode.value, _given(context), resumes=resume is not None)
    values = {**context.params, "mode": mode.value}
    if resume is not None:
        values["out"], values["no_out"] = str(resume), False
    settings = TrainSettings(**{name: values[name] for name in kinds()})
    from paramserver.commands.conduct import conduct

    raise typer.Exit(conduct(settings, resumes=resume is not None))


def _given(context: typer.Context) -> dict[str, str]:
    """Return where each setting that is not a default comes from."""
    words = {"COMMANDLINE": "command line", "ENVIRONMENT": "environment", "DEFAULT_MAP": "file"}
    given = {}
    for name in kinds():
        source = context.get_parameter_source(name)
        if source is not None and source.name in words:
            given[name] = words[source.name]
    return given


def add_train(app: typer.Typer, name: str = "train") -> None:
    """Add the command to an application."""
    app.command(
        name,
        cls=GroupedCommand,
        short_help="Train a model by averaging or asynchronous SGD.",
        epilog=EPILOG,
        context_settings={
            "help_option_names": ["-h", "--help"],
            "auto_envvar_prefix": "PARAMSERVER",
            "max_content_width": 100,
        },
    )(train)


def run(app: typer.Typer, prog_name: str) -> int:
    """Run an application of typer's; return its exit code.

    A mistake of the user's is one paragraph on standard error, without a traceback.
    """
    try:
        app(prog_name=prog_name)
    except SystemExit as end:  # how the parser ends; it says 2 for what it does not understand
        return EXIT_CONFIG if end.code == EXIT_USAGE else int(end.code or 0)
    except ParamServerError as error:
        print(f"paramserver: {error}", file=sys.stderr)
        return EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_FAILED
    return 0


def main() -> int:
    """Run the command; return its exit code."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    add_train(app)
    return run(app, "python -m paramserver.train")


if __name__ == "__main__":
    sys.exit(main())
