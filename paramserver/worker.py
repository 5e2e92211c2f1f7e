"""The command ``python -m paramserver.worker``: a worker process, or an agent with many of them."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; return the exit code."""
    from paramserver.runtime.worker import main_child

    if sys.argv[1:] == ["--child"]:
        return main_child()
    raise SystemExit("not yet")


if __name__ == "__main__":
    sys.exit(main())
