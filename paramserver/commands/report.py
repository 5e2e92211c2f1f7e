"""``paramserver report``: make the report of a run again from what its folder holds.

Rule 1: it only reads the run, and writes ``report.html`` whole or not at all.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paramserver.commands.setting import flag
from paramserver.commands.settings import TrainSettings, kinds
from paramserver.errors import DataError
from paramserver.observe.record import read_run
from paramserver.observe.report import REPORT, report_html
from paramserver.observe.run_folder import write_whole


def write_report(folder: Path, to: Path | None = None) -> Path:
    """Write the report of a run; return where it lies.

    Parameters
    ----------
    folder : Path
        Of the run.
    to : Path, optional
        Another file than ``report.html`` in the folder.

    Raises
    ------
    ConfigError
        If it is not the folder of a run.
    DataError
        If nothing tells of a run there, or the file cannot be written.
    """
    record = read_run(folder)
    path = folder / REPORT if to is None else to
    text = report_html(record, command_of(record.config))
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise DataError(
            f"{path} cannot be written: {error.strerror or error}. Name another file with --to.",
            path=str(path),
        ) from error
    return path


def command_of(config: Mapping[str, Any]) -> str:
    """Return the command that repeats a run, whatever has become of its folder.

    Parameters
    ----------
    config : mapping
        As in ``config.toml``. What is a default, or no setting of this version, is left out.

    Examples
    --------
    >>> command_of({"mode": "avg", "data": "my rows.csv", "rounds": 20, "workers": 4})
    "python -m paramserver.train --mode avg --data 'my rows.csv' --workers 4"
    """
    words = ["python", "-m", "paramserver.train"]
    known = kinds()
    for name, value in config.items():
        if name not in known or value == getattr(TrainSettings, name, None):
            continue
        words.append(flag(name, getattr(TrainSettings, name, None)))
        if known[name] is not bool:
            words.append(str(value))
    return shlex.join(words)
