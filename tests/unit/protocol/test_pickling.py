"""Pickles by name where names do, by value where not, and clear words where neither does."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
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


# --- what is kept for functions of main -----------------------------------------------------------


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What this process keeps in ``__main__``; nothing when the test is over."""
    names: dict[str, Any] = {}
    monkeypatch.setattr(pickling, "_kept_in_main", names)
    return names


def main_namespace(source: str) -> dict[str, Any]:
    """Run a script, as far as functions can tell."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(source, names)
    return names


def test_functions_of_main_find_what_is_kept_whatever_the_pickle_says_of_it(
    kept: dict[str, Any],
) -> None:
    script = main_namespace(
        "a, b = 1, 2\n"
        "def total(): return a + b + c\n"
        "def outer(): return total()\n"
        "class Sum:\n    def total(self): return a + b + c\n"
    )
    # Built on the way back: it needs what is kept before its pickle has come to its end.
    exec(
        "class Early:\n"
        "    def __init__(self, x=0): self.x = x\n"
        "    def __getstate__(self): return {'x': 0}\n"
        "    def __setstate__(self, state): self.x = c\n",
        script,
    )
    names = ("total", "outer", "Sum", "Early")
    data, _ = pickling.dumps([script["Early"](), *map(script.get, names)])
    pickling.keep_in_main({"b": 20, "c": 100})

    early, total, outer, kind, _ = pickling.loads(data)
    assert (total(), outer(), kind().total(), early.x) == (121, 121, 121, 100)

    script["a"], script["b"] = 5, 6  # the driver's own word counts where nothing is kept
    assert pickling.loads(pickling.dumps(script["total"])[0])() == 125
    assert kept == {"b": 20, "c": 100}


def test_what_is_kept_in_main_is_nobody_else_s(kept: dict[str, Any]) -> None:
    elsewhere: dict[str, Any] = {"__name__": "another.module"}
    exec("a = 1\ndef get(): return a, 'b' in globals()", elsewhere)
    pickling.keep_in_main({"a": 10, "b": 20})
    data, buffers = pickling.dumps((elsewhere["get"], np.zeros(1000)))
    get, array = pickling.loads(data, buffers)
    assert get() == (1, False)
    assert array.flags.writeable
    assert pickling.loads(pickling.dumps(module_function)[0]) is module_function
    assert "b" not in globals()


def test_what_was_unpickled_is_let_go_of_at_once_where_something_is_kept(
    kept: dict[str, Any],
) -> None:
    pickling.keep_in_main({"a": 1})
    script = main_namespace("def get(thing): return a")
    data, _ = pickling.dumps((script["get"], Thing()))
    gc.disable()
    try:
        get, thing = pickling.loads(data)
        assert get(thing) == 1
        seen = weakref.ref(thing)
        del get, thing
        assert seen() is None
    finally:
        gc.enable()


class Thing:
    """Something that can be weakly referenced."""


def test_the_namespaces_of_main_come_with_the_value() -> None:
    script = main_namespace("a = 1\ndef get(): return a\ndef set_it():\n    global a\n    a = 2")
    data, buffers = pickling.dumps((script["get"], script["set_it"], np.zeros(1000)), aside=False)
    assert buffers == ()
    (get, set_it, _), (names,) = pickling.loads_with_main(data)
    assert (get(), names["a"]) == (1, 1)
    set_it()
    assert (get(), names["a"], script["a"]) == (2, 2, 1)
    assert pickling.loads_with_main(pickling.dumps(module_function)[0]) == (module_function, [])
