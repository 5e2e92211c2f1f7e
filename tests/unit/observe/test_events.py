"""Events, and their lines."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path

from paramserver.observe import events
from paramserver.observe.events import (
    ErrorRaised,
    Progressed,
    RunEnded,
    RunStarted,
    WorkDone,
    WorkerChanged,
    WorkersCounted,
    from_lines,
    to_line,
)

EVENTS = [
    RunStarted(
        version="1", mode="avg", model="softmax", data="digits", n_workers=2, n_partitions=3,
        n_examples=100, n_features=4, n_parameters=5, total=20.0, host="here", pid=7,
    ),
    Progressed(unit=1, epochs=1.5, wall_s=0.1, train_loss=0.5, test_score=None, n_workers=2),
    WorkerChanged(worker_id="local1-0", incarnation=2, change="lost", reason="signal 9"),
    WorkersCounted(workers=[{"worker_id": "local1-0", "incarnation": 2, "pid": 7}]),
    ErrorRaised(number=0, error="ValueError: no", traceback="Traceback", worker_id="w", n=3),
    WorkDone(workers=[{"worker_id": "w", "wait_s": 0.5}], partitions=[{"partition": 0}]),
    RunEnded(outcome="done", summary={"staleness": {"histogram": {"0": 3}}}),
]  # fmt: skip


def test_events_read_back_as_they_were() -> None:
    lines = [to_line(event, 10.5 + i) for i, event in enumerate(EVENTS)]
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in lines)
    assert list(from_lines(lines)) == [(10.5 + i, event) for i, event in enumerate(EVENTS)]


def test_a_line_can_be_read_by_any_reader_of_json() -> None:
    record = json.loads(to_line(EVENTS[1], 1.0))
    assert record == {
        "event": "Progressed", "at": 1.0, "unit": 1, "epochs": 1.5, "wall_s": 0.1,
        "train_loss": 0.5, "test_score": None, "n_workers": 2, "staleness": None,
        "divergence": None,
        "pushed_bytes": None, "pulled_bytes": None, "n_queued": None,
    }  # fmt: skip


def test_a_loss_that_is_no_number_becomes_null() -> None:
    event = Progressed(
        unit=1, epochs=1.0, wall_s=0.1, train_loss=math.nan, test_score=math.inf, n_workers=1
    )
    record = json.loads(to_line(event, 1.0))
    assert (record["train_loss"], record["test_score"]) == (None, None)


def test_half_a_line_and_what_is_not_known_are_passed_over() -> None:
    whole = to_line(EVENTS[2], 1.0)
    lines = [
        whole[:20],
        "\n",
        "[1, 2]\n",
        '{"event": "FromTheFuture", "at": 2.0}\n',
        '{"at": 2.0}\n',
        whole.replace('"change"', '"new_field": 3, "change"'),
    ]
    assert list(from_lines(lines)) == [(1.0, EVENTS[2])]


def test_the_document_names_every_event_and_every_field(repository: Path) -> None:
    text = (repository / "docs" / "events.md").read_text(encoding="utf-8")
    told: dict[str, list[str]] = {}
    for part in re.split(r"^## ", text, flags=re.M)[1:]:
        name, _, rest = part.partition("\n")
        rows = re.findall(r"^\| (`.*?) \|", rest, re.M)
        told[name] = [field for row in rows for field in re.findall(r"`(\w+)`", row)]
    assert told == {
        name: [field.name for field in dataclasses.fields(kind)]
        for name, kind in events.EVENTS.items()
    }
    assert f"This is schema {events.SCHEMA};" in text
