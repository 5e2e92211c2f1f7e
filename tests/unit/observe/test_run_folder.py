"""The folder of a run."""

from __future__ import annotations

import json
import os
import re
import threading
from pathlib import Path

import pytest

from paramserver.errors import ConfigError, DataError
from paramserver.observe.events import Progressed, RunEnded, from_lines
from paramserver.observe.run_folder import RunFolder, write_whole
from paramserver.training.result import History, Progress


def progressed(unit: int, loss: float) -> Progressed:
    return Progressed(
        unit=unit, epochs=unit / 2, wall_s=0.5, train_loss=loss, test_score=0.25, n_workers=2
    )


def test_a_new_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    with RunFolder.make(tmp_path / "a" / "b") as folder:
        folder.write_config({"mode": "avg", "lr": 0.1}, ("of a test",))
        folder.write_summary({"wall_s": 1.5, "loss": float("nan")})
    assert (tmp_path / "a/b/config.toml").read_text() == '# of a test\n\nmode = "avg"\nlr = 0.1\n'
    found = json.loads((tmp_path / "a/b/summary.json").read_text())
    assert found == {"wall_s": 1.5, "loss": None}


def test_a_chosen_folder_has_the_time_and_the_mode_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("paramserver.observe.run_folder.time.strftime", lambda _: "20261126-101500")
    with RunFolder.choose("avg") as one, RunFolder.choose("avg") as other:
        assert one.path == Path("runs/20261126-101500-avg")
        assert other.path == Path("runs/20261126-101500-avg-2")


def test_a_folder_that_holds_a_run_or_something_else_is_refused_and_untouched(
    tmp_path: Path,
) -> None:
    with RunFolder.make(tmp_path / "run") as folder:
        folder.write_config({"mode": "avg"}, ())
    foreign = tmp_path / "letters"
    foreign.mkdir()
    (foreign / "to-mother.txt").write_text("Dear")
    for path, words in ((tmp_path / "run", "--resume"), (foreign, "is not empty")):
        before = sorted(path.iterdir())
        with pytest.raises(ConfigError, match=words):
            RunFolder.make(path)
        assert sorted(path.iterdir()) == before


def test_a_place_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        with pytest.raises(ConfigError, match="cannot be kept in"):
            RunFolder.make(path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("not a folder")
    with pytest.raises(ConfigError, match="cannot be kept in"):
        RunFolder.choose("avg")


def test_where_no_folder_can_be_made_a_chosen_one_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir("/proc")
    with pytest.raises(ConfigError, match="cannot be kept in"):
        RunFolder.choose("avg")


def test_when_all_names_of_a_second_are_taken_one_is_to_be_chosen_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("paramserver.observe.run_folder.time.strftime", lambda _: "now")
    for suffix in ("", *(f"-{n}" for n in range(2, 100))):
        (tmp_path / f"runs/now-avg{suffix}").mkdir(parents=True)
    with pytest.raises(ConfigError, match="no free name like runs/now-avg"):
        RunFolder.choose("avg")


def test_a_run_whose_events_cannot_be_written_is_refused_and_stays_free(tmp_path: Path) -> None:
    with RunFolder.make(tmp_path / "run") as folder:
        folder.write_config({}, ())
    (tmp_path / "run/events.jsonl").unlink()
    (tmp_path / "run/events.jsonl").mkdir()
    with pytest.raises(ConfigError, match="cannot be kept in"):
        RunFolder.reopen(tmp_path / "run")
    (tmp_path / "run/events.jsonl").rmdir()
    RunFolder.reopen(tmp_path / "run").close()


def test_two_processes_cannot_write_to_one_folder(tmp_path: Path) -> None:
    with RunFolder.make(tmp_path / "run") as folder:
        folder.write_config({"mode": "avg"}, ())
        with pytest.raises(ConfigError, match="Another process is writing"):
            RunFolder.reopen(tmp_path / "run")
    RunFolder.reopen(tmp_path / "run").close()


def test_only_a_run_can_be_reopened(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape("it has no config.toml")):
        RunFolder.reopen(tmp_path)


def test_half_a_line_of_a_killed_master_spoils_no_other(tmp_path: Path) -> None:
    with RunFolder.make(tmp_path / "run") as folder:
        folder.write_config({}, ())
        folder.note(progressed(1, 0.5))
    with (tmp_path / "run/events.jsonl").open("a") as file:
        file.write('{"event": "Progr')
    with RunFolder.reopen(tmp_path / "run") as folder:
        folder.note(progressed(2, 0.25))
        folder.note(RunEnded(outcome="done"))
    with (tmp_path / "run/events.jsonl").open() as lines:
        found = [event for _, event in from_lines(lines)]
    assert found == [progressed(1, 0.5), progressed(2, 0.25), RunEnded(outcome="done")]


def test_half_a_line_on_a_full_disk_is_an_error_and_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    with RunFolder.make(tmp_path / "run") as folder:
        folder.note(progressed(1, 0.5))
        with monkeypatch.context() as disk:
            disk.setattr(os, "write", lambda fd, data: write(fd, data[:9]))
            with pytest.raises(OSError, match="No space left"):
                folder.note(progressed(2, 0.25))
        folder.note(progressed(3, 0.125))
    with (tmp_path / "run/events.jsonl").open() as lines:
        assert [event for _, event in from_lines(lines)] == [
            progressed(1, 0.5),
            progressed(3, 0.125),
        ]


def test_the_history_is_a_table(tmp_path: Path) -> None:
    with RunFolder.make(tmp_path / "run") as folder:
        folder.write_history(
            History(
                [
                    Progress(1, 0.5, 0.25, 0.9, None, 1.5),
                    Progress(2, 1.0, 0.5, 0.8, None, None, 0.125),
                ]
            )
        )
    assert (tmp_path / "run/history.csv").read_text().splitlines() == [
        "unit,epochs,wall_s,train_loss,test_score,staleness,divergence",
        "1,0.5,0.25,0.9,,1.5,",
        "2,1.0,0.5,0.8,,,0.125",
    ]


def test_a_file_is_whole_whenever_it_is_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    contents = [bytes([i]) * 100_000 for i in range(20)]
    write_whole(path, contents[0])
    seen = []

    def look() -> None:
        while len(seen) < 200:
            seen.append(path.read_bytes())

    reader = threading.Thread(target=look)
    reader.start()
    for content in contents:
        write_whole(path, content)
    reader.join()
    assert set(seen) <= set(contents)
    assert [p.name for p in tmp_path.iterdir()] == ["summary.json"]


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RunFolder.make(tmp_path / "run") as folder:
        folder.write("x", b"old")

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("paramserver.observe.run_folder.os.fsync", full)
        with pytest.raises(DataError, match="No space left on device"):
            folder.write("x", b"new")
    assert (tmp_path / "run/x").read_bytes() == b"old"
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["events.jsonl", "x"]
