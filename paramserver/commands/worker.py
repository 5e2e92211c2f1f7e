"""``python -m paramserver.worker``: the options of an agent that keeps workers on a machine.

Rule 1: it parses and nothing else; the work is `runtime.agent_process`.
Rule 2: the first line is printed before anything slow is imported.
"""

import sys
from pathlib import Path
from typing import Annotated, Final

from typer import Argument, Exit, Option, Typer

from paramserver.commands.exits import EXIT_CONFIG
from paramserver.commands.help import HELP_SETTINGS, HelpfulCommand, examples

EPILOG: Final = examples(
    """
paramserver worker tcp://10.0.0.5:5555 --keys keys --n-workers 4
paramserver worker tcp://10.0.0.5:5555 --keys keys --allow my_package
paramserver worker tcp://10.0.0.5:5555 --keys keys --accept-code
""",
    """
The master prints the line for it (ps.Cluster, paramserver train --address). Exit codes: 0 the
cluster was closed, 75 no master answered, 77 a setting that cannot be.
""",
)


def worker(
    address: Annotated[
        str,
        Argument(
            metavar="ADDRESS",
            help="Where the master listens, tcp://HOST:PORT (it prints the line).",
        ),
    ],
    keys: Annotated[
        Path | None,
        Option(
            metavar="DIR",
            help="Folder with worker.secret and master.public (`paramserver keys DIR`).",
        ),
    ] = None,
    n_workers: Annotated[
        int, Option(min=1, metavar="N", help="Worker processes to keep alive here.")
    ] = 1,
    blas_threads: Annotated[
        int,
        Option(
            min=0, metavar="N", help="Threads of the numeric libraries in each; 0 is all cores."
        ),
    ] = 1,
    allow: Annotated[
        list[str] | None,
        Option(
            metavar="PACKAGE",
            help="Run functions of this package, too. May be repeated; by default only those "
            "of paramserver's own trainings are run.",
            rich_help_panel="What may be run",
        ),
    ] = None,
    accept_code: Annotated[
        bool,
        Option(
            "--accept-code",
            help="Run whatever code the master sends, as from a notebook.",
            rich_help_panel="What may be run",
        ),
    ] = False,
    give_up: Annotated[
        float,
        Option(
            min=0.0,
            metavar="S",
            help="Seconds without any master after which to leave with exit code 75.",
            rich_help_panel="When to leave",
        ),
    ] = 600.0,
    grace: Annotated[
        float,
        Option(
            min=0.0,
            metavar="S",
            help="Seconds that running jobs have after Ctrl-C or SIGTERM.",
            rich_help_panel="When to leave",
        ),
    ] = 30.0,
) -> None:
    """Keep worker processes on this machine for a master on another one.

    It prints what it is doing, and ends by itself when the cluster is closed.
    """
    print(f"paramserver: connecting to {address}", flush=True)
    from paramserver.errors import ParamServerError
    from paramserver.runtime.agent_process import run_agent
    from paramserver.runtime.remote_agent import AgentOptions

    options = AgentOptions(
        address=address,
        keys_dir=None if keys is None else str(keys.absolute()),
        n_workers=n_workers,
        allow=tuple(allow or ()),
        accept_code=accept_code,
        give_up_s=give_up,
        grace_s=grace,
        blas_threads=blas_threads or None,
    )
    try:
        code = run_agent(options)
    except ParamServerError as error:
        print(f"paramserver: {error}", file=sys.stderr, flush=True)
        code = EXIT_CONFIG
    raise Exit(code)


def add_worker(app: Typer, name: str = "worker") -> None:
    """Add the command to an application of typer's."""
    app.command(
        name,
        cls=HelpfulCommand,
        short_help="Keep workers here for a master elsewhere.",
        epilog=EPILOG,
        context_settings=HELP_SETTINGS,
    )(worker)
