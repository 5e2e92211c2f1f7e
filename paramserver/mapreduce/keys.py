"""Keys: which part a key belongs to, and which key comes first. The same in every process.

Rule 1: keys that are equal in Python (1, 1.0 and True; ``(1,)`` and ``(1.0,)``) are one key: they
        have the same hash here, and one place in the order. Bytes and text are never equal.
Rule 2: nothing depends on `hash()`, which differs from process to process.
Rule 3: the order is total over all allowed types: None, numbers, bytes, text, tuples, frozensets;
        within a type it is Python's own, where Python has one.

Allowed are None, bool, int, float, complex, bytes, str, and tuples and frozensets of these; numpy
scalars are taken for the Python values they hold. Not a number (NaN) equals nothing, not even
itself, and is refused.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from paramserver.errors import DataError

MASK64: Final = (1 << 64) - 1
# Odd constants with well mixed bits: the golden ratio, and those of the xxHash family.
MIX_1: Final = 0x9E3779B97F4A7C15
MIX_2: Final = 0xC2B2AE3D27D4EB4F
MIX_3: Final = 0x165667B19E3779F9
WORD_BYTES: Final = 16
"""Byte strings of up to this length are hashed as two integers, which numpy can do for many."""

_NONE, _NUMBER, _COMPLEX, _BYTES, _TEXT, _TUPLE, _SET = (bytes([tag]) for tag in range(1, 8))


def refusal(key: Any) -> DataError:
    """Return the error for something that cannot be a key."""
    kind = type(key)
    name = kind.__qualname__ if kind.__module__ == "builtins" else (
        f"{kind.__module__}.{kind.__qualname__}"
    )  # fmt: skip
    if isinstance(key, (float, complex, np.generic)):
        return DataError(f"{key!r} cannot be a key: it is not equal to itself.", path="")
    return DataError(
        f"A value of type {name} cannot be a key ({key!r:.80}). Keys are None, bool, int, float, "
        "complex, bytes, str, or tuples and frozensets of these; turn an array or a list into a "
        "tuple, or use its .tobytes().", path="",
    )  # fmt: skip


# --- hashes --------------------------------------------------------------------------------------


def stable_hash(key: Any) -> int:
    """Return 32 well mixed bits of a key.

    Raises
    ------
    DataError
        If the value cannot be a key.
    """
    if isinstance(key, bytes):
        return _hash_bytes(key)
    if isinstance(key, str):
        return _hash_bytes(key.encode("utf-8", "surrogatepass"))
    if isinstance(key, (int, float, complex, np.generic)):
        return _hash_number(key)
    if isinstance(key, tuple):
        hashes = [stable_hash(part) for part in key]
        return zlib.crc32(struct.pack(f"<{len(hashes)}I", *hashes), 1)
    if isinstance(key, frozenset):
        total = sum(mix(stable_hash(part), 0) for part in key)
        return mix(total & MASK64, len(key))
    if key is None:
        return mix(1, 1)
    raise refusal(key)


def mix(first: int, second: int) -> int:
    """Mix two integers of 64 bits into 32 bits; `words` has the same for arrays."""
    mixed = (first * MIX_1 & MASK64) ^ (second * MIX_2 & MASK64)
    mixed ^= mixed >> 32
    return (mixed * MIX_3 & MASK64) >> 32


def mix_arrays(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any] | None) -> Any:
    """Mix arrays of uint64 as `mix` mixes integers; `second` None stands for zeros.

    Returns
    -------
    ndarray of uint64, values below 2**32
    """
    mixed = first * np.uint64(MIX_1)
    if second is not None:
        mixed ^= second * np.uint64(MIX_2)
    mixed ^= mixed >> np.uint64(32)
    mixed *= np.uint64(MIX_3)
    mixed >>= np.uint64(32)
    return mixed


def _hash_bytes(data: bytes) -> int:
    if len(data) <= WORD_BYTES:
        padded = data.ljust(WORD_BYTES, b"\0")
        return mix(int.from_bytes(padded[:8], "big"), int.from_bytes(padded[8:], "big"))
    return zlib.crc32(data)


def _hash_number(key: Any) -> int:
    value = _as_number(key)
    if isinstance(value, int):
        if -(1 << 63) <= value < 1 << 63:
            return mix(value & MASK64, 0)
        return zlib.crc32(value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))
    if isinstance(value, float):
        return zlib.crc32(struct.pack("<d", value), 2)
    return zlib.crc32(struct.pack("<dd", value.real + 0.0, value.imag), 3)  # -0.0 equals 0.0


def _as_number(key: Any) -> int | float | complex:
    """Return the simplest Python number that equals the key."""
    if isinstance(key, np.generic):
        value = key.item()
        if not isinstance(value, (int, float, complex)):
            raise refusal(key)
        key = value
    if isinstance(key, complex) and key.imag == 0:
        key = key.real
    if isinstance(key, float) and key.is_integer():
        return int(key)
    if key != key:
        raise refusal(key)
    return int(key) if isinstance(key, int) else key  # bool and other subclasses


def stable_hashes(keys: Sequence[Any]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    """Return `stable_hash` of each key; fast where all are ints of 64 bits."""
    if set(map(type, keys)) == {int}:
        try:
            numbers = np.fromiter(keys, np.int64, len(keys))
        except OverflowError:
            pass
        else:
            mixed: np.ndarray[Any, np.dtype[np.uint64]] = mix_arrays(numbers.view(np.uint64), None)
            return mixed
    return np.fromiter(map(stable_hash, keys), np.uint64, len(keys))


# --- order ---------------------------------------------------------------------------------------


def order_key(keys: Sequence[Any]) -> Callable[[Any], Any] | None:
    """Return what to give to `sorted` as `key`; None where Python's own order is the right one."""
    return None if _in_python_order(keys) else encode


def _in_python_order(keys: Sequence[Any]) -> bool:
    kinds = set(map(type, keys))
    if len(kinds) <= 1 and kinds <= {bytes, str}:
        return True
    if kinds <= {int, bool, float}:
        return True
    if kinds == {tuple} and len(set(map(len, keys))) == 1:
        return all(map(_in_python_order, zip(*keys, strict=True)))
    return False


def encode(key: Any) -> bytes:
    """Return bytes that compare as the keys do; equal keys have equal bytes, others do not.

    Notes
    -----
    A tag for the type, then the value so that prefixes stay in order; as in the tuple layer of
    FoundationDB [1]_, but a number is its sign, its magnitude and its digits, so that ints of any
    size and floats share one order.

    References
    ----------
    .. [1] https://github.com/apple/foundationdb/blob/main/design/tuple.md
    """
    if isinstance(key, bytes):
        return _BYTES + key
    if isinstance(key, str):
        return _TEXT + key.encode("utf-8", "surrogatepass")
    if isinstance(key, (int, float, complex, np.generic)):
        value = _as_number(key)
        if isinstance(value, complex):
            return _COMPLEX + _ended(_encode_real(value.real)) + _ended(_encode_real(value.imag))
        return _NUMBER + _encode_real(value)
    if isinstance(key, tuple):
        return _TUPLE + b"".join(_ended(encode(part)) for part in key)
    if isinstance(key, frozenset):
        return _SET + b"".join(sorted(_ended(encode(part)) for part in key))
    if key is None:
        return _NONE
    raise refusal(key)


def _ended(encoded: bytes) -> bytes:
    """Mark the end, so that what follows cannot change the order."""
    return encoded.replace(b"\0", b"\0\xff") + b"\0"


def _encode_real(value: float) -> bytes:
    """Encode sign, position of the highest bit, and all bits from there on."""
    if value == 0:
        return b"\x01"
    if isinstance(value, float) and math.isinf(value):  # an int may be too large to ask
        return b"\x02\xff" if value > 0 else b"\x00\x00"
    digits, scale = abs(value).as_integer_ratio()  # scale is a power of two
    exponent = (digits.bit_length() - scale.bit_length() + (1 << 62)).to_bytes(8, "big")
    aligned = digits << (-digits.bit_length() % 8)
    mantissa = aligned.to_bytes(aligned.bit_length() // 8, "big").rstrip(b"\0")
    if value > 0:
        return b"\x02" + exponent + mantissa
    # Larger magnitudes first: complement everything, and let the end come after what goes on.
    magnitude = exponent + mantissa.replace(b"\0", b"\0\xff")
    return b"\x00" + bytes(0xFF - byte for byte in magnitude) + b"\xff\xff"
