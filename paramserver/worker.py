"""The command ``python -m paramserver.worker``: an agent with workers, or (`--child`) one worker.

Rule 1: ``--child`` is how agents start workers; that way imports nothing of the command line.
Rule 2: the first line is printed before anything slow is imported.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

EXIT_INTERRUPTED = 130


def make_command() -> Callable[..., None]:
    """Return the command as typer wants it: a function whose annotations describe the options."""
    from typer import Argument, Option

    def worker(
        address: Annotated[
            str, Argument(help="Where the master listens, tcp://HOST:PORT (it prints the line).")
        ],
        keys: Annotated[
            Path | None,
            Option(help="Folder with worker.secret and master.public (`paramserver keys DIR`)."),
        ] = None,
        n_workers: Annotated[
            int, Option(min=1, help="How many worker processes to keep alive here.")
        ] = 1,
        allow: Annotated[
            list[str] | None,
            Option(metavar="PACKAGE", help="Run functions of this package. May be repeated."),
        ] = None,
        accept_code: Annotated[
            bool,
            Option("--accept-code", help="Run functions sent as code (notebooks)."),
        ] = False,
        give_up: Annotated[
            float,
            Option(min=0.0, metavar="S", help="Exit with 75 when no master answered so long."),
        ] = 600.0,
        grace: Annotated[
            float,
            Option(min=0.0, metavar="S", help="After SIGTERM or Ctrl-C jobs have this to end."),
        ] = 30.0,
        blas_threads: Annotated[
            int, Option(min=0, help="Threads of the numeric libraries in each worker; 0: all.")
        ] = 1,
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
            code = 77
        sys.exit(code)

    return worker


def main() -> int:
    """Run the command line; return the exit code."""
    if sys.argv[1:] == ["--child"]:
        from paramserver.runtime.worker_main import main_child

        return main_child()
    import typer

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(make_command())
    app(prog_name="python -m paramserver.worker")
    return 0


if __name__ == "__main__":
    sys.exit(main())
