"""``python -m paramserver.train``: the options of a training, and where each comes from.

Rule 1: it parses and nothing else; the work is `commands.conduct`.
Rule 2: a flag wins over the environment (PARAMSERVER_NAME), that over the file of ``--config``,
        that over the defaults, which are those of `commands.settings`.
Rule 3: exit codes: 0 done, 1 failed, 75 stopped and resumable, 77 a setting that cannot be, 130
        stopped by Ctrl-C before there was anything to resume.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from paramserver.commands.interrupts import all_is_done, end_at_once

if __name__ == "__main__":
    end_at_once()  # what is imported below takes a while

import typer

from paramserver.commands.exits import EXIT_CONFIG, EXIT_DONE, EXIT_FAILED, code_of
from paramserver.commands.help import HELP_SETTINGS, HelpfulCommand, examples
from paramserver.commands.setting import About, abouts, flag
from paramserver.commands.settings import TrainSettings, check_sources, kinds
from paramserver.config import read_settings
from paramserver.errors import ConfigError, ParamServerError
from paramserver.observe.run_folder import CONFIG, check_is_run

EPILOG = examples(
    """
paramserver train --mode avg
paramserver train --mode async --epochs 5 --staleness-bound 4
paramserver train --mode avg --data mine.csv --label price --model ridge
paramserver train --mode avg --rounds 500 --target-score 0.97
paramserver train --mode avg --dashboard --time-limit 60
paramserver train --resume runs/20261126-101500-avg
paramserver train --config runs/20261126-101500-avg/config.toml
""",
    """
Each option can also be set in the file of --config (local_steps = 8) or in the environment
(PARAMSERVER_LOCAL_STEPS=8); a flag wins over the environment, that over the file.

Exit codes: 0 done, 1 failed, 75 stopped and resumable, 77 a setting that cannot be, 130 stopped
by Ctrl-C before there was anything to resume. Ctrl-C writes a checkpoint and says how to go on; a
second one ends the run at once.
""",
)


class Mode(StrEnum):
    """How to train."""

    AVG = "avg"
    ASYNC = "async"


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


def _option(name: str, kind: Any, about: About) -> inspect.Parameter:
    """Describe a setting as typer wants it."""
    default = getattr(TrainSettings, name)
    names = (flag(name),) if default is False else ()  # no --no-quiet
    option = typer.Option(
        *names,
        metavar=about.metavar or "|".join(about.choices) or None,
        help=about.words,
        rich_help_panel=about.group.title,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
    )


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take each setting of `TrainSettings` as an option, in place of its ``**``."""
    signature = inspect.signature(command, eval_str=True)
    own = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
    hints = get_type_hints(TrainSettings)
    options = [_option(name, hints[name], about) for name, about in abouts(TrainSettings)]
    vars(command)["__signature__"] = signature.replace(parameters=[*own, *options])
    return command


@with_settings
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
    **_settings: Any,
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
    of_run = (context.default_map or {}).get("mode", mode.value)
    if resume is not None and of_run != mode.value:
        raise ConfigError(
            f"{resume} holds a run of --mode {of_run}, and that cannot change while it is resumed. "
            "Leave --mode out, or begin a new run.",
            field="mode",
            value=mode.value,
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
        cls=HelpfulCommand,
        short_help="Train a model by averaging or asynchronous SGD.",
        epilog=EPILOG,
        context_settings={**HELP_SETTINGS, "auto_envvar_prefix": "PARAMSERVER"},
    )(train)


def run(app: typer.Typer, prog_name: str) -> int:
    """Run an application of typer's; return its exit code.

    A mistake of the user's is one paragraph on standard error, without a traceback.
    """
    try:
        app(prog_name=prog_name)
    except SystemExit as end:  # how the parser ends
        all_is_done()
        return code_of(end)
    except ParamServerError as error:
        print(f"paramserver: {error}", file=sys.stderr)
        return EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_FAILED
    return EXIT_DONE


def main() -> int:
    """Run the command; return its exit code."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    add_train(app)
    return run(app, "python -m paramserver.train")


if __name__ == "__main__":
    sys.exit(main())
