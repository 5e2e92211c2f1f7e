"""How much memory there is for us."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import psutil
import pytest

from paramserver.runtime.cgroups import UNIFIED, Groups
from paramserver.runtime.memory import memory_bytes, memory_of_one_bytes

TOTAL = psutil.virtual_memory().total
LIMIT = 1 << 20


@pytest.fixture
def container(tmp_path: Path) -> Groups:
    """A group that may take a mebibyte, on two processors."""
    (tmp_path / "memory.max").write_text(f"{LIMIT}\n")
    (tmp_path / "cpu.max").write_text("200000 100000\n")
    return Groups({UNIFIED: (tmp_path,)})


def test_a_container_has_what_it_is_allowed_not_what_the_machine_has(
    container: Groups, tmp_path: Path
) -> None:
    assert memory_bytes(Groups({})) == TOTAL
    assert memory_bytes(container) == LIMIT
    (tmp_path / "memory.max").write_text("9223372036854771712\n")
    assert memory_bytes(container) == TOTAL


def test_the_share_of_a_process_is_that_of_one_processor(
    container: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY,) * 2)
    assert memory_of_one_bytes(Groups({})) == TOTAL // 8
    assert memory_of_one_bytes(container) == LIMIT // 2


def test_a_process_may_be_allowed_less_by_itself(
    container: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (4096, resource.RLIM_INFINITY))
    assert memory_of_one_bytes(container) == 4096
