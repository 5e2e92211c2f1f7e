"""What is made of workers that are not as the others."""

from __future__ import annotations

from collections import Counter

import pytest

from paramserver.errors import ConfigError, RemoteProtocolError, TrainingError
from paramserver.protocol import calls
from paramserver.protocol.arrays import pack_plain
from paramserver.protocol.messages import Payload, PayloadKind
from paramserver.training.agreement import Agreement
from paramserver.training.arithmetic import Arithmetic


def agreement(*, trusted: bool = False) -> tuple[Agreement, Counter[str]]:
    counters: Counter[str] = Counter()
    return Agreement(counters, trusted=trusted), counters


def told(value: object) -> Payload:
    return Payload(PayloadKind.PLAIN, pack_plain(value, []))


def test_the_first_worker_says_how_all_compute() -> None:
    agreed, _ = agreement()
    agreed.compare(told({"blas_threads": "2"}))
    assert agreed.arithmetic == Arithmetic("2")
    agreed.compare(told({"blas_threads": "2"}))
    with pytest.raises(ConfigError, match="computes with 4 BLAS threads, the others"):
        agreed.compare(told({"blas_threads": "4"}))
    with pytest.raises(RemoteProtocolError):
        agreed.compare(told([1]))
    assert agreed.arithmetic == Arithmetic("2")


def test_a_result_is_read_and_one_that_cannot_be_is_nothing() -> None:
    agreed, _ = agreement()
    assert agreed.read(told((1, 0.5))) == (1, 0.5)
    assert agreed.read(Payload(PayloadKind.PLAIN, b"\xc1")) is None
    trusted, _ = agreement(trusted=True)
    assert trusted.read(calls.encode_value({1, 2}, trusted=True)) == {1, 2}


def test_the_third_strike_ends_the_training_and_names_who_made_it() -> None:
    agreed, counters = agreement()
    agreed.strike("a-0", "given back nothing")
    agreed.strike("a-1", "given back nothing")
    with pytest.raises(
        TrainingError, match=r"^Worker a-2 has called its result 'x', and it is the"
    ):
        agreed.strike("a-2", "called its result 'x'")
    assert counters == {"mismatched": 3}
