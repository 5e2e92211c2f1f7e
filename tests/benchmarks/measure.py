"""One measurement in a process of its own: ``python -m tests.benchmarks.measure ROW CONTENDER``.

The last line of its output is a JSON object; that it is not installed is an answer too.
"""

from __future__ import annotations

import json
import os
import sys

from tests.benchmarks.rows import load_row

OWN = ("paramserver", "tests")


def main(row: str, contender: str, *options: str) -> None:
    """Measure, print, and leave at once: some contenders would wait for their lost workers."""
    try:
        measured = load_row(row).measure(contender, "--quick" in options)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in OWN:
            raise  # not a peer that is missing, but we who are broken
        measured = {"outcome": f"not installed ({error})"}
    print(json.dumps(measured), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
