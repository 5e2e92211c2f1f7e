"""The folder of results: all of them, or as it was before."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from paramserver.errors import ConfigError, DataError
from paramserver.mapreduce import commit
from paramserver.mapreduce.commit import OutputFolder, remove_folder
from paramserver.mapreduce.output import PartOutput


def attempt(folder: OutputFolder, name: str, data: bytes) -> PartOutput:
    path = os.path.join(folder.temporary, name)
    Path(path).write_bytes(data)
    return PartOutput(path, len(data), 7, 1)


def tree(path: Path) -> list[str]:
    return sorted(str(each.relative_to(path)) for each in path.rglob("*"))


def test_parts_get_their_names_and_a_list_of_them_comes_last(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "a" / "out")
    winner = attempt(folder, "part-00000-1", b"one\t1\n")
    attempt(folder, "part-00000-2", b"half of a late att")
    second = attempt(folder, "part-00001-3", b"")
    paths = folder.commit([winner, second])
    assert paths == [folder.path / "part-00000", folder.path / "part-00001"]
    assert tree(tmp_path / "a" / "out") == ["_SUCCESS", "part-00000", "part-00001"]
    assert paths[0].read_bytes() == b"one\t1\n"
    assert json.loads((folder.path / "_SUCCESS").read_text()) == {
        "parts": [
            {"name": "part-00000", "bytes": 6, "crc32": 7, "pairs": 1},
            {"name": "part-00001", "bytes": 0, "crc32": 7, "pairs": 1},
        ]
    }


@pytest.mark.parametrize("exists", [True, False])
def test_an_abandoned_folder_is_as_it_was_before(tmp_path: Path, exists: bool) -> None:
    if exists:
        (tmp_path / "a" / "out").mkdir(parents=True)
    before = tree(tmp_path)
    folder = OutputFolder(tmp_path / "a" / "out")
    attempt(folder, "part-00000-1", b"one\t1\n")
    folder.abandon()
    assert tree(tmp_path) == before


def test_a_commit_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "out")
    parts = [attempt(folder, f"part-{n}", b"x") for n in range(3)]
    os.unlink(parts[2].path)
    with pytest.raises(DataError, match="No such file"):
        folder.commit(parts)
    folder.abandon()
    assert tree(tmp_path) == []


@pytest.mark.parametrize("name", ["part-00001", "_SUCCESS"])
def test_a_file_that_was_put_there_meanwhile_is_left_alone(tmp_path: Path, name: str) -> None:
    folder = OutputFolder(tmp_path / "out")
    parts = [attempt(folder, f"part-{n}", b"x") for n in range(3)]
    (tmp_path / "out" / name).write_text("precious")
    with pytest.raises(DataError, match=f"{name} was put there by somebody else"):
        folder.commit(parts)
    folder.abandon()
    assert tree(tmp_path) == ["out", f"out/{name}"]
    assert (tmp_path / "out" / name).read_text() == "precious"


def test_a_folder_that_somebody_has_removed_is_not_missed(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "a" / "out")
    remove_folder(str(folder.path))
    folder.abandon()
    assert tree(tmp_path) == []


def test_an_empty_name_is_not_the_working_folder() -> None:
    with pytest.raises(ConfigError, match="out_dir is an empty name"):
        OutputFolder("")


def test_a_part_of_another_length_is_not_committed(tmp_path: Path) -> None:
    folder = OutputFolder(tmp_path / "out")
    part = attempt(folder, "part-1", b"four")._replace(n_bytes=5)
    with pytest.raises(DataError, match="has 4 bytes; its job had written 5"):
        folder.commit([part])
    folder.abandon()
    assert tree(tmp_path) == []


def test_a_folder_with_other_content_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    (tmp_path / "zebra").mkdir()
    with pytest.raises(ConfigError, match=r"not empty \(thesis.tex and 1 more\)") as caught:
        OutputFolder(tmp_path)
    assert caught.value.field == "out_dir"
    assert "rm -r" not in str(caught.value), "who typed `--out .` would lose more than results"
    assert tree(tmp_path) == ["thesis.tex", "zebra"]


def test_what_an_interrupted_run_has_left_is_called_that(tmp_path: Path) -> None:
    OutputFolder(tmp_path / "out")
    with pytest.raises(ConfigError, match="an interrupted run has left"):
        OutputFolder(tmp_path / "out")


def test_two_runs_cannot_begin_in_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both saw it empty; one was faster."""
    OutputFolder(tmp_path / "out")
    monkeypatch.setattr(commit, "refuse_contents", lambda path: None)
    with pytest.raises(ConfigError, match="Another run has just begun"):
        OutputFolder(tmp_path / "out")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        OutputFolder(tmp_path / "file")
    with pytest.raises(DataError, match="Not a directory"):
        OutputFolder(tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "x"


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it() -> None:
    with pytest.raises(DataError, match="/proc/nothing/out cannot be written"):
        OutputFolder("/proc/nothing/out")


def test_a_late_attempt_cannot_write_into_a_removed_folder(tmp_path: Path) -> None:
    folder = tmp_path / "_temporary"
    folder.mkdir()
    with (folder / "late").open("wb") as late:
        remove_folder(str(folder))
        late.write(b"still open, and nobody sees it")
    assert tree(tmp_path) == []
    with pytest.raises(FileNotFoundError):
        (folder / "later").open("wb")
    remove_folder(str(folder))  # it does no harm to remove it twice
