"""The numbers that go between a job and the service of its training. Values only.

Near (in shared memory) they ring: the vectors lie where both sides know. From afar the same numbers
travel with the vectors.
"""

from __future__ import annotations

import struct
from typing import Any, Final

import numpy as np

from paramserver.protocol.messages import Buffer, Payload, PayloadKind
from paramserver.training.vector import FloatVector

JOIN: Final = struct.Struct("<IIB")
"""epoch, partition, whether the worker is far"""
JOINED: Final = struct.Struct("<QQIQQI")
"""ticket, incarnation, cursor, last seq of this life, version, buffer that holds the weights"""
PUSH: Final = struct.Struct("<QQIQQdIII")
"""ticket, seq (0: only pull), batch, version seen, examples, seconds that this job has computed so
far; then, for gradients of some rows: how many rows are pushed, how many are wanted, how many fit
into the slot"""
REPLY: Final = struct.Struct("<BQI")
"""verdict, version, buffer that holds the weights"""
ROUND: Final = struct.Struct("<q")
"""The number of a round."""
LINE: Final = "line"
"""Name of the socket on which the master listens for pushes."""
PIECE_BYTES: Final = 4 << 20
"""Rows of a partition sent at once: below the limit of a frame (16 MiB), and short enough that the
weights of other workers need not wait long behind it (9 ms, encrypted)."""


def payload_of(head: bytes, *vectors: FloatVector) -> Payload:
    """Return numbers and vectors as the body of a call or an answer; vectors are not copied."""
    buffers = tuple(v.reshape(-1).view(np.uint8).data for v in vectors if v.size)
    return Payload(PayloadKind.PLAIN, head, buffers)


def vector_of(buffer: Buffer, dtype: np.dtype[Any]) -> FloatVector:
    """Return the bytes of a vector as an array, without a copy where kernels can use them."""
    found: FloatVector = np.frombuffer(buffer, dtype)
    return found if found.flags.aligned else found.copy()
