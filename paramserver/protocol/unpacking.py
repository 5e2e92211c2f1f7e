"""The one door through which msgpack bytes of a peer come in.

Rule 1: a text that claims more than it holds is refused before anything is allocated for it.
Rule 2: errors are `ValueError`s or `msgpack.UnpackException`s; the caller says whose fault it was.
"""

from __future__ import annotations

from typing import Any

import msgpack

from paramserver.protocol.limits import Limits
from paramserver.protocol.messages import Buffer

_SMALL_BYTES = 1024
"""Up to here nested claims of long lists cost at most 340 * 1024 pointers: no look ahead needed."""


def unpack(data: Buffer, **options: Any) -> Any:
    """Read one msgpack value that fills `data`.

    Parameters
    ----------
    data : bytes-like
    **options
        As of `msgpack.unpackb`.

    Raises
    ------
    ValueError, msgpack.UnpackException
        If it is not exactly one value, or passes the limits among the options.

    Notes
    -----
    A list may announce 4 thousand million items in five bytes, and lists nest, so a few kilobytes
    could ask for gigabytes before the end of the text gives the lie away. A text of more than
    1 KiB is therefore walked over once without building anything.
    """
    if len(data) > _SMALL_BYTES:
        _walk(data)
    return msgpack.unpackb(data, **options)


def unpack_header(data: Buffer, limits: Limits) -> Any:
    """Read the header of a message as `unpack` does, lists as tuples, under its limits."""
    if len(data) > _SMALL_BYTES:
        _walk(data)
    return msgpack.unpackb(
        data,
        use_list=False,
        max_str_len=limits.string_bytes,
        max_bin_len=limits.header_bytes,
        max_array_len=limits.array_items,
        max_map_len=0,
        max_ext_len=0,
    )


def _walk(data: Buffer) -> None:
    walker = msgpack.Unpacker(max_buffer_size=len(data))
    walker.feed(data)
    walker.skip()
