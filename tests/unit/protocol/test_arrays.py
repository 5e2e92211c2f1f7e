"""Plain values and arrays round-trip; what looks like an array and is none never reaches numpy."""

from __future__ import annotations

import math
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from paramserver.errors import LocalProtocolError, RemoteProtocolError
from paramserver.protocol.arrays import ITEM_BYTES, _check_array, pack_plain, unpack_plain
from paramserver.protocol.messages import Buffer


def round_trip(value: Any, **options: bool) -> Any:
    buffers: list[Buffer] = []
    return unpack_plain(pack_plain(value, buffers), buffers, **options)


def nested(n: int, wrap: Any) -> Any:
    value: Any = 0
    for _ in range(n):
        value = wrap(value)
    return value


PLAIN = [
    None, True, False, 0, -1, 2**63, 2**64 - 1, -(2**63), 0.5, -0.0, math.inf, "", "é\0", b"",
    b"\xff", [], (), {}, [1, (2, [(), (3,)], {"a": (4,)})], ((),), [[]], ([],),
    {(1, (2,)): "x", None: 1, 1.5: 2},
    {b"nd": True, b"type": "|O", b"kind": b"O", b"shape": (1,), b"data": b"12345678"},
    {b"nd": False, b"type": "<f8", b"data": b"12345678"}, {b"complex": True, b"data": "1+2j"},
    {"nd": True, "type": "|O"}, b"\xc7\x00\x01", [b"\xc7\x00\x01", "\x01"], list(range(5000)),
]  # fmt: skip


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: repr(value)[:50])
def test_a_plain_value_comes_back_equal_and_of_the_same_type(value: Any) -> None:
    again = round_trip(value)

    assert repr(again) == repr(value)


def test_bytes_like_values_arrive_as_bytes() -> None:
    assert round_trip([bytearray(b"ab"), memoryview(b"cd")]) == [b"ab", b"cd"]


@pytest.mark.parametrize("dtype", ITEM_BYTES)
@pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 0, 3), (40, 50), (1,) * 8], ids=str)
@pytest.mark.parametrize("writable", [False, True])
def test_an_array_of_every_type_and_shape_round_trips(
    dtype: str, shape: tuple[int, ...], writable: bool
) -> None:
    array = np.arange(math.prod(shape)).reshape(shape).astype(dtype)

    again = round_trip((array, [array]), writable=writable)

    for found in (again[0], again[1][0]):
        assert type(found) is np.ndarray
        assert found.dtype == array.dtype
        assert found.shape == shape
        assert found.tobytes() == array.tobytes()
        assert found.flags.writeable is writable


@pytest.mark.parametrize("dtype", ITEM_BYTES)
def test_a_numpy_scalar_stays_one(dtype: str) -> None:
    scalar = np.ones(1, dtype)[0]

    again = round_trip({"x": scalar})["x"]

    assert type(again) is type(scalar)
    assert again == scalar


def test_nan_and_infinity_survive_bit_for_bit() -> None:
    array = np.array([np.nan, -np.inf, -0.0, 5e-324])

    assert round_trip(array).tobytes() == array.tobytes()


def test_a_large_array_is_copied_neither_out_nor_in() -> None:
    array = np.arange(10_000.0).reshape(100, 100)
    buffers: list[Buffer] = []

    data = pack_plain({"w": array}, buffers)
    again = unpack_plain(data, buffers)["w"]

    assert len(data) < 100
    assert np.shares_memory(again, array)
    assert not again.flags.writeable


def test_a_writable_array_is_a_copy_only_where_the_memory_is_not_ours_to_write() -> None:
    buffers: list[Buffer] = []
    data = pack_plain(np.ones(2000), buffers)

    ours, theirs = bytearray(buffers[0]), bytes(buffers[0])
    writable = unpack_plain(data, [ours], writable=True)
    copied = unpack_plain(data, [theirs], writable=True)

    writable[0] = copied[0] = 7
    assert np.shares_memory(writable, np.frombuffer(ours))
    assert not np.shares_memory(copied, np.frombuffer(theirs))


def test_an_array_at_an_odd_address_is_copied_to_an_even_one() -> None:
    buffers: list[Buffer] = []
    data = pack_plain(np.arange(2000.0), buffers)
    shifted = memoryview(b"x" + bytes(buffers[0]))[1:]

    again = unpack_plain(data, [shifted])

    assert again.flags.aligned
    assert again.tobytes() == np.arange(2000.0).tobytes()
    assert not again.flags.writeable


@pytest.mark.parametrize("n", [10, 2000])
def test_arrays_that_are_not_c_contiguous_are_copied_once_and_come_out_equal(n: int) -> None:
    array = np.arange(2.0 * n).reshape(2, n)

    for view in (array[:, ::2], array.T, np.asfortranarray(array), array[::-1]):
        assert np.array_equal(round_trip(view), view)


def test_a_memory_mapped_array_is_an_array(tmp_path: Path) -> None:
    mapped = np.memmap(tmp_path / "x", dtype="<f4", mode="w+", shape=(2000,))

    again = round_trip(mapped)

    assert type(again) is np.ndarray
    assert np.array_equal(again, mapped)


class Odd:
    """A class that is not plain."""


class OddArray(np.ndarray):  # type: ignore[type-arg]
    """An array that carries more than its numbers."""


class OddList(list[int]):
    """A list that is not plain either: its class would be lost."""


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Odd(), r"test_arrays\.Odd cannot be sent"),
        (OddList(), r"test_arrays\.OddList cannot be sent"),
        ([{"x": {1, 2}}], "type set cannot be sent"),
        (1j, "type complex cannot be sent"),
        ([2**64], "an integer of 65 bits"),
        (-(2**63) - 1, "an integer of 64 bits"),
        (len, "type builtin_function_or_method"),
        ("\udc80", "type str cannot be sent .* surrogates not allowed"),
        (np.array([None]), "dtype object"),
        (np.array(["text"]), "dtype <U4"),
        (np.zeros(2, ">f8"), "dtype >f8 .*astype"),
        (np.zeros(2, "<M8[s]"), "dtype datetime64"),
        (np.zeros(2, [("a", "<f8"), ("b", "O")]), "dtype .*'a'"),
        (np.zeros((1,) * 9), "9 dimensions"),
        (np.str_("x"), "dtype <U1"),
        (np.ma.masked_array([1.0], [True]), "type .*MaskedArray cannot be sent"),
        (np.zeros(2).view(OddArray), r"type .*OddArray cannot be sent"),
        (nested(3000, lambda x: [x]), "recursion"),
        (nested(3000, lambda x: (x,)), "recursion"),
        (memoryview(bytes(9))[::2], "memoryview"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isascii() else "",
)
def test_what_is_not_plain_is_refused_in_words(value: Any, words: str) -> None:
    with pytest.raises(LocalProtocolError, match=words):
        pack_plain(value, [])


def test_a_list_that_holds_itself_is_refused() -> None:
    ring: list[Any] = []
    ring.append(ring)

    with pytest.raises(LocalProtocolError):
        pack_plain(ring, [])


# --- attacks -------------------------------------------------------------------------------------

CANARY = {"untouched": True}


def sting() -> None:
    CANARY["untouched"] = False


class Bomb:
    def __reduce__(self) -> Any:
        return sting, ()


BOMB = pickle.dumps(Bomb())


def small(**fields: Any) -> bytes:
    """Write what claims to be msgpack-numpy's own form of an array."""
    whole: dict[str, Any] = {"nd": True, "type": "<f8", "kind": b"", "shape": [1], "data": bytes(8)}
    whole |= fields
    inner = {key.encode(): value for key, value in whole.items() if value is not ...}
    packed: bytes = msgpack.packb(msgpack.ExtType(2, msgpack.packb(inner)))
    return packed


def large(dtype: Any, shape: Any, index: Any = 0) -> bytes:
    packed: bytes = msgpack.packb(msgpack.ExtType(3, msgpack.packb([dtype, shape, index])))
    return packed


def test_the_forms_that_the_attacks_change_are_good() -> None:
    assert unpack_plain(small()) == np.zeros(1)
    assert unpack_plain(large("<f8", [1]), [bytes(8)]) == np.zeros(1)
    assert unpack_plain(small(nd=False, kind=..., shape=...)) == 0.0


ATTACKS = {
    "object pointers as a type": small(type="|O"),
    "kind O, which msgpack-numpy unpickles": small(kind=b"O", data=BOMB),
    "kind O of type O": small(kind=b"O", type="|O", data=BOMB),
    "kind O as text": small(kind="O", data=BOMB),
    "a structured type with objects": small(kind=b"V", type=[["a", "|O"]], data=BOMB),
    "a structured type": small(kind=b"V", type=[["a", "<f8"]]),
    "a structured type without its kind": small(type=[["a", "|O"]]),
    "kind V": small(kind=b"V"),
    "kind missing": small(kind=...),
    "void of no size": small(type="V0", data=b"", shape=[5]),
    "void": small(type="|V8"),
    "a type with a shape in it": small(type="(1000000,)f8"),
    "big-endian": small(type=">f8"),
    "native": small(type="=f8"),
    "text": small(type="<U2"),
    "dates": small(type="<M8[s]"),
    "another name of a type": small(type="float64"),
    "a type as bytes": small(type=b"<f8"),
    "no type": small(type=...),
    "nd as a number": small(nd=1),
    "nd as text": small(nd="x"),
    "a scalar of objects": small(nd=False, kind=..., shape=..., type="|O"),
    "a scalar of two items": small(nd=False, kind=..., shape=..., data=bytes(16)),
    "a scalar without data": small(nd=False, kind=..., shape=..., data=b""),
    "a scalar with a shape": small(nd=False, kind=...),
    "a key more": small(more=1),
    "a key less": small(shape=...),
    "data as text": small(data="12345678"),
    "data as a list": small(data=[0] * 8),
    "data too short": small(data=bytes(7)),
    "data too long": small(data=bytes(9)),
    "a negative dimension": small(shape=[-1]),
    "two negative dimensions": small(shape=[-1, -1]),
    "a dimension that is a bool": small(shape=[True]),
    "a dimension that is a float": small(shape=[1.0]),
    "nine dimensions": small(shape=[1] * 9),
    "a shape that is a number": small(shape=1),
    "a product beyond 64 bits": small(shape=[2**33, 2**31], data=b""),
    "a product beyond 64 bits with a zero": small(shape=[2**62, 2**62, 0], data=b""),
    "a dimension of 64 bits": small(shape=[2**64 - 1]),
    "an array that is a list": msgpack.packb(msgpack.ExtType(2, msgpack.packb([1, 2]))),
    "an array that is nothing": msgpack.packb(msgpack.ExtType(2, b"")),
    "an array that is noise": msgpack.packb(msgpack.ExtType(2, b"\xc1")),
    "a bomb within a list": b"\x91" + small(kind=b"O", data=BOMB),
    "a bomb as a key": b"\x81" + small(kind=b"O", data=BOMB) + b"\x01",
    "an array as a key": b"\x81" + small() + b"\x01",
    "a list as a key": b"\x81\x90\x01",
    "large: object pointers": large("|O", [1]),
    "large: a void": large("|V8", [1]),
    "large: too many items": large("<f8", [2]),
    "large: overflow": large("<f8", [2**61, 8, 0]),
    "large: negative index": large("<f8", [1], -1),
    "large: no such buffer": large("<f8", [1], 1),
    "large: an index that is a bool": large("<f8", [1], False),
    "large: two fields": msgpack.packb(msgpack.ExtType(3, msgpack.packb(["<f8", [1]]))),
    "large: a map": msgpack.packb(msgpack.ExtType(3, msgpack.packb({}))),
    "an unknown extension": msgpack.packb(msgpack.ExtType(7, b"x")),
    "the mark of a tuple alone": msgpack.packb(msgpack.ExtType(1, b"")),
    "the mark of a tuple at the end": msgpack.packb([1, msgpack.ExtType(1, b"")]),
    "the mark of a tuple with data": msgpack.packb([msgpack.ExtType(1, b"x"), 1]),
    "the mark of a tuple with data beside a good one": b"\x92"
    + msgpack.packb([msgpack.ExtType(1, b"x"), 1])
    + msgpack.packb([msgpack.ExtType(1, b""), 1]),
    "nothing": b"",
    "trailing bytes": b"\x01\x01",
    "truncated": b"\x92\x01",
    "noise": b"\xc1",
    "text that is not UTF-8": b"\xa1\xff",
    "nesting of 2000": b"\x91" * 2000 + b"\xc0",
    "a broken time stamp": b"\xc7\x03\xff123",
}


@pytest.mark.parametrize(
    ("dtype", "shape", "n_bytes"),
    [
        ("|O", [1], 8), ("V0", [1], 0), ("|V8", [1], 8), ("(1000000,)f8", [1], 8), (">f8", [1], 8),
        (b"<f8", [1], 8), (None, [1], 8), (["<f8"], [1], 8), ("<f8", [-1, -1], 8),
        ("<f8", [-1], -8), ("<f8", [True], 8), ("<f8", [1.0], 8), ("<f8", (1,), 8), ("<f8", 1, 8),
        ("<f8", [1] * 9, 8), ("<f8", [2], 8), ("<f8", [0], 8), ("<f8", [2**62, 2**62, 0], 0),
        ("<f8", [2**61, 0], 0),
    ],
)  # fmt: skip
def test_the_guard_itself_refuses_before_numpy_is_asked(
    dtype: Any, shape: Any, n_bytes: int
) -> None:
    with pytest.raises(ValueError, match="an array of"):
        _check_array(dtype, shape, n_bytes)


@pytest.mark.parametrize("what", ATTACKS)
def test_an_attack_is_refused_and_nothing_of_it_runs(what: str) -> None:
    with pytest.raises(RemoteProtocolError):
        unpack_plain(ATTACKS[what], [bytes(8)])

    assert CANARY["untouched"]


def test_the_bomb_of_these_tests_is_a_bomb() -> None:
    try:
        pickle.loads(BOMB)
        assert not CANARY["untouched"]
    finally:
        CANARY["untouched"] = True


def test_msgpack_numpy_itself_would_have_fallen_for_it() -> None:
    import msgpack_numpy

    inner = {b"nd": True, b"type": "<f8", b"kind": b"O", b"shape": [1], b"data": BOMB}
    try:
        msgpack_numpy.decode(inner)
        assert not CANARY["untouched"]
    finally:
        CANARY["untouched"] = True


def test_lists_that_claim_what_is_not_there_cost_no_memory() -> None:
    data = b"\xdd\x00\x10\x00\x00" * 1000 + b"\xc0" * 1_100_000
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError):
            unpack_plain(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 5 * len(data)
