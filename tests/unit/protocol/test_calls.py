"""Calls and values cross as the connection allows, and a pickle from outside is never opened."""

from __future__ import annotations

import json
import operator
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from paramserver.errors import (
    JobFailed,
    LocalProtocolError,
    MessageTooLarge,
    RemoteProtocolError,
)
from paramserver.protocol import calls
from paramserver.protocol.arrays import pack_plain
from paramserver.protocol.limits import DEFAULT_LIMITS
from paramserver.protocol.messages import Payload, PayloadKind

CANARY = {"untouched": True}


@pytest.fixture(autouse=True)
def json_stands_for_a_package_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard library itself is closed; see test_functions.py."""
    monkeypatch.setattr(sys, "stdlib_module_names", sys.stdlib_module_names - {"json"})


def sting() -> None:
    CANARY["untouched"] = False


class Bomb:
    def __reduce__(self) -> Any:
        return sting, ()


def make_lambda() -> Any:
    offset = 41
    return lambda x: x + offset


# --- inside the trust domain ---------------------------------------------------------------------


def test_a_call_comes_back_as_it_was() -> None:
    payload = calls.encode_call(operator.add, [1, 2], {}, trusted=True)

    assert payload.kind is PayloadKind.PICKLE
    assert calls.decode_call(payload, trusted=True) == (operator.add, (1, 2), {})


def test_a_call_without_arguments_needs_none() -> None:
    payload = calls.encode_call(dict, trusted=True)

    assert calls.decode_call(payload, trusted=True) == (dict, (), {})


def test_a_lambda_travels_and_its_arrays_are_the_receivers_own() -> None:
    payload = calls.encode_call(make_lambda(), (np.zeros(2000),), {}, trusted=True)

    fn, args, kwargs = calls.decode_call(payload, trusted=True)

    args[0][0] = 1
    assert fn(*args, **kwargs)[0] == 42


@pytest.mark.parametrize("value", [None, 3, {"a": {1, 2}}, np.arange(2000.0)], ids=str)
def test_a_value_comes_back(value: Any) -> None:
    payload = calls.encode_value(value, trusted=True)

    assert repr(calls.decode_value(payload, trusted=True)) == repr(value)


def test_a_value_that_cannot_be_pickled_is_named() -> None:
    with pytest.raises(LocalProtocolError, match=r"type _thread\.lock"):
        calls.encode_value(threading.Lock(), trusted=True)


def test_a_call_that_cannot_be_read_is_refused_with_its_reason(tmp_path: Path) -> None:
    (tmp_path / "only_there.py").write_text("def fn(): pass")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import only_there; "
        "from paramserver.protocol.calls import encode_call; "
        "sys.stdout.buffer.write(encode_call(only_there.fn, trusted=True).data)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, timeout=60
    )

    with pytest.raises(JobFailed, match="ModuleNotFoundError: No module named 'only_there'") as e:
        calls.decode_call(Payload(PayloadKind.PICKLE, done.stdout), trusted=True)

    assert e.value.error_type == ""
    assert "pickling" in e.value.traceback
    told = calls.decode_error(
        calls.encode_error(e.value, trusted=True), trusted=True, worker_id="w", attempts=1
    )
    assert "only_there" in str(told)
    assert isinstance(told.__cause__, calls.RemoteTraceback)


def test_a_call_that_ends_the_process_while_it_is_read_is_refused() -> None:
    class Exits:
        def __reduce__(self) -> Any:
            return sys.exit, (3,)

    with pytest.raises(JobFailed, match="SystemExit"):
        calls.decode_call(Payload(PayloadKind.PICKLE, pickle.dumps(Exits())), trusted=True)


@pytest.mark.parametrize(
    "call",
    [None, (), (print,), (print, ()), (print, (), {}, 1), (7, (), {}), (print, [], {}),
     (print, (), []), (print, (), {1: 2}), [print, (), {}], ("os:system", (), {})],
    ids=repr,
)  # fmt: skip
def test_a_pickle_that_is_no_call_is_refused(call: Any) -> None:
    with pytest.raises(RemoteProtocolError, match="not a call"):
        calls.decode_call(Payload(PayloadKind.PICKLE, pickle.dumps(call)), trusted=True)


# --- across it -----------------------------------------------------------------------------------


def test_a_function_goes_by_its_name_and_its_arguments_as_plain_values() -> None:
    args = ((1, [2, "x"]), np.arange(2000.0))

    payload = calls.encode_call(json.dumps, args, {"indent": None}, trusted=False)
    fn, again, kwargs = calls.decode_call(payload, trusted=False, allowed=["json"])

    assert payload.kind is PayloadKind.PLAIN
    assert fn is json.dumps
    assert again[0] == (1, [2, "x"])
    assert kwargs == {"indent": None}
    again[1][0] = 7
    assert args[1][0] == 0 or again[1][0] == 7


def test_plain_calls_are_held_to_the_same_rule_inside_the_trust_domain() -> None:
    payload = calls.encode_call(json.dumps, (1,), trusted=False)

    with pytest.raises(JobFailed, match="--allow json"):
        calls.decode_call(payload, trusted=True)


@pytest.mark.parametrize("value", [None, (1, [2.5, "x"]), np.arange(2000.0), {"a": np.ones(2)}])
def test_a_plain_value_comes_back(value: Any) -> None:
    payload = calls.encode_value(value, trusted=False)

    assert payload.kind is PayloadKind.PLAIN
    assert repr(calls.decode_value(payload, trusted=False)) == repr(value)
    assert repr(calls.decode_value(payload, trusted=True)) == repr(value)


def test_arrays_of_a_plain_value_are_writable_like_any_result() -> None:
    payload = calls.encode_value([np.zeros(3), np.zeros(3000)], trusted=False)
    sent = Payload(payload.kind, payload.data, tuple(bytes(b) for b in payload.buffers))

    for array in calls.decode_value(sent, trusted=False):
        array[0] = 1
        assert array[0] == 1


def test_what_is_not_plain_is_refused_before_it_is_sent() -> None:
    with pytest.raises(LocalProtocolError, match="type set"):
        calls.encode_value({1, 2}, trusted=False)
    with pytest.raises(LocalProtocolError, match="type set"):
        calls.encode_call(json.dumps, ({1},), trusted=False)
    with pytest.raises(LocalProtocolError, match="ship_code=True"):
        calls.encode_call(make_lambda(), (1,), trusted=False)


@pytest.mark.parametrize(
    "call",
    [None, (), ("json:dumps",), ("json:dumps", ()), ("json:dumps", (), {}, 1), (b"x", (), {}),
     (7, (), {}), ("json:dumps", [], {}), ("json:dumps", (), ()), ("json:dumps", (), {1: 2}),
     ["json:dumps", (), {}]],
    ids=repr,
)  # fmt: skip
def test_plain_data_that_are_no_call_are_refused(call: Any) -> None:
    payload = Payload(PayloadKind.PLAIN, pack_plain(call, []))

    with pytest.raises(RemoteProtocolError, match="not a call"):
        calls.decode_call(payload, trusted=False, allowed=["json"])


@pytest.mark.parametrize(
    "name", ["os:system", "builtins:eval", "paramserver.protocol.pickling:loads", "json:os.system"]
)
def test_a_name_that_is_not_allowed_is_refused(name: str) -> None:
    payload = Payload(PayloadKind.PLAIN, pack_plain((name, ("true",), {}), []))

    with pytest.raises(JobFailed, match="refused"):
        calls.decode_call(payload, trusted=False, accept_code=True, allowed=["json"])


# --- code ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"trusted": True}, {"trusted": False}])
def test_a_call_that_no_message_can_carry_is_refused(options: dict[str, bool]) -> None:
    pages = np.zeros(DEFAULT_LIMITS.message_bytes + 1, np.uint8)  # nobody touches them
    with pytest.raises(MessageTooLarge, match="a call would take"):
        calls.encode_call(json.dumps, (pages,), **options)


def test_code_crosses_where_both_sides_asked_for_it() -> None:
    payload = calls.encode_call(make_lambda(), (1,), trusted=False, ship_code=True)
    assert payload.kind is PayloadKind.CODE

    fn, args, _ = calls.decode_call(payload, trusted=False, accept_code=True)

    assert fn(*args) == 42


def test_a_value_with_its_code_crosses_to_a_worker_that_accepts_code() -> None:
    payload = calls.encode_code(make_lambda(), "a learner")
    assert calls.decode_code(payload, trusted=False, accept_code=True)(1) == 42
    bomb = calls.encode_code(Bomb(), "a learner")
    with pytest.raises(JobFailed, match="--accept-code"):
        calls.decode_code(bomb, trusted=False, accept_code=False)
    assert CANARY["untouched"]


def test_a_value_that_came_without_code_needs_no_consent() -> None:
    payload = calls.encode_value([1, 2], trusted=False)
    assert calls.decode_code(payload, trusted=False, accept_code=False) == [1, 2]


def test_a_call_given_instead_of_its_function_is_refused() -> None:
    with pytest.raises(TypeError, match=r"submit\(f, x\), not submit\(f\(x\)\)"):
        calls.encode_call(abs(-1), (), trusted=True)  # type: ignore[arg-type]


def test_code_is_refused_unopened_by_a_worker_that_did_not_ask_for_it() -> None:
    payload = Payload(PayloadKind.CODE, pickle.dumps(Bomb()))

    for trusted in (False, True):
        with pytest.raises(JobFailed, match="--accept-code"):
            calls.decode_call(payload, trusted=trusted, allowed=["json"])
    assert CANARY["untouched"]


def test_paramservers_own_jobs_go_by_name_even_when_code_is_shipped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import paramserver.protocol.text as text

    payload = calls.encode_call(text.bounded_text, ("x", 64), trusted=False, ship_code=True)

    assert payload.kind is PayloadKind.PLAIN


# --- what is never opened ------------------------------------------------------------------------


def test_a_pickle_from_outside_is_refused_unopened_wherever_it_stands() -> None:
    bomb = pickle.dumps(Bomb())
    payload = Payload(PayloadKind.PICKLE, bomb, (bomb,))

    with pytest.raises(RemoteProtocolError, match=r"PICKLE.*not opened"):
        calls.decode_call(payload, trusted=False, accept_code=True, allowed=["json"])
    with pytest.raises(RemoteProtocolError, match=r"PICKLE.*not opened"):
        calls.decode_value(payload, trusted=False)
    with pytest.raises(RemoteProtocolError, match=r"PICKLE.*not opened"):
        calls.decode_error(payload, trusted=False, worker_id="w", attempts=1)
    assert CANARY["untouched"]


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("kind", [PayloadKind.ERROR, PayloadKind.CODE])
def test_neither_an_error_nor_code_is_a_value(kind: PayloadKind, trusted: bool) -> None:
    payload = Payload(kind, pickle.dumps(Bomb()))

    with pytest.raises(RemoteProtocolError, match=f"a value as {kind.name}"):
        calls.decode_value(payload, trusted=trusted)
    assert CANARY["untouched"]


def test_an_error_is_not_a_call() -> None:
    with pytest.raises(RemoteProtocolError, match="a call as ERROR"):
        calls.decode_call(Payload(PayloadKind.ERROR, msgpack.packb("x")), trusted=True)


def test_the_bomb_of_these_tests_is_a_bomb() -> None:
    try:
        calls.decode_value(Payload(PayloadKind.PICKLE, pickle.dumps(Bomb())), trusted=True)
        assert not CANARY["untouched"]
    finally:
        CANARY["untouched"] = True


@pytest.mark.parametrize(
    "options",
    [{"trusted": True}, {"trusted": False}, {"trusted": False, "ship_code": True}],
    ids=["pickled", "by name", "as code"],
)
def test_a_call_that_wants_inputs_goes_through_who_has_them(options: dict[str, bool]) -> None:
    payload = calls.encode_call(json.dumps, (1,), {"indent": 2}, wants_inputs=True, **options)
    reader: dict[str, Any] = {"trusted": options["trusted"], "accept_code": True}
    decoded = calls.decode_call(payload, allowed=["json"], with_inputs=dict, **reader)
    assert decoded == (dict, (json.dumps, 1), {"indent": 2})
    with pytest.raises(RemoteProtocolError, match="there are none to give"):
        calls.decode_call(payload, allowed=["json"], **reader)


def test_code_among_the_arguments_of_our_own_functions_travels_where_code_may() -> None:
    with pytest.raises(LocalProtocolError):
        calls.encode_call(calls.encode_value, (lambda: 1,), trusted=False)
    for argument in (lambda: 1, json.dumps, {"deep": [json.dumps]}):
        payload = calls.encode_call(calls.encode_value, (argument,), trusted=False, ship_code=True)
        assert payload.kind is PayloadKind.CODE


@pytest.mark.parametrize("wants_inputs", [False, True])
def test_a_function_among_the_arguments_goes_by_its_name_too(wants_inputs: bool) -> None:
    args = (1, json.loads, None, json.JSONDecoder)
    payload = calls.encode_call(json.dumps, args, trusted=False, wants_inputs=wants_inputs)
    assert payload.kind is PayloadKind.PLAIN
    decoded = calls.decode_call(payload, trusted=False, allowed=["json"], with_inputs=dict)
    assert decoded == ((dict, (json.dumps, *args), {}) if wants_inputs else (json.dumps, args, {}))


def test_a_function_among_the_arguments_needs_the_same_permission() -> None:
    payload = calls.encode_call(json.dumps, (operator.attrgetter,), trusted=False)
    with pytest.raises(JobFailed, match="operator"):
        calls.decode_call(payload, trusted=False, allowed=["json"])


@pytest.mark.parametrize("named", [[0], (1,), (-1,), (2,), ("0",), (True,), 7, None])
def test_lies_about_functions_among_the_arguments_are_seen(named: Any) -> None:
    data = pack_plain(("json:dumps", ("json:loads", 1), {}, False, named), [])
    with pytest.raises(RemoteProtocolError):
        calls.decode_call(Payload(PayloadKind.PLAIN, data), trusted=False, allowed=["json"])


# --- initializers ---------------------------------------------------------------------------------


def test_an_initializer_comes_with_its_arguments_and_the_globals_of_main() -> None:
    script: dict[str, Any] = {"__name__": "__main__"}
    exec("a = 1\ndef start(rows): return a, rows", script)
    rows = np.zeros(1000)
    data = calls.encode_initializer(script["start"], [rows])
    rows[:] = 5
    (fn, args, kwargs), (names,) = calls.decode_initializer(data, trusted=True)
    found, own = fn(*args, **kwargs)
    assert (found, names["a"], own.sum()) == (1, 1, 0)
    assert own.flags.writeable
    assert calls.decode_initializer(calls.encode_initializer(len, "a"), trusted=True) == (
        (len, ("a",), {}),
        [],
    )


def test_an_initializer_that_does_not_travel_is_refused_in_words() -> None:
    with pytest.raises(LocalProtocolError, match="the initializer cannot be pickled"):
        calls.encode_initializer(len, [threading.Lock()])


def test_outside_of_the_trust_domain_an_initializer_is_not_even_read() -> None:
    with pytest.raises(RemoteProtocolError, match="sent an initializer as PICKLE, which is not"):
        calls.decode_initializer(b"no pickle at all", trusted=False)
