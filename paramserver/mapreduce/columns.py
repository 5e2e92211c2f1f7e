"""Batches of pairs as bytes in files. One batch follows the other; each says how long it is.

Layout: a header of 32 bytes (magic, kind of the keys, kind of the values, number of pairs, bytes of
the keys, bytes of the values), the column of keys, the column of values. Words are columns of
integers, ints are as narrow as the largest needs; everything else is one payload, as it would go
over the wire.

Rule 1: a payload is a pickle only inside the local trust domain (`trusted`): the folder of these
        files belongs to this user alone. Otherwise it is plain values, or an error.
Rule 2: whoever reads has checked the checksum before (`shuffle`, `runs`); so damaged bytes are an
        input that is lost, never a crash in here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, Final

import numpy as np

from paramserver.errors import DataError, LocalProtocolError, RemoteProtocolError
from paramserver.mapreduce.pairs import Batch, Values, n_keys
from paramserver.mapreduce.words import Words
from paramserver.protocol import calls
from paramserver.protocol.messages import Payload, PayloadKind

_HEADER: Final = struct.Struct("<4sBB2xQQQ")
_MAGIC: Final = b"PSB1"
_LENGTHS: Final = struct.Struct("<BxxxIQ")


class _Kind(IntEnum):
    WORDS = 1
    TEXT_WORDS = 2
    INT8 = 3
    INT16 = 4
    INT32 = 5
    INT64 = 6
    OBJECTS = 7


_INT_TYPES: Final[dict[_Kind, np.dtype[np.signedinteger[Any]]]] = {
    _Kind.INT8: np.dtype("<i1"),
    _Kind.INT16: np.dtype("<i2"),
    _Kind.INT32: np.dtype("<i4"),
    _Kind.INT64: np.dtype("<i8"),
}


def encode_batch(batch: Batch, *, trusted: bool) -> bytes:
    """Write a batch as bytes.

    Raises
    ------
    DataError
        If keys or values can be neither pickled nor, where not `trusted`, sent as plain values.
    """
    if isinstance(batch.keys, list):
        key_kind, keys = _Kind.OBJECTS, _dump_objects(batch.keys, "key", trusted=trusted)
    else:
        key_kind = _Kind.TEXT_WORDS if batch.keys.is_text else _Kind.WORDS
        keys = batch.keys.dump()
    value_kind, values = _dump_values(batch.values, trusted=trusted)
    n = n_keys(batch.keys)
    return b"".join(
        (_HEADER.pack(_MAGIC, key_kind, value_kind, n, len(keys), len(values)), keys, values)
    )


def decode_batches(data: memoryview, *, trusted: bool) -> Iterator[tuple[Batch, int]]:
    """Read batches; yield each with the number of its bytes.

    Raises
    ------
    RemoteProtocolError
        If the bytes are not batches.
    """
    position = 0
    while position < len(data):
        start = position
        if len(data) - position < _HEADER.size:
            raise RemoteProtocolError("a batch of pairs is cut off in its header", peer="")
        magic, key_kind, value_kind, n, key_bytes, value_bytes = _HEADER.unpack_from(data, position)
        position += _HEADER.size
        stop = position + key_bytes + value_bytes
        if magic != _MAGIC or stop > len(data):
            raise RemoteProtocolError("a batch of pairs is cut off, or is something else", peer="")
        key_data = data[position : position + key_bytes]
        value_data = data[position + key_bytes : stop]
        position = stop
        keys: Words | list[Any]
        if key_kind == _Kind.OBJECTS:
            keys = _load_objects(key_data, trusted=trusted)
        else:
            keys = Words.load(key_data, n, is_text=key_kind == _Kind.TEXT_WORDS)
        values: Values
        if value_kind == _Kind.OBJECTS:
            values = _load_objects(value_data, trusted=trusted)
        else:
            values = np.frombuffer(value_data, _INT_TYPES[_Kind(value_kind)]).astype(np.int64)
        if not n_keys(keys) == len(values) == n:
            raise RemoteProtocolError("the columns of a batch differ in length", peer="")
        yield Batch(keys, values), stop - start


def _dump_values(values: Values, *, trusted: bool) -> tuple[_Kind, bytes]:
    if isinstance(values, list):
        return _Kind.OBJECTS, _dump_objects(values, "value", trusted=trusted)
    low, high = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    for kind, dtype in _INT_TYPES.items():
        limits = np.iinfo(dtype)
        if limits.min <= low and high <= limits.max:
            return kind, values.astype(dtype).tobytes()
    raise AssertionError("every int of 64 bits fits into 64 bits")


def _dump_objects(objects: list[Any], what: str, *, trusted: bool) -> bytes:
    try:
        payload = calls.encode_value(objects, trusted=trusted)
    except LocalProtocolError as error:
        raise DataError(f"A {what} cannot be handed on: {error}.", path="") from error
    sizes = [memoryview(buffer).nbytes for buffer in payload.buffers]
    head = _LENGTHS.pack(payload.kind, len(sizes), len(payload.data))
    return b"".join((head, struct.pack(f"<{len(sizes)}Q", *sizes), payload.data, *payload.buffers))


def _load_objects(data: memoryview, *, trusted: bool) -> list[Any]:
    kind, n_buffers, n_bytes = _LENGTHS.unpack_from(data)
    position = _LENGTHS.size
    sizes = struct.unpack_from(f"<{n_buffers}Q", data, position)
    position += 8 * n_buffers
    pieces = []
    for size in (n_bytes, *sizes):
        pieces.append(data[position : position + size])
        position += size
    payload = Payload(PayloadKind(kind), pieces[0], tuple(pieces[1:]))
    objects = calls.decode_value(payload, trusted=trusted)
    if not isinstance(objects, list):
        raise RemoteProtocolError("a column of a batch is not a list", peer="")
    return objects
