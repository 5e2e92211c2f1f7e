"""The numbers for Prometheus keep to its conventions, as its own parser reads them.

https://prometheus.io/docs/practices/naming/ and .../instrumenting/writing_exporters/
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from paramserver.dashboard.attempts_panel import AttemptsPanel
from paramserver.dashboard.board import Board
from paramserver.dashboard.cluster_panel import ClusterPanel, Usage
from paramserver.dashboard.metrics import exposition
from paramserver.observe.progress_panel import ProgressPanel
from paramserver.observe.settings import SettingsPanel
from paramserver.runtime.status import ClusterStatus, WorkerStatus
from paramserver.training.jobs_panel import JobsPanel
from tests.unit.observe.run_files import STARTED, progressed
from tests.unit.training.test_jobs_panel import Source

NOT_BASE_UNITS = re.compile(
    r"_(ms|milliseconds|us|minutes|hours|kb|mb|kilobytes|megabytes|percent)(_|$)"
)
LABELS = {"state", "event", "way", "activity", "version"}
"""All there are: none names a worker, a job or a host, of which there may be any number."""


def status() -> ClusterStatus:
    workers = [WorkerStatus(f"w{i}", i, "here", i, "ready", None, 0, 5, 0.5) for i in range(1, 500)]
    jobs = {"ready": 3, "granted": 1}
    return ClusterStatus("unix:///x", tuple(workers), jobs, {"attempts": 9, "workers_lost": 1})


@pytest.fixture
def text() -> str:
    progress = ProgressPanel(STARTED)
    progress.take(progressed(5, 2.0))
    panels = [
        progress,
        JobsPanel(Source(Counter({0: 3}))),
        AttemptsPanel(),
        ClusterPanel(status, lambda _: Usage(0.5, 1_000)),
        SettingsPanel(STARTED, {}, ""),
    ]
    return exposition(Board(panels).readings)().decode()


def test_every_number_has_help_a_type_and_a_name_with_its_unit(text: str) -> None:
    families = list(text_string_to_metric_families(text))
    assert len(families) > 12
    for family in families:
        assert re.fullmatch(r"paramserver_[a-z][a-z0-9_]*[a-z0-9]", family.name), family.name
        assert family.documentation.endswith("."), family.name
        assert family.type in ("counter", "gauge"), family.name
        assert not NOT_BASE_UNITS.search(family.name), family.name
        for sample in family.samples:
            assert sample.name.endswith("_total") == (family.type == "counter"), sample.name


def test_a_name_is_declared_once_and_no_line_comes_twice(text: str) -> None:
    for word in ("HELP", "TYPE"):
        declared = re.findall(rf"^# {word} (\S+)", text, re.M)
        assert len(declared) == len(set(declared))
    lines = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))


def test_labels_have_few_values_however_many_workers_there_are(text: str) -> None:
    assert set(labels(text)) == LABELS
    assert len(text.splitlines()) < 120


def labels(text: str) -> Iterator[str]:
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            yield from sample.labels
