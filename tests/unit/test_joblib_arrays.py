"""Arrays among the arguments of joblib's calls, without a cluster. See tests/conformance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramserver.joblib_arrays import Mapped, SharedArrays


def arrived(argument: Any) -> Any:
    return argument.open(*argument.args) if isinstance(argument, Mapped) else argument


@pytest.mark.parametrize("max_nbytes", [None, 8])
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_what_the_caller_has_changed_in_a_mapped_file_arrives(
    mode: Any, max_nbytes: int | None, tmp_path: Path
) -> None:
    """By mode "c" a change is the caller's own: the file does not have it."""
    np.arange(5.0).tofile(tmp_path / "file")
    own = np.memmap(tmp_path / "file", np.float64, mode)
    if mode != "r":
        own[1] = 7
    arrays = SharedArrays((tmp_path,), max_nbytes, "r")
    for _ in range(2):
        ((_, (argument,), _),) = arrays.replace([(len, (own,), {})])
        np.testing.assert_array_equal(arrived(argument), own)
        if mode != "c":
            assert Path(arrived(argument).filename) == tmp_path / "file"
    arrays.close()
