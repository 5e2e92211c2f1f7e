"""A job writes where its run's folder lies, or in a folder of its own; and nowhere else."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paramserver.errors import DataError
from paramserver.mapreduce.files import NewFile
from paramserver.mapreduce.workplace import Workplace
from paramserver.runtime import relay
from paramserver.runtime.context import run_in


def in_a_job(scratch: Path, act: Any) -> Any:
    context: Any = SimpleNamespace(scratch_disk=str(scratch))
    return run_in(context, act, (), {})


def test_on_the_drivers_machine_files_are_written_where_they_lie(tmp_path: Path) -> None:
    folder = tmp_path / "mapreduce-1"
    folder.mkdir()

    def act() -> None:
        with Workplace(str(folder)) as place:
            assert place.folder == str(folder)
            assert place.path_for("/out", "part") == "/out/part"
            assert place.hand_over("/out/part", "/out") == "/out/part"

    in_a_job(tmp_path, act)
    assert list(tmp_path.iterdir()) == [folder]


def test_a_late_attempt_of_a_run_that_has_ended_fails_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "mapreduce-1"  # removed with all there was in it

    def act() -> None:
        with Workplace(str(folder)) as place:
            assert list(tmp_path.iterdir()) == [], "it took this for another machine"
            NewFile(place.path_for(str(folder), "map-00000"))

    with pytest.raises(DataError, match="No such file or directory"):
        in_a_job(tmp_path, act)
    assert list(tmp_path.iterdir()) == []


def test_elsewhere_a_folder_of_its_own_is_filled_handed_over_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[str, bytes]] = []
    monkeypatch.setattr(
        relay, "send_file", lambda source, path: sent.append((path, Path(source).read_bytes()))
    )

    def act() -> None:
        with Workplace("/no such machine/mapreduce-1") as place:
            assert Path(place.folder).parent == tmp_path
            path = place.path_for("/out", "part")
            Path(path).write_bytes(b"a\t1\n")
            assert place.hand_over(path, "/out") == "/out/part"

    in_a_job(tmp_path, act)
    assert sent == [("/out/part", b"a\t1\n")]
    assert list(tmp_path.iterdir()) == []


def test_what_the_killed_have_left_elsewhere_is_removed_by_the_next(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    for pid, name in ((dead.pid, "left"), (os.getppid(), "in use")):
        folder = tmp_path / f"mapreduce-{pid}-{name}"
        folder.mkdir()
        (folder / "map-00000").write_bytes(b"half of")
    others = tmp_path / "mapreduce-notes"
    others.mkdir()

    def act() -> None:
        with Workplace("/no such machine/mapreduce-1") as place:
            assert Path(place.folder).name.startswith(f"mapreduce-{os.getpid()}-")

    in_a_job(tmp_path, act)
    assert sorted(tmp_path.iterdir()) == sorted(
        [others, tmp_path / f"mapreduce-{os.getppid()}-in use"]
    )
