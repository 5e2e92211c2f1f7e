"""Plain values and arrays come back the same, and damage is refused or is another plain value."""

from __future__ import annotations

import contextlib
from typing import Any

import msgpack
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from paramserver.errors import JobFailed, ProtocolError
from paramserver.protocol import calls
from paramserver.protocol.arrays import ITEM_BYTES, pack_plain, unpack_plain
from paramserver.protocol.messages import Buffer, Payload, PayloadKind

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | texts
    | st.binary(max_size=20)
)
keys = scalars | st.tuples(scalars, st.tuples(scalars))
imitations = st.dictionaries(
    st.sampled_from([b"nd", b"type", b"kind", b"shape", b"data", b"complex", "nd"]),
    scalars | st.just(b"O") | st.just("|O") | st.just([1]),
    max_size=6,
)
plain: st.SearchStrategy[Any] = st.recursive(
    scalars | imitations,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=20,
)
arrays = st.sampled_from(sorted(ITEM_BYTES)).flatmap(
    lambda dtype: hnp.arrays(
        np.dtype(dtype), hnp.array_shapes(min_dims=0, max_dims=8, min_side=0, max_side=4)
    )
)


@given(plain)
def test_a_plain_value_comes_back_equal_and_of_the_same_types(value: Any) -> None:
    assert repr(unpack_plain(pack_plain(value, []))) == repr(value)


@given(arrays, st.sampled_from([1, 500]), st.booleans())
def test_an_array_comes_back_bit_for_bit(array: Any, repeat: int, writable: bool) -> None:
    array = np.stack([array] * repeat) if repeat > 1 and array.ndim < 8 else array
    buffers: list[Buffer] = []

    data = pack_plain((array,), buffers)
    (again,) = unpack_plain(data, buffers, writable=writable)

    assert (again.dtype, again.shape) == (array.dtype, array.shape)
    assert again.tobytes() == array.tobytes()
    assert bool(buffers) is (array.nbytes > 4096)


def refuse_or_read(data: bytes, buffers: tuple[bytes, ...]) -> None:
    payload = Payload(PayloadKind.PLAIN, data, buffers)
    with contextlib.suppress(ProtocolError):
        calls.decode_value(payload, trusted=False)
    with contextlib.suppress(ProtocolError, JobFailed):
        calls.decode_call(payload, trusted=False, allowed=["json"])
    error = payload._replace(kind=PayloadKind.ERROR)
    with contextlib.suppress(ProtocolError):
        calls.decode_error(error, trusted=False, worker_id="w", attempts=1)


@given(plain, arrays, st.data())
def test_damage_is_refused_or_is_another_plain_value(
    value: Any, array: Any, data: st.DataObject
) -> None:
    buffers: list[Buffer] = []
    packed = bytearray(pack_plain(("json:dumps", (value, array), {"x": array}), buffers))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(packed) - 1))
        if data.draw(st.booleans()):
            packed[at] ^= 1 << data.draw(st.integers(0, 7))
        else:
            packed[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
        if not packed:
            break

    refuse_or_read(bytes(packed), tuple(bytes(b) for b in buffers))


@given(st.binary(max_size=200), st.binary(max_size=40))
def test_noise_is_refused_or_is_a_plain_value(data: bytes, buffer: bytes) -> None:
    refuse_or_read(data, (buffer,))


@given(st.integers(-128, 127), st.binary(max_size=60), st.binary(max_size=20))
def test_extension_types_of_a_stranger_are_refused_or_are_plain(
    code: int, data: bytes, buffer: bytes
) -> None:
    if code >= 0:
        refuse_or_read(msgpack.packb([msgpack.ExtType(code, data)]), (buffer,))


parts = (
    st.none() | st.integers(-1, 2**64 - 1) | st.lists(st.integers(-1, 2**62), max_size=9) | texts
)


@given(st.sampled_from([2, 3]), parts | st.sampled_from(sorted(ITEM_BYTES)), parts, parts, parts)
def test_array_forms_with_any_parts_are_refused_or_are_arrays(
    code: int, dtype: Any, shape: Any, data: Any, kind: Any
) -> None:
    inner: Any = [dtype, shape, data]
    if code == 2:
        inner = {b"nd": True, b"type": dtype, b"kind": kind, b"shape": shape, b"data": data}

    refuse_or_read(msgpack.packb(msgpack.ExtType(code, msgpack.packb(inner))), (bytes(8),))
