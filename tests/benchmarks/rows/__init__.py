"""The rows of both benchmarks: one file for each, loaded when it is asked for.

A measuring process loads its own row only, so that nothing but the contender's own imports is on
the clock, or inherited by a worker that is forked.
"""

from __future__ import annotations

from importlib import import_module

from tests.benchmarks.row import Row

CORE = {
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
TRAINING = {
    "5": ("averaging", "TWO"),
    "6": ("averaging", "FOUR"),
    "7": ("averaging", "SMALL"),
    "8": ("pushes", "LARGE"),
    "9": ("pushes", "SMALL"),
    "10": ("fashion_softmax", "ROW"),
    "11": ("fashion_mlp", "ROW"),
    "12": ("sections", "ROW"),
    "13": ("sparse_binary", "ROW"),
    "16": ("first_run", "ROW"),
}
PLACES = CORE | TRAINING


def load_row(key: str) -> Row:
    """Return one row."""
    module, name = PLACES[key]
    row = getattr(import_module(f"tests.benchmarks.rows.{module}"), name)
    assert isinstance(row, Row)
    assert row.key == key
    return row
