"""The examples are short, run from a clean process, and show what they promise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

MAX_LINES = 40
SHOWN = {
    "averaging": [r"^ +1 +256 ", r"^ +256 +1 +0\.03 MB +9\d\.\d% +[4-8]\d\.\d%$"],
    "async_sgd": [
        r"^staleness_bound=None: 9\d",
        r"^staleness_bound=0: 9\d",
        r"^   0  100\.0%  █+$",
    ],
    "own_model": [
        r"^ +10% .* (9|10)\.\d% ",
        r"^ +50% .* (49|50)\.\d% ",
        r"^ +90% .* (89|90)\.\d% ",
    ],
    "executor": [r"^killed worker", r"^539,777 primes below 8,000,000 .* workers lost: 1$"],
    "grid_search": [r"^killed worker", r"^alpha 0\.001 +93\.\d% .* <- best$", r"on the way: 1$"],
    "estimator": [
        r"^accuracy 0\.9",
        r" rounds, loss 0\.",
        r"^the stock estimator: SGDClassifier\(",
    ],
    "large_csv": [
        r"^prices\.csv: 1\d MB$",
        r"^160,000 rows .* 40,000 held out",
        r": 0\.99\d\d after",
    ],
}
"""What the output of an example has lines like. Word count: tests/integration/test_wordcount.py."""


def test_every_example_is_run_and_is_short(repository: Path) -> None:
    lines = {
        path.stem: len(path.read_text(encoding="utf-8").splitlines())
        for path in (repository / "examples").glob("*.py")
    }
    assert set(lines) == {*SHOWN, "wordcount"}
    assert {name: n for name, n in lines.items() if n > MAX_LINES} == {}


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_an_example_shows_what_it_promises(repository: Path, tmp_path: Path, name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", repository / "examples" / f"{name}.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(repository), "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [line for line in SHOWN[name] if not re.search(line, done.stdout, re.MULTILINE)] == []
    assert list(tmp_path.iterdir()) == []
