"""``paramserver`` and ``python -m paramserver``: what runs first, before anything slow is imported.

Rule 1: from its first line on, Ctrl-C ends it with one line, and without a traceback.
"""

import sys

from paramserver.commands.interrupts import end_at_once


def main() -> int:
    """Run the command line; return its exit code."""
    end_at_once()
    from paramserver.cli import main as run_command

    return run_command()


if __name__ == "__main__":
    sys.exit(main())
