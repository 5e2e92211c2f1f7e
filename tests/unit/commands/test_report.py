"""``paramserver report``: what it writes, and the command it prints."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from paramserver import cli
from paramserver.commands.report import command_of, write_report
from paramserver.commands.settings import TrainSettings
from paramserver.config import read_settings, write_settings
from paramserver.errors import ConfigError, DataError
from tests.unit.observe.run_files import STORY, SUMMARY, write_run


def test_a_report_is_written_into_the_folder_or_elsewhere(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", STORY, summary=SUMMARY)
    path = write_report(folder)
    assert path == folder / "report.html"
    text = path.read_text(encoding="utf-8")
    assert "python -m paramserver.train --mode async --workers 2" in text
    assert write_report(folder, tmp_path / "mine.html").read_text(encoding="utf-8") == text


def test_the_command_names_what_is_no_default() -> None:
    from paramserver.commands.settings import kinds

    settings = TrainSettings(
        mode="async", data="a b.csv", workers=3, staleness_aware=True, baseline=False, lr=0.125
    )
    assert command_of(settings.to_keep() | {"of_another_version": 1}) == (
        "python -m paramserver.train --mode async --data 'a b.csv' --lr 0.125 "
        "--staleness-aware --workers 3 --no-baseline"
    )
    assert kinds()["baseline"] is bool


def test_a_place_that_cannot_be_written_is_said_in_words(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", STORY)
    with pytest.raises(DataError, match="cannot be written"):
        write_report(folder, tmp_path / "no" / "such" / "report.html")
    with pytest.raises(ConfigError, match="is not the folder of a run"):
        write_report(tmp_path)


def test_the_command_says_where_the_report_lies_or_what_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "run", STORY)
    monkeypatch.setattr(sys, "argv", ["paramserver", "report", str(folder)])
    assert cli.main() == 0
    assert capsys.readouterr().out == f"{folder / 'report.html'}\n"
    monkeypatch.setattr(sys, "argv", ["paramserver", "report", str(tmp_path)])
    assert cli.main() == 77
    assert "is not the folder of a run" in capsys.readouterr().err


def test_settings_written_and_read_again_make_the_same_command(tmp_path: Path) -> None:
    from paramserver.commands.settings import kinds

    settings = TrainSettings(mode="avg", l2=1e-7, rounds=7, hidden="64,32").to_keep()
    path = tmp_path / "config.toml"
    path.write_text(write_settings(settings, ()))
    assert command_of(read_settings(path, kinds())) == command_of(settings)
