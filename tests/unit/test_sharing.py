"""Two sessions that share the tests of a run: each test is run once, by one of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.sharing import FOLDER, LONGEST, Share

MODULES = {
    "test_a.py": "def test_one(): pass\ndef test_two(): pass\n",
    "test_b.py": "def test_three(): pass\n",
    "test_c.py": "def test_four(): assert False\n",
    "conftest.py": (
        "import pytest\n"
        "@pytest.fixture(scope='session', autouse=True)\n"
        "def _end():\n"
        "    yield\n"
        "    raise ValueError('left behind')\n"
    ),
}


def test_a_module_belongs_to_who_comes_first(tmp_path: Path) -> None:
    one, other = Share(tmp_path), Share(tmp_path)
    assert one.takes("tests/test_a.py")
    assert other.takes("tests/test_b.py")
    assert one.takes("tests/test_a.py")  # still
    assert not other.takes("tests/test_a.py")
    assert not one.takes("tests/test_b.py")


def test_the_longest_modules_are_there(repository: Path) -> None:
    assert [name for name in LONGEST if not (repository / name).is_file()] == []


def test_each_test_is_run_by_one_session_and_its_failure_is_told(
    repository: Path, tmp_path: Path
) -> None:
    for folder in ("modules", "share"):
        (tmp_path / folder).mkdir()
    for name, code in MODULES.items():
        (tmp_path / "modules" / name).write_text(code)
    command = [sys.executable, "-m", "pytest", "-p", "tests.sharing", "-p", "no:cacheprovider"]
    sessions = [
        subprocess.Popen(
            command,
            cwd=tmp_path / "modules",
            env=os.environ | {"PYTHONPATH": str(repository), FOLDER: str(tmp_path / "share")},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    said = "".join(session.communicate()[0] for session in sessions)
    counts = {
        word: sum(map(int, re.findall(rf"(\d+) {word}[, ]", said))) for word in ("passed", "failed")
    }
    assert counts == {"passed": 3, "failed": 1}, said
    # What a fixture of the session finds at the end is an error of its last test.
    assert "ERROR at teardown of" in said
    assert "INTERNALERROR" not in said
    assert [session.returncode for session in sessions] in ([1, 1], [0, 1], [1, 0])
