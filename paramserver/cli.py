"""The command ``paramserver``: one door to the commands. It parses; the work is done elsewhere.

Rule 1: ``paramserver --help`` imports nothing but the parser: each command imports what it needs
        when it runs.
Rule 2: a mistake of the user's is one paragraph on standard error and exit code 77, no traceback.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

import paramserver
from paramserver.commands.exits import EXIT_CONFIG
from paramserver.commands.help import HELP_SETTINGS, HelpfulCommand, examples
from paramserver.commands.interrupts import interrupt_again
from paramserver.commands.worker import add_worker
from paramserver.train import add_train, run

EPILOG = """\
First steps:

\b
  paramserver doctor              what this machine has, and what is missing
  paramserver train --mode avg    train on scikit-learn's digits, on all cores
  paramserver train --help        everything that can be set, with examples
  paramserver wordcount '*.txt'   count words by 30 map and 60 reduce jobs

`paramserver COMMAND --help` shows examples of each. In Python: import paramserver as ps.
"""

app = typer.Typer(
    name="paramserver",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train numpy and scikit-learn models on many cores and many machines.",
    epilog=EPILOG,
    context_settings=HELP_SETTINGS,
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        print(f"paramserver {paramserver.__version__}")
        raise typer.Exit


@app.callback()
def _paramserver(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_show_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Make the commands below sub-commands, however few there are."""
    if context.invoked_subcommand != "train":  # the others close what they have opened
        interrupt_again()


add_train(app)


@app.command(
    cls=HelpfulCommand,
    short_help="Make the keys of a master and its workers.",
    context_settings=HELP_SETTINGS,
    epilog=examples(
        """
paramserver keys ./keys
scp keys/worker.secret keys/master.public MACHINE:keys/
paramserver worker tcp://HOST:5555 --keys keys
""",
        "Who has worker.secret may join as a worker; who has master.secret is the master. What "
        "others can read is refused.",
    ),
)
def keys(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder of your own, new or empty.")
    ],
) -> None:
    """Make the keys of a master and its workers in a folder.

    Traffic between machines is always encrypted, and both sides prove who they are.
    """
    from paramserver.errors import ParamServerError
    from paramserver.transport.security import make_keys

    try:
        place = make_keys(folder)
    except ParamServerError as error:
        _complain(str(error))
    except OSError as error:
        _complain(f"No keys can be put into {folder}: {error.strerror or error}.")
    else:
        print(
            f"Keys are in {place}.\n"
            f"The master uses this folder: ps.Cluster(address='tcp://HOST:PORT', keys='{place}')\n"
            "Each machine with workers needs a copy of two files in a folder of its own (mode "
            "0700):\n"
            f"  scp {place}/worker.secret {place}/master.public MACHINE:FOLDER/"
        )


add_worker(app)


@app.command(
    short_help="Count the words of files on many workers.",
    context_settings={
        "allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []
    },
)  # fmt: skip
def wordcount(context: typer.Context) -> None:
    """Count the words of files on many workers (--help lists the options)."""
    from paramserver.commands.wordcount import main

    raise typer.Exit(main(context.args))


@app.command(
    cls=HelpfulCommand,
    short_help="Say what this machine has, and what is missing.",
    context_settings=HELP_SETTINGS,
    epilog=examples(
        """
paramserver doctor
paramserver doctor --keys ./keys
""",
        "Exit codes: 0 paramserver can work here, 1 something must be mended before.",
    ),
)
def doctor(
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Look at the keys in this folder; by default ./keys, if it is there.",
        ),
    ] = None,
) -> None:
    """Say what this machine has, how fast it is inside, and what is missing.

    It changes nothing, asks nobody outside this machine, and takes about a second.
    """
    print("paramserver doctor: looking at this machine", flush=True)
    from paramserver.commands import findings
    from paramserver.commands.doctor import examine

    raise typer.Exit(findings.report(examine(keys), sys.stdout))


@app.command(
    cls=HelpfulCommand,
    short_help="Make the report of a run again.",
    context_settings=HELP_SETTINGS,
    epilog=examples(
        """
paramserver report runs/20261126-101500-avg
paramserver report runs/20261126-101500-avg --to ~/first-try.html
"""
    ),
)
def report(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of a run, such as runs/TIME-avg.")
    ],
    to: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write it there; by default report.html in DIR."),
    ] = None,
) -> None:
    """Make report.html again from what the folder of a run holds.

    It is one file that loads nothing: it can be sent to others and read years later. A run that
    was stopped or killed has one, too.
    """
    from paramserver.commands.report import write_report

    print(write_report(folder, to))


def _complain(text: str) -> None:
    print(f"paramserver: {text}", file=sys.stderr)
    raise typer.Exit(EXIT_CONFIG)


def main() -> int:
    """Run the command line; return its exit code."""
    return run(app, "paramserver")


if __name__ == "__main__":
    sys.exit(main())
