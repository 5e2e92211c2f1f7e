"""The notebooks run from a clean kernel, as a reader would run them; they assert what they say.

Those that need more than ten seconds are run by `make test-full`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
QUICK = {"00-five-minutes", "10-bring-your-own-model"}
ALL = sorted(FOLDER.glob("*.ipynb"))


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=() if path.stem in QUICK else pytest.mark.full)
        for path in ALL
    ],
)
def test_a_notebook_runs_from_a_clean_kernel(repository: Path, path: Path) -> None:
    before = sorted(FOLDER.iterdir())
    done = subprocess.run(
        [sys.executable, repository / "tests" / "run_notebook.py", path],
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        encoding="utf-8",
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(FOLDER.iterdir()) == before


def test_those_that_are_quick_are_there() -> None:
    assert QUICK.issubset(path.stem for path in ALL)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    """And in one form, so that a change shows as what it is."""
    text = path.read_text(encoding="utf-8")
    notebook = json.loads(text)
    assert [cell["id"] for cell in cells(path, "code") if cell["outputs"]] == []
    assert [cell["id"] for cell in cells(path, "code") if cell["execution_count"] is not None] == []
    assert [cell["id"] for cell in notebook["cells"] if cell["metadata"]] == []
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert text == json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_notebook_tells_a_story(path: Path) -> None:
    """A title, prose between the code, a picture, something asserted, no code too long to read."""
    prose, code = cells(path, "markdown"), cells(path, "code")
    sources = ["".join(cell["source"]) for cell in code]
    for source in sources:
        compile(source, path.stem, "exec")
    titles = [
        line for cell in prose for line in "".join(cell["source"]).split("\n") if line[:2] == "# "
    ]
    assert ["".join(prose[0]["source"]).partition("\n")[0]] == titles
    assert len(prose) >= len(code) / 2
    assert any("plt.subplots" in source for source in sources)
    assert any("assert " in source for source in sources)
    assert [source for source in sources if source.count("\n") > 45] == []
