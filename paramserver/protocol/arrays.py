"""Plain values and numpy arrays as bytes that may cross any boundary.

Rule 1: an array from a peer is checked by `_check_array` before numpy or msgpack-numpy sees it:
        msgpack-numpy unpickles kind ``O``, and numpy takes raw bytes of type ``|O`` for live
        pointers. Only the exact types of `ITEM_BYTES` pass.
Rule 2: an array is an extension type of msgpack, never a map: no dictionary of a user is
        mistaken for one, whatever its keys, and `msgpack_numpy.patch` is never called.
Rule 3: an array of more than 4 KiB is a buffer of its own, copied neither out nor in.
Rule 4: numpy is imported when an array arrives, not before: jobs without arrays do not pay for it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgpack

from paramserver.errors import LocalProtocolError, RemoteProtocolError
from paramserver.protocol.messages import Buffer
from paramserver.protocol.unpacking import unpack

if TYPE_CHECKING:
    import numpy as np

ITEM_BYTES: Final = {
    "|b1": 1, "|i1": 1, "|u1": 1, "<i2": 2, "<u2": 2, "<i4": 4, "<u4": 4, "<i8": 8, "<u8": 8,
    "<f2": 2, "<f4": 4, "<f8": 8, "<c8": 8, "<c16": 16,
}  # fmt: skip
"""The array types that cross the wire, as numpy spells them, and the size of an item."""
MAX_NDIM: Final = 8
SMALL_ARRAY_BYTES: Final = 4096
"""Up to here an array travels inside the msgpack text, above as a buffer of its own."""

_TUPLE: Final = 1
"""Extension type, empty: the list that begins with it is a tuple."""
_SMALL: Final = 2
"""Extension type: what `msgpack_numpy.encode` makes of a small array or a numpy scalar."""
_LARGE: Final = 3
"""Extension type: ``[dtype, shape, index of the buffer]``."""
_TUPLE_MARK: Final = msgpack.ExtType(_TUPLE, b"")
_TUPLE_BYTES: Final = b"\xc7\x00\x01"


# --- the way out ---------------------------------------------------------------------------------


def pack_plain(value: object, buffers: list[Buffer]) -> bytes:
    """Write a plain value as bytes.

    Parameters
    ----------
    value : object
        None, bool, int of 64 bits, float, str, bytes (bytearray and memoryview arrive as bytes),
        list, tuple, dict of these; numpy scalars and arrays of the types in `ITEM_BYTES`.
    buffers : list
        Arrays above 4 KiB are appended here as memoryviews, without a copy if C-contiguous: they
        must not change until they are sent.

    Returns
    -------
    bytes

    Raises
    ------
    LocalProtocolError
        If something in the value is not plain; the error names its type and says what to do.

    Notes
    -----
    Any thread may call it.

    Examples
    --------
    >>> unpack_plain(pack_plain({"a": (1, [2.5, None])}, []))
    {'a': (1, [2.5, None])}
    """
    writer = _Writer(buffers)
    try:
        packed: bytes = msgpack.packb(value, default=writer.write, strict_types=True)
    except (ValueError, TypeError, OverflowError, BufferError) as error:
        raise LocalProtocolError(
            f"a value of type {_name(value)} cannot be sent as a plain value: {error}"
        ) from error
    return packed


class _Writer:
    """Writes what msgpack has no type for."""

    __slots__ = ("buffers",)

    def __init__(self, buffers: list[Buffer]) -> None:
        self.buffers = buffers

    def write(self, value: Any) -> Any:
        if type(value) is tuple:
            return [_TUPLE_MARK, *value]
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, (numpy.ndarray, numpy.generic)):
            return self._write_array(numpy, value)
        raise _refusal(value)

    def _write_array(self, numpy: Any, value: Any) -> msgpack.ExtType:
        import msgpack_numpy

        if isinstance(value, numpy.ndarray) and type(value) not in (numpy.ndarray, numpy.memmap):
            raise _refusal(value)
        if value.dtype.str not in ITEM_BYTES:
            raise LocalProtocolError(
                f"a numpy value of dtype {value.dtype} cannot be sent as a plain value: convert "
                f"it to one of {' '.join(ITEM_BYTES)}, for example with .astype('<f8')"
            )
        if value.ndim > MAX_NDIM:
            raise LocalProtocolError(
                f"an array of {value.ndim} dimensions cannot be sent, at most {MAX_NDIM} can: "
                "reshape it"
            )
        if value.nbytes <= SMALL_ARRAY_BYTES:
            return msgpack.ExtType(_SMALL, msgpack.packb(msgpack_numpy.encode(value)))
        flat = numpy.ascontiguousarray(value).reshape(-1).view(numpy.uint8)
        self.buffers.append(flat.data)
        about = (value.dtype.str, value.shape, len(self.buffers) - 1)
        return msgpack.ExtType(_LARGE, msgpack.packb(about))


def _refusal(value: object) -> LocalProtocolError:
    if type(value) is int:
        return LocalProtocolError(
            f"an integer of {value.bit_length()} bits cannot be sent as a plain value, 64 can: "
            "send it as a string or as bytes"
        )
    return LocalProtocolError(
        f"a value of type {_name(value)} cannot be sent as a plain value: between machines only "
        "None, bool, int, float, str, bytes, list, tuple, dict and numpy arrays of numbers travel; "
        "convert it to these, or write it to a file and send the name"
    )


def _name(value: object) -> str:
    kind = type(value)
    return (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else (f"{kind.__module__}.{kind.__qualname__}")
    )


# --- the way in ----------------------------------------------------------------------------------


def unpack_plain(data: Buffer, buffers: Sequence[Buffer] = (), *, writable: bool = False) -> Any:
    """Read what `pack_plain` wrote, trusting nothing in it.

    Parameters
    ----------
    data : bytes-like
    buffers : sequence of bytes-like
    writable : bool, default False
        By default arrays are read-only, the large ones views of `buffers` without a copy.
        With True each is the caller's own, copied only where the memory is not writable.

    Returns
    -------
    object

    Raises
    ------
    RemoteProtocolError
        If it is anything else than plain values and checked arrays.

    Notes
    -----
    Any thread may call it. An array at an odd address is copied even if read-only: kernels and
    scikit-learn refuse or crawl over unaligned data.
    """
    reader = _Reader(buffers, writable)
    # Without a tuple in it there is nothing to do a list, and a million lists need no calls.
    data = bytes(data)
    has_tuples = _TUPLE_BYTES in data
    try:
        value = unpack(
            data,
            strict_map_key=False,
            ext_hook=reader.read_extension,
            list_hook=reader.read_list if has_tuples else None,
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise RemoteProtocolError(
            f"a payload is not a plain value: {str(error) or type(error).__name__}", peer=""
        ) from error
    if reader.n_marks:
        raise RemoteProtocolError("a payload has a mark of a tuple outside of a list", peer="")
    return value


class _Reader:
    """Reads what msgpack has no type for."""

    __slots__ = ("buffers", "n_marks", "writable")

    def __init__(self, buffers: Sequence[Buffer], writable: bool) -> None:
        self.buffers = buffers
        self.writable = writable
        self.n_marks = 0

    def read_list(self, items: list[Any]) -> list[Any] | tuple[Any, ...]:
        if items and items[0] is _TUPLE_MARK:
            self.n_marks -= 1
            return tuple(items[1:])
        return items

    def read_extension(self, code: int, data: bytes) -> Any:
        if code == _TUPLE and not data:
            self.n_marks += 1
            return _TUPLE_MARK
        if code == _SMALL:
            return self._read_small(unpack(data))
        if code == _LARGE:
            return self._read_large(unpack(data))
        raise ValueError(f"extension type {code} of {len(data)} bytes is not known")

    def _read_small(self, fields: Any) -> Any:
        if type(fields) is not dict:
            raise ValueError("a small array is not a map")
        if fields.keys() == {b"nd", b"type", b"kind", b"shape", b"data"}:
            if fields[b"nd"] is not True or fields[b"kind"] != b"":
                raise ValueError(f"an array of kind {fields[b'kind']!r:.20} is not allowed")
            shape = fields[b"shape"]
        elif fields.keys() == {b"nd", b"type", b"data"} and fields[b"nd"] is False:
            shape = []
        else:
            raise ValueError("a small array has other keys than msgpack-numpy writes")
        raw = fields[b"data"]
        if type(raw) is not bytes:
            raise ValueError("the data of an array are not bytes")
        _check_array(fields[b"type"], shape, len(raw))
        import msgpack_numpy

        value = msgpack_numpy.decode(fields)
        return value.copy() if self.writable and fields[b"nd"] else value

    def _read_large(self, fields: Any) -> np.ndarray[Any, Any]:
        if type(fields) is not list or len(fields) != 3:
            raise ValueError("a large array is not a list of dtype, shape and buffer")
        dtype, shape, index = fields
        if type(index) is not int or not 0 <= index < len(self.buffers):
            raise ValueError(f"an array is in buffer {index!r:.20} of {len(self.buffers)}")
        raw = memoryview(self.buffers[index])
        _check_array(dtype, shape, raw.nbytes)
        import numpy as np

        array: np.ndarray[Any, Any] = np.ndarray(shape, dtype, raw)
        if not array.flags.aligned or (self.writable and raw.readonly):
            array = array.copy()
        array.flags.writeable = self.writable
        return array


def _check_array(dtype: Any, shape: Any, n_bytes: int) -> None:
    """Refuse what is not exactly an array of plain numbers of `n_bytes` bytes. Python only."""
    item_bytes = ITEM_BYTES.get(dtype) if type(dtype) is str else None
    if item_bytes is None:
        raise ValueError(f"an array of dtype {dtype!r:.40} is not allowed")
    if type(shape) is not list or len(shape) > MAX_NDIM:
        raise ValueError(f"an array of shape {shape!r:.80} is not allowed")
    needed = claimed = item_bytes
    for dim in shape:
        if type(dim) is not int or dim < 0:
            raise ValueError(f"an array of shape {shape!r:.80} is not allowed")
        needed *= dim
        claimed *= dim or 1
    if needed != n_bytes or claimed >> 63:
        raise ValueError(
            f"an array of shape {shape!r:.80} and dtype {dtype} takes {needed} bytes, "
            f"but {n_bytes} are there"
        )
