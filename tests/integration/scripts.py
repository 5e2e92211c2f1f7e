"""Runs small programs of a user in processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil

PATIENCE_S = 60.0


def until(condition: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait until a condition holds."""
    end_at = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end_at, f"not within {patience_s} s: {what}"
        time.sleep(0.005)


class Script:
    """A program on its way; see `start`."""

    def __init__(self, popen: subprocess.Popen[str], folder: Path) -> None:
        self.popen = popen
        self.folder = folder
        self.out = ""
        self.err = ""

    def wait(self) -> int:
        """Wait for its end; return the exit code, with output in `out` and `err`."""
        try:
            self.out, self.err = self.popen.communicate(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.popen.send_signal(signal.SIGABRT)  # faulthandler then tells where it hangs
            self.out, self.err = self.popen.communicate()
            raise AssertionError(f"it hangs:\n{self.out}\n{self.err}") from None
        return self.popen.returncode

    def wait_for_file(self, name: str) -> Path:
        """Wait until the program (or a job of it) has made a file in its folder."""
        path = self.folder / name

        def is_there() -> bool:
            if self.popen.poll() is not None:
                self.wait()
                raise AssertionError(f"it ended before it made {name}:\n{self.out}\n{self.err}")
            return path.exists()

        until(is_there, f"{name} is made")
        return path

    def workers(self) -> list[psutil.Process]:
        """Its child processes."""
        return psutil.Process(self.popen.pid).children()


def start(folder: Path, code: str, *options: str) -> Script:
    """Start a program, as a file in `folder`, which is its working folder."""
    path = folder / "script.py"
    path.write_text(textwrap.dedent(code))
    root = str(Path(__file__).resolve().parents[2])
    popen = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", *options, str(path)],
        cwd=folder,
        env={**_plain_environment(), "PYTHONPATH": root},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return Script(popen, folder)


def _plain_environment() -> dict[str, str]:
    """This process's environment, but for the measuring of coverage: it spoils Ctrl-C.

    A signal that comes while the tracer works is raised inside of it, and lost.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}


def run(folder: Path, code: str, *options: str) -> Script:
    """Run a program to its end, which must be a good one."""
    script = start(folder, code, *options)
    assert script.wait() == 0, f"{script.out}\n{script.err}"
    return script
