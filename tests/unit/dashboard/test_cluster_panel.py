"""The panel of a cluster."""

from __future__ import annotations

import os
import socket

import pytest

from paramserver import __version__
from paramserver.dashboard.cluster_panel import ClusterPanel, Processes, Usage
from paramserver.drawing.panel import Reading
from paramserver.runtime.status import ClusterStatus, WorkerStatus

HERE = socket.gethostname()


def worker(worker_id: str, pid: int, host: str = HERE, state: str = "ready") -> WorkerStatus:
    return WorkerStatus(worker_id, pid, host, 1, state, None if state == "ready" else 7, 1, 1234, 2)


def status(*workers: WorkerStatus) -> ClusterStatus:
    return ClusterStatus(
        "unix:///tmp/<here>", workers, {"ready": 3, "granted": 1}, {"attempts": 1234, "oversize": 0}
    )


def usage_of(pid: int) -> Usage | None:
    return {1: Usage(0.5, 42_000_000), 2: Usage(None, 1_000_000)}.get(pid)


def test_workers_jobs_and_counters_are_shown() -> None:
    workers = (worker("w10", 1), worker("w2", 2), worker("far", 1, "<elsewhere>", "suspect"))
    text = ClusterPanel(lambda: status(*workers), usage_of).html()
    assert text.index("w2") < text.index("w10")
    for words in (
        "unix:///tmp/&lt;here&gt;", "<td>50%</td><td>42 MB</td>", "<td></td><td>1 MB</td>",
        '<span class="ok">ready</span>', '<span class="odd">suspect</span>', "&lt;elsewhere&gt;",
        "<td>1,234</td>", "none", "2.0 s ago", '<td class="left">attempts</td>',
    ):  # fmt: skip
        assert words in text, words
    assert "oversize" not in text


def test_a_process_elsewhere_is_not_mistaken_for_one_of_this_machine() -> None:
    asked: list[int] = []
    panel = ClusterPanel(lambda: status(worker("far", 77, "elsewhere")), asked.append)
    panel.html()
    assert asked == []


def test_of_many_workers_the_first_are_shown() -> None:
    many = tuple(worker(f"w{i}", 3) for i in range(150))
    text = ClusterPanel(lambda: status(*many), usage_of).html()
    assert text.count('<span class="ok">') == 100
    assert "and 50 more" in text
    assert "There are none" in ClusterPanel(status, usage_of).html()


def test_the_readings_have_few_labels_and_units_in_their_names() -> None:
    workers = (worker("w1", 1), worker("w2", 2, state="draining"), worker("w3", 3))
    found = list(ClusterPanel(lambda: status(*workers), usage_of).readings())
    by_state = "Workers by state."
    events = "What has happened and what was discarded, by reason."
    build = "Always 1; the release of paramserver is in the label."
    assert found == [
        Reading("build_info", build, 1, (("version", __version__),)),
        Reading("workers", by_state, 2, (("state", "ready"),)),
        Reading("workers", by_state, 0, (("state", "quarantined"),)),
        Reading("workers", by_state, 0, (("state", "suspect"),)),
        Reading("workers", by_state, 1, (("state", "draining"),)),
        Reading("jobs", "Jobs of open phases by state.", 3, (("state", "ready"),)),
        Reading("jobs", "Jobs of open phases by state.", 1, (("state", "granted"),)),
        Reading("events_total", events, 1234, (("event", "attempts"),)),
        Reading("events_total", events, 0, (("event", "oversize"),)),
        Reading(
            "workers_resident_memory_bytes",
            "Resident memory of the workers on the master's machine.",
            43_000_000,
        ),
    ]


def test_a_process_tells_what_it_takes_from_the_second_time_on() -> None:
    processes = Processes()
    first, second = processes.usage(os.getpid()), processes.usage(os.getpid())
    assert first is not None
    assert second is not None
    assert first.cpu is None
    assert second.cpu == pytest.approx(max(0.0, second.cpu or 0.0))
    assert second.memory_bytes > 1_000_000
    assert processes.usage(2**30) is None
