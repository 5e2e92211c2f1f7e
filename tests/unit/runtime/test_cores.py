"""How many processors there are for us."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from paramserver.runtime.cgroups import UNIFIED, Groups
from paramserver.runtime.cores import n_cores

NO_GROUPS = Groups({})


def test_what_the_process_was_told_counts_not_what_the_machine_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 5, 6}, raising=False)
    assert n_cores(NO_GROUPS) == 3


@pytest.mark.parametrize(("bound_to", "expected"), [({1, 5, 6}, 2), ({1}, 1)])
def test_a_container_may_allow_fewer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, bound_to: set[int], expected: int
) -> None:
    (tmp_path / "cpu.max").write_text("200000 100000\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: bound_to, raising=False)
    assert n_cores(Groups({UNIFIED: (tmp_path,)})) == expected


@pytest.mark.parametrize(("there", "expected"), [(8, 8), (None, 1)])
def test_where_that_cannot_be_asked_all_of_the_machine_count(
    monkeypatch: pytest.MonkeyPatch, there: int | None, expected: int
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: there)
    assert n_cores(NO_GROUPS) == expected
