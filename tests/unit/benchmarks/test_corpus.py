"""The benchmark's text is the same everywhere, or figures of two machines mean nothing."""

import hashlib
from pathlib import Path

from tests.benchmarks.corpus import corpus


def test_the_same_seed_gives_the_same_bytes_on_every_machine(tmp_path: Path) -> None:
    text = corpus(tmp_path / "text", 100_000, seed=7).read_bytes()
    assert len(text) == 100_000
    assert hashlib.md5(text).hexdigest() == "eb9732c6a90121c28c807103b9bbdcbe"
    assert list(tmp_path.iterdir()) == [tmp_path / "text"]
