"""Pickles by name where names do, by value where not, and clear words where neither does."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from paramserver.errors import LocalProtocolError
from paramserver.protocol import pickling


def module_function(x: int) -> int:
    return x + 1


def test_an_importable_function_goes_by_name() -> None:
    data, buffers = pickling.dumps((module_function, (1,), {}))

    assert len(data) < 100
    assert buffers == ()
    assert pickling.loads(data) == (module_function, (1,), {})


def test_a_lambda_and_a_local_function_go_by_value() -> None:
    offset = 10

    def local(x: int) -> int:
        return x + offset

    for fn in (local, lambda x: x + offset):
        data, buffers = pickling.dumps(fn)
        again = pickling.loads(data, buffers)

        assert again is not fn
        assert again(1) == 11


def test_what_belongs_to_main_goes_by_value_however_deep_it_lies() -> None:
    program = """
import sys
from paramserver.protocol import pickling
class Point:
    def __init__(self, x): self.x = x
def shift(point): return point.x + 1
data, buffers = pickling.dumps((sorted, ([{"deep": [Point(4)]}],), {}))
again = pickling.loads(data, buffers)
assert type(again[1][0][0]["deep"][0]) is Point, "the class is known again where it came from"
sys.stdout.buffer.write(pickling.dumps((shift, Point(41)))[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, timeout=60
    )

    shift, point = pickling.loads(done.stdout)
    assert shift(point) == 42


def test_large_arrays_stay_outside_of_the_pickle_and_small_ones_inside() -> None:
    large, small = np.arange(10_000.0), np.arange(10.0)

    data, buffers = pickling.dumps({"large": large, "small": small})

    assert len(data) < 1000
    (buffer,) = buffers
    assert np.shares_memory(np.frombuffer(buffer), large)
    again = pickling.loads(data, buffers)
    assert np.array_equal(again["large"], large)
    assert np.array_equal(again["small"], small)


@pytest.mark.parametrize("copy", [bytes, bytearray])
def test_an_array_that_was_writable_is_writable_where_it_arrives(copy: Any) -> None:
    data, buffers = pickling.dumps(np.zeros(1000))

    again = pickling.loads(data, [copy(b) for b in buffers])

    again[0] = 1
    assert again[0] == 1


def test_an_array_that_was_read_only_stays_so() -> None:
    array = np.zeros(1000)
    array.flags.writeable = False

    assert not pickling.loads(*pickling.dumps(array)).flags.writeable


def test_writable_memory_is_used_as_it_is() -> None:
    data, buffers = pickling.dumps(np.zeros(1000))
    memory = bytearray(buffers[0])

    assert np.shares_memory(pickling.loads(data, [memory]), np.frombuffer(memory))


class Stubborn:
    def __reduce__(self) -> Any:
        raise RuntimeError("not me")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (threading.Lock(), r"a value of type _thread\.lock cannot be pickled .*lock"),
        (Stubborn(), r"a value of type \S*Stubborn cannot be pickled .*not me"),
        ((n for n in range(3)), "a value of type builtins.generator cannot be pickled"),
    ],
    ids=["lock", "stubborn", "generator"],
)
def test_what_cannot_be_pickled_is_named_by_its_type(value: Any, words: str) -> None:
    with pytest.raises(LocalProtocolError, match=words):
        pickling.dumps(value)


def test_what_cannot_be_pickled_is_named_as_the_caller_wishes() -> None:
    with pytest.raises(LocalProtocolError, match=r"a call cannot be pickled \(TypeError: .*lock"):
        pickling.dumps((print, (threading.Lock(),), {}), what="a call")


def test_what_lies_in_read_only_memory_is_read_only_where_nothing_is_to_be_copied() -> None:
    data, buffers = pickling.dumps(np.arange(100_000.0))
    frozen = [bytes(buffer) for buffer in buffers]
    array = pickling.loads(data, frozen, in_place=True)
    assert not array.flags.writeable
    assert np.shares_memory(array, np.frombuffer(frozen[0]))
    assert pickling.loads(data, frozen).flags.writeable
