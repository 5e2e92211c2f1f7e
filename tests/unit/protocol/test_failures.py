"""An exception crosses as itself where it can, and as bounded text wherever it cannot."""

from __future__ import annotations

import pickle
import subprocess
import sys
import traceback
from typing import Any

import msgpack
import numpy as np
import pytest

from paramserver.errors import JobFailed, RemoteProtocolError, ShapeMismatch
from paramserver.protocol.calls import RemoteTraceback, decode_error, encode_error
from paramserver.protocol.failures import (
    MESSAGE_BYTES,
    PICKLED_BYTES,
    TRACEBACK_BYTES,
    error_text,
)
from paramserver.protocol.functions import refusal
from paramserver.protocol.messages import Payload, PayloadKind


def raised(error: BaseException) -> BaseException:
    """Give the exception a traceback."""
    try:
        raise error
    except BaseException as caught:
        return caught


def journey(error: BaseException, *, trusted: bool) -> BaseException:
    payload = encode_error(raised(error), trusted=trusted)
    return decode_error(payload, trusted=trusted, worker_id="w7", attempts=3)


class Simple(Exception):
    """Survives pickling."""


class TwoArguments(Exception):
    """Cannot be built again from its args."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(f"{name} failed with {code}")


class Forgetful(Exception):
    """Is built again, but says something else."""

    def __init__(self, reason: str = "nothing") -> None:
        super().__init__()
        self.__dict__["reason"] = reason

    def __str__(self) -> str:
        return f"because of {self.reason}"  # type: ignore[attr-defined]

    def __reduce__(self) -> Any:
        return Forgetful, ()


class AnotherKind(Exception):
    def __reduce__(self) -> Any:
        return Simple, ("x",)


class NoText(Exception):
    def __str__(self) -> str:
        raise ValueError("no text for you")

    __repr__ = __str__


class NoPickle(Exception):
    def __reduce__(self) -> Any:
        raise ValueError("no pickle for you")


class Exits(Exception):
    def __reduce__(self) -> Any:
        return sys.exit, (3,)


class NoTraceback(Exception):
    @property
    def __notes__(self) -> Any:
        raise KeyError("no notes for you")


# --- as itself -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad", 7),
        KeyError("x"),
        Simple("plain"),
        SystemExit(3),
        KeyboardInterrupt(),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad byte"),
        ExceptionGroup("two", [ValueError(1), Simple(2)]),
        ShapeMismatch("(3,) is not (4,)", path="w"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_in_the_trust_domain_the_exception_itself_comes_back(error: BaseException) -> None:
    again = journey(error, trusted=True)

    assert type(again) is type(error)
    assert repr(again.args) == repr(error.args)
    assert str(again) == str(error)


def test_its_cause_shows_the_traceback_of_the_worker() -> None:
    again = journey(ValueError("bad"), trusted=True)

    assert isinstance(again.__cause__, RemoteTraceback)
    assert "in raised" in again.__cause__.text
    shown = "".join(traceback.format_exception(again))
    assert "in raised\n    raise error\n" in shown
    assert "direct cause" in shown


def test_attributes_notes_and_small_arrays_of_an_exception_survive() -> None:
    error = Simple("with things")
    error.weights = np.arange(1000.0)  # type: ignore[attr-defined]
    error.add_note("look at round 7")

    again = journey(error, trusted=True)

    assert again.__notes__ == ["look at round 7"]
    assert np.array_equal(again.weights, np.arange(1000.0))  # type: ignore[attr-defined]


def test_an_address_in_the_message_does_not_make_another_exception_of_it() -> None:
    again = journey(Simple(Simple, object(), lambda: None), trusted=True)

    assert type(again) is Simple
    assert again.args[0] is Simple


def test_a_remote_traceback_survives_pickling() -> None:
    again = pickle.loads(pickle.dumps(RemoteTraceback("line 1")))

    assert again.text == "line 1"
    assert str(again) == '\n"""\nline 1"""'


# --- as text -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TwoArguments("job", 7), "TwoArguments: job failed with 7"),
        (Forgetful("rain"), "Forgetful: because of rain"),
        (AnotherKind("x"), "AnotherKind: x"),
        (NoText(), r"NoText: \(no message: its __str__ raised ValueError\)"),
        (NoPickle("x"), "NoPickle: x"),
        (Simple("x" * PICKLED_BYTES), "Simple: xxx"),
        (Simple(np.zeros(PICKLED_BYTES // 8)), r"Simple: \[0"),
    ],
    ids=["arguments", "forgetful", "other", "no text", "no pickle", "large", "array"],
)
def test_an_exception_that_cannot_travel_is_told(error: BaseException, words: str) -> None:
    again = journey(error, trusted=True)

    assert isinstance(again, JobFailed)
    with pytest.raises(JobFailed, match=rf"raised \S*{words}"):
        raise again


@pytest.mark.parametrize("error", [ValueError("bad"), NoText(), TwoArguments("job", 7)])
def test_across_the_trust_boundary_it_is_always_text(error: BaseException) -> None:
    payload = encode_error(raised(error), trusted=False)
    again = decode_error(payload, trusted=False, worker_id="w7", attempts=3)

    assert payload.kind is PayloadKind.ERROR
    assert payload.buffers == ()
    assert isinstance(again, JobFailed)
    assert again.worker_id == "w7"
    assert again.attempts == 3
    assert again.error_type.endswith(type(error).__name__)
    assert "in raised" in again.traceback
    assert "worker w7, 3 tries" in str(again)
    assert isinstance(again.__cause__, RemoteTraceback)


def test_the_name_of_a_builtin_exception_is_short_and_of_others_long() -> None:
    for error, name in (
        (ValueError(), "ValueError"),
        (Simple(), f"{__name__}.Simple"),
        (msgpack.OutOfData(), "msgpack.exceptions.OutOfData"),
    ):
        again = journey(error, trusted=False)
        assert isinstance(again, JobFailed)
        assert again.error_type == name


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize(
    "message", ["x" * 10_000_000, "é" * 3_000_000, "\udc80" * 1_000_000], ids=["x", "é", "\\udc80"]
)
def test_a_message_of_megabytes_is_cut(message: str, trusted: bool) -> None:
    payload = encode_error(raised(Simple(message)), trusted=trusted)
    again = decode_error(payload, trusted=trusted, worker_id="w", attempts=1)

    assert payload.n_bytes < 2 * (MESSAGE_BYTES + TRACEBACK_BYTES)
    assert isinstance(again, JobFailed)
    assert "bytes cut" in str(again)
    assert "1 try)" in str(again)
    assert len(again.traceback.encode()) <= TRACEBACK_BYTES


def test_an_exception_that_cannot_even_be_formatted_is_told() -> None:
    again = journey(NoTraceback("x"), trusted=False)

    assert isinstance(again, JobFailed)
    assert "NoTraceback: x" in str(again)


def test_a_deep_recursion_is_told_within_the_bound() -> None:
    def down(n: int) -> int:
        return down(n + 1)

    try:
        down(0)
    except RecursionError as error:
        again = decode_error(
            encode_error(error, trusted=False), trusted=False, worker_id="w", attempts=1
        )

    assert isinstance(again, JobFailed)
    assert again.error_type == "RecursionError"
    assert len(again.traceback.encode()) <= TRACEBACK_BYTES


def test_a_job_failed_keeps_its_fields_through_pickling() -> None:
    again = journey(ValueError("bad"), trusted=False)

    copy = pickle.loads(pickle.dumps(again))

    assert copy.fields == again.fields  # type: ignore[attr-defined]


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("trusted", [False, True])
def test_a_refusal_speaks_for_itself_and_names_the_worker(trusted: bool) -> None:
    again = journey(refusal("it may not run 'os:system'"), trusted=trusted)

    assert isinstance(again, JobFailed)
    assert str(again).startswith("The worker refused a job: it may not run 'os:system'.")
    assert "(worker w7, 3 tries)" in str(again)
    assert again.error_type == ""
    assert again.__cause__ is None


def test_a_job_failed_that_the_function_raised_is_an_exception_like_others() -> None:
    for error in (JobFailed("mine"), JobFailed("inner", error_type="ValueError", traceback="")):
        again = journey(error, trusted=True)

        assert isinstance(again, JobFailed)
        assert str(again) == str(error)


# --- what a master must not believe --------------------------------------------------------------


def text(*fields: Any) -> bytes:
    packed: bytes = msgpack.packb(fields)
    return packed


GOOD = text("ValueError", "bad", "line 1")


@pytest.mark.parametrize("kind", [PayloadKind.PICKLE, PayloadKind.PLAIN, PayloadKind.CODE])
def test_from_outside_only_text_is_read_as_an_error(kind: PayloadKind) -> None:
    with pytest.raises(RemoteProtocolError, match=f"{kind.name}.*not opened") as caught:
        decode_error(Payload(kind, GOOD, (b"",)), trusted=False, worker_id="w", attempts=1)

    assert caught.value.peer == "w"


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", GOOD[:-1], GOOD + b"x", text(), text("a", "b"), text("a", "b", 3),
     text("a", "b", b"c"), msgpack.packb("abc"), msgpack.packb({}), text("a", "b", "c", "d"),
     text("a", "b", "x" * 100_000)],
    ids=range(12),
)  # fmt: skip
@pytest.mark.parametrize("kind", [PayloadKind.PICKLE, PayloadKind.ERROR])
def test_text_that_is_not_of_the_form_is_refused(data: bytes, kind: PayloadKind) -> None:
    with pytest.raises(RemoteProtocolError, match="not the text of an error"):
        decode_error(Payload(kind, data), trusted=True, worker_id="w", attempts=1)


@pytest.mark.parametrize(
    "buffers",
    [(), (b"",), (b"junk",), (pickle.dumps("not an exception"),), (pickle.dumps(Exits()),)],
    ids=["none", "empty", "junk", "a string", "sys.exit"],
)
def test_an_exception_that_cannot_be_read_leaves_its_text(buffers: tuple[bytes, ...]) -> None:
    payload = Payload(PayloadKind.PICKLE, GOOD, buffers)

    again = decode_error(payload, trusted=True, worker_id="w", attempts=1)

    assert isinstance(again, JobFailed)
    assert again.error_type == "ValueError"
    assert again.traceback == "line 1"


def test_an_exception_whose_class_is_missing_here_leaves_its_text() -> None:
    program = """
import sys, types
module = types.ModuleType("only_there")
exec("class Lost(Exception): pass", module.__dict__)
sys.modules["only_there"] = module
from paramserver.protocol.calls import encode_error
payload = encode_error(module.Lost("where am I"), trusted=True)
import msgpack
sys.stdout.buffer.write(msgpack.packb([int(payload.kind), payload.data, list(payload.buffers)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, timeout=60
    )
    kind, data, buffers = msgpack.unpackb(done.stdout)
    payload = Payload(PayloadKind(kind), data, tuple(buffers))
    assert payload.kind is PayloadKind.PICKLE

    again = decode_error(payload, trusted=True, worker_id="w", attempts=1)

    assert isinstance(again, JobFailed)
    assert again.error_type == "only_there.Lost"


@pytest.mark.parametrize("trusted", [True, False])
def test_the_text_of_an_error_is_read_without_the_error(trusted: bool) -> None:
    try:
        raise ValueError("no such row")
    except ValueError as error:
        text = error_text(encode_error(error, trusted=trusted))
    assert (text.error_type, text.message) == ("ValueError", "no such row")
    assert text.traceback.rstrip().endswith("ValueError: no such row")
