"""The known bugs of `mutants.py` can still be put in: each edit finds its place, once."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from tests.simulation.mutants import MUTANTS, Mutant, apply


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_known_bug_can_be_put_in(mutant: Mutant, repository: Path, tmp_path: Path) -> None:
    core = tmp_path / "paramserver" / "core"
    core.mkdir(parents=True)
    shutil.copy(repository / "paramserver" / "core" / mutant.file, core)
    apply(mutant, tmp_path)
    ast.parse((core / mutant.file).read_text(encoding="utf-8"))


def test_a_bug_whose_place_is_gone_is_no_bug(repository: Path, tmp_path: Path) -> None:
    core = tmp_path / "paramserver" / "core"
    core.mkdir(parents=True)
    (core / "link.py").write_text("", encoding="utf-8")
    with pytest.raises(ValueError, match="stands 0 times"):
        apply(Mutant("gone", "lost", "link.py", "x = 1", "x = 2"), tmp_path)
