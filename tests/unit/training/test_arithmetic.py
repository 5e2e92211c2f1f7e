"""What workers of one training have to agree on."""

from __future__ import annotations

from typing import Any

import pytest

from paramserver.errors import ConfigError, RemoteProtocolError
from paramserver.training.arithmetic import Arithmetic, arithmetic_here


def test_this_process_says_how_it_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    here = arithmetic_here()
    assert here == Arithmetic("3")
    assert Arithmetic.from_plain(here.as_plain()) == here


def test_those_who_compute_otherwise_are_told_how_to_start() -> None:
    Arithmetic("1").require(Arithmetic("1"))
    with pytest.raises(ConfigError, match=r"with 4 BLAS threads, .* with 1: .* --blas-threads N"):
        Arithmetic("1").require(Arithmetic("4"))
    with pytest.raises(ConfigError, match="the default number of BLAS"):
        Arithmetic("1").require(Arithmetic(""))


@pytest.mark.parametrize(
    "told",
    [None, {}, {"blas_threads": 1}, {"blas_threads": "1", "x": 1}, {"blas_threads": "1" * 20}],
)
def test_what_says_nothing_of_it_is_refused(told: Any) -> None:
    with pytest.raises(RemoteProtocolError):
        Arithmetic.from_plain(told)
