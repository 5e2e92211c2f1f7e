"""The command ``python -m paramserver.worker``: an agent with workers, or (`--child`) one worker.

Rule 1: ``--child`` is how agents start workers; that way imports nothing of the command line.
"""

import sys


def main() -> int:
    """Run the command line; return its exit code."""
    if sys.argv[1:] == ["--child"]:
        from paramserver.runtime.worker_main import main_child

        return main_child()
    import typer

    from paramserver.commands.exits import code_of
    from paramserver.commands.worker import add_worker

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    add_worker(app)
    try:
        app(prog_name="python -m paramserver.worker")
    except SystemExit as end:  # how the parser ends
        return code_of(end)
    return 0


if __name__ == "__main__":
    sys.exit(main())
