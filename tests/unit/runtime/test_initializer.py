"""What an initializer leaves for the functions of ``__main__``: what it set, and no more."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramserver.errors import RemoteProtocolError
from paramserver.protocol import calls, pickling
from paramserver.runtime.initializer import initialize

DRIVER = """
import math
import threading

N = 10
table = {"a": 1}
rows = np.zeros(2000)
model = None
loaded = []

def helper(x):
    return N * x

class Options:
    depth = 1

def start(value):
    global model, fresh
    assert helper(1) == N == 10 and math.pi and Options.depth
    model = value
    fresh = threading.Lock()
    table["b"] = 2
    rows[0] = 1.0
    loaded.append(value)

def look(name):
    return globals().get(name)
"""


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(pickling, "_kept_in_main", {})
    names: dict[str, Any] = {"__name__": "__main__", "np": np}
    exec(DRIVER, names)
    return names


def run(folder: Path, fn: Any, *args: Any) -> dict[str, Any]:
    """Initialize this process; return what is kept."""
    path = folder / "initializer"
    path.write_bytes(calls.encode_initializer(fn, args))
    initialize(str(path), trusted=True)
    return pickling._kept_in_main


def test_what_it_assigned_and_what_it_changed_is_kept_and_nothing_else(
    tmp_path: Path, driver: dict[str, Any]
) -> None:
    kept = run(tmp_path, driver["start"], "a value")
    assert kept.keys() == {"model", "fresh", "table", "rows", "loaded"}
    assert (kept["model"], kept["table"]) == ("a value", {"a": 1, "b": 2})
    assert (kept["rows"][0], kept["loaded"]) == (1.0, ["a value"])
    assert type(kept["fresh"]) is type(threading.Lock())
    assert (driver["model"], driver["table"], driver["loaded"]) == (None, {"a": 1}, [])


def test_functions_that_come_later_find_it(tmp_path: Path, driver: dict[str, Any]) -> None:
    run(tmp_path, driver["start"], 7)
    driver["N"] = 20
    exec("def later(x):\n    return helper(x), model, table['b']", driver)
    exec("def helper(x):\n    return x + N", driver)
    call = calls.encode_call(driver["later"], (1,), trusted=True)
    fn, args, kwargs = calls.decode_call(call, trusted=True)
    assert fn(*args, **kwargs) == (21, 7, 2)


def test_one_of_a_module_keeps_nothing_in_main(tmp_path: Path, driver: dict[str, Any]) -> None:
    assert run(tmp_path, len, "abc") == {}


def test_what_it_raises_is_raised_and_nothing_is_kept(
    tmp_path: Path, driver: dict[str, Any]
) -> None:
    exec("def fail():\n    global model\n    model = 1\n    raise SystemExit(3)", driver)
    with pytest.raises(SystemExit):
        run(tmp_path, driver["fail"])
    assert pickling._kept_in_main == {}


def test_outside_of_the_trust_domain_it_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "initializer"
    path.write_bytes(calls.encode_initializer((tmp_path / "touched").touch, ()))
    with pytest.raises(RemoteProtocolError, match="an initializer as PICKLE, which is not allowed"):
        initialize(str(path), trusted=False)
    path.write_bytes(b"no pickle at all")
    with pytest.raises(RemoteProtocolError):
        initialize(str(path), trusted=False)
    assert not (tmp_path / "touched").exists()
