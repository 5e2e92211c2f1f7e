"""What tests with real processes share."""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from zmq.utils import garbage

import paramserver as ps
from paramserver.transport.security import make_keys


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys of a master and of its workers, in one folder."""
    folder = tmp_path_factory.mktemp("keys")
    folder.chmod(0o700)
    return make_keys(folder)


@pytest.fixture(scope="module")
def cluster() -> Iterator[ps.LocalCluster]:
    """One worker, for the tests of a module that makes no other cluster of this name."""
    with ps.LocalCluster(1) as cluster:
        yield cluster
    garbage.gc.stop()


@pytest.fixture
def only_here(tmp_path: Path) -> Iterator[types.ModuleType]:
    """A module that can be imported here and nowhere else."""
    path = tmp_path / "only_here.py"
    path.write_text("def double(x):\n    return 2 * x\n\nclass Thing:\n    pass\n")
    spec = importlib.util.spec_from_file_location("only_here", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["only_here"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["only_here"]
