"""What tests with real processes share."""

from __future__ import annotations

from pathlib import Path

import pytest

from paramserver.transport.security import make_keys


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys of a master and of its workers, in one folder."""
    folder = tmp_path_factory.mktemp("keys")
    folder.chmod(0o700)
    return make_keys(folder)
