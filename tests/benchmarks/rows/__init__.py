"""The rows of the benchmark of the job core: one file for each, loaded when it is asked for.

A measuring process loads its own row only, so that nothing but the contender's own imports is on
the clock, or inherited by a worker that is forked.
"""

from __future__ import annotations

from importlib import import_module

from tests.benchmarks.row import Row

PLACES = {
    "1": ("noop", "ROW"),
    "2": ("round_trip", "ROW"),
    "3": ("startup", "ROW"),
    "4": ("wordcount", "ROW"),
    "14": ("faults", "KILL"),
    "15": ("faults", "STOP"),
    "queue-memory": ("queue", "MEMORY"),
    "queue-length": ("queue", "SCALING"),
    "stream": ("queue", "STREAM"),
    "import": ("import_time", "ROW"),
}


def load_row(key: str) -> Row:
    """Return one row."""
    module, name = PLACES[key]
    row = getattr(import_module(f"tests.benchmarks.rows.{module}"), name)
    assert isinstance(row, Row)
    assert row.key == key
    return row
