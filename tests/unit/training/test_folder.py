"""Who shares the folder of a training."""

from __future__ import annotations

from pathlib import Path

import pytest

from paramserver.runtime import relay
from paramserver.training.folder import is_near, proof_of


def test_only_who_reads_the_same_proof_is_near(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").write_text("a1b2")
    proof = proof_of(tmp_path)
    assert proof.startswith("a1b2:")
    assert is_near(tmp_path, proof)
    assert not is_near(tmp_path, "")
    assert not is_near(tmp_path, "a1b2:another boot")
    assert not is_near(tmp_path / "elsewhere", proof)
    (tmp_path / "here").write_text("c3d4")  # a folder of the same name on another machine
    assert not is_near(tmp_path, proof)
    (tmp_path / "here").write_text("a1b2")
    monkeypatch.setattr(relay, "is_here", lambda folder: False)
    assert not is_near(tmp_path, proof)
