"""What workers of one training have to agree on."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from paramserver.errors import RemoteProtocolError
from paramserver.training.arithmetic import Arithmetic, arithmetic_here

ONE = Arithmetic(1, "2.4", "0.60", "openblas 0.3", "x86_64", "AVX2", "Haswell")


def test_this_process_says_how_it_computes() -> None:
    here = arithmetic_here()
    assert here.numpy == np.__version__
    assert here.blas_threads >= 1
    assert Arithmetic.from_plain(here.as_plain()) == here


SET = """
import os, numpy
from paramserver.training.arithmetic import arithmetic_here, use_threads
started = arithmetic_here().blas_threads
use_threads(1)
import scipy.linalg  # brings a BLAS of its own
from threadpoolctl import threadpool_info
print(started, [x["num_threads"] for x in threadpool_info() if x["user_api"] == "blas"])
use_threads(2)
print([x["num_threads"] for x in threadpool_info() if x["user_api"] == "blas"])
"""


def test_threads_are_set_also_for_libraries_that_are_loaded_later() -> None:
    command = [sys.executable, "-c", SET]
    env = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["2 [1, 1]", "[2, 2]"]


def test_another_number_of_threads_is_no_difference_for_it_is_set() -> None:
    assert ONE.difference(ONE) == ""
    assert ONE.difference(replace(ONE, blas_threads=4)) == ""


def test_what_cannot_be_set_is_said() -> None:
    other = replace(ONE, numpy="2.3", blas_kernels="")
    assert ONE.difference(other) == (
        "numpy is 2.3 instead of 2.4; blas_kernels is unknown instead of Haswell"
    )
    deaf = replace(ONE, blas_threads=0)
    assert ONE.difference(deaf) == "blas_threads is unknown instead of 1"


@pytest.mark.parametrize(
    "told",
    [
        None,
        {},
        {"blas_threads": 1},
        ONE.as_plain() | {"x": 1},
        ONE.as_plain() | {"blas_threads": "1"},
        ONE.as_plain() | {"blas_threads": True},
        ONE.as_plain() | {"blas_threads": -1},
        ONE.as_plain() | {"numpy": b"2.4"},
        ONE.as_plain() | {"numpy": "2" * 201},
    ],
)
def test_what_says_nothing_of_it_is_refused(told: Any) -> None:
    with pytest.raises(RemoteProtocolError):
        Arithmetic.from_plain(told)
