"""Messages as a stream of bytes carries them, and what any transport demands of a frame. Pure.

Rule 1: a message is checked as a whole before its first byte leaves.
Rule 2: nothing is allocated for what a peer announces before it was found within the limits.
Rule 3: whatever the pieces a stream is received in, the messages are the same.

::

    [number of frames][size of frame 0][size of frame 1]...[frame 0][frame 1]...
     u32, in the order of this machine, which is the only one that ever reads it
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from paramserver.errors import LocalProtocolError, MessageTooLarge, RemoteProtocolError
from paramserver.protocol.limits import DEFAULT_LIMITS
from paramserver.protocol.messages import Buffer

MAX_FRAME_BYTES: Final = 16 * 1024 * 1024 + 128 * 1024
"""Arrays are split at 16 MiB; the rest is room for what stands around them."""
MAX_FRAMES: Final = DEFAULT_LIMITS.n_frames + 16
VIEWED_BYTES: Final = 64 * 1024
"""From here on a received frame is a view of the memory it was received into, not a copy."""

_WORD: Final = struct.Struct("=I")
_PAIR: Final = struct.Struct("=2I")
_NOTHING: Final = memoryview(b"")


def check_frame(frame: Buffer) -> int:
    """Return the size of a frame in bytes.

    Raises
    ------
    MessageTooLarge
        If it passes `MAX_FRAME_BYTES`.
    LocalProtocolError
        If it is not contiguous.
    """
    if isinstance(frame, bytes):
        n_bytes = len(frame)
    else:
        view = memoryview(frame)
        n_bytes = view.nbytes
        if not view.c_contiguous:
            raise LocalProtocolError("A frame must be one contiguous run of bytes.")
    if n_bytes > MAX_FRAME_BYTES:
        raise MessageTooLarge(
            f"A frame of {n_bytes} bytes cannot be sent: the limit is {MAX_FRAME_BYTES}. Split it.",
            size_bytes=n_bytes,
            limit_bytes=MAX_FRAME_BYTES,
        )
    return n_bytes


def check_some(frames: Sequence[Buffer]) -> None:
    """Refuse a message of nothing.

    Raises
    ------
    LocalProtocolError
        If there is no frame, or one empty one.
    """
    if not frames or (len(frames) == 1 and not frames[0]):
        raise LocalProtocolError("An empty message cannot be sent: it is the probe.")


def prefix(frames: Sequence[Buffer]) -> tuple[bytes, list[int]]:
    """Check a message; return what goes before its frames, and the sizes of these in bytes.

    Raises
    ------
    MessageTooLarge
        If a frame passes `MAX_FRAME_BYTES`.
    LocalProtocolError
        If there is nothing to send, too many frames, or one that is not contiguous.
    """
    if len(frames) == 1:
        frame = frames[0]
        size = len(frame)
        if type(frame) is not bytes or size > MAX_FRAME_BYTES:
            size = check_frame(frame)
        if size:
            return _PAIR.pack(1, size), [size]
    check_some(frames)
    if len(frames) > MAX_FRAMES:
        raise LocalProtocolError(f"A message has {MAX_FRAMES} frames at most, not {len(frames)}.")
    sizes = [check_frame(frame) for frame in frames]
    return struct.pack(f"={1 + len(sizes)}I", len(sizes), *sizes), sizes


class Assembler:
    """Puts the messages of one connection together again.

    What is received goes to `feed`; while `space` is not None, more of a large frame is missing and
    may be received straight into it, followed by `filled`. The two ways may be mixed at will.
    """

    __slots__ = ("_filled", "_frames", "_large", "_rest", "_sizes")

    def __init__(self) -> None:
        self._rest = b""
        """Received, and not yet part of a frame."""
        self._sizes: list[int] = []
        """Of the frames that the message still lacks, the last one first."""
        self._frames: list[Buffer] = []
        self._large: memoryview | None = None
        self._filled = 0

    @property
    def is_amid_message(self) -> bool:
        """Whether the stream may not end here."""
        return bool(self._rest or self._sizes)

    def space(self) -> memoryview | None:
        """Return where the missing part of a large frame belongs, or None."""
        return None if self._large is None else self._large[self._filled :]

    def filled(self, n_bytes: int) -> list[list[Buffer]]:
        """Note that so many bytes of `space` are there now; return the message if it is whole."""
        assert self._large is not None
        self._filled += n_bytes
        if self._filled < len(self._large):
            return []
        self._frames.append(self._large)
        self._large = None
        self._sizes.pop()
        # Empty frames that follow are complete as well.
        return self.feed(_NOTHING) if self._sizes else [self._take_frames()]

    def feed(self, data: memoryview) -> list[list[Buffer]]:
        """Take in what was received, by copying it; return the messages that are whole now.

        Raises
        ------
        RemoteProtocolError
            If the peer announces what is beyond the limits; the connection is of no use any more.
        """
        if not self._rest and not self._sizes and len(data) > _PAIR.size:
            # Nearly always it is one whole message of one small frame: that costs a third so.
            n_frames, size = _PAIR.unpack_from(data)
            if n_frames == 1 and _PAIR.size + size == len(data) and size < VIEWED_BYTES:
                return [[bytes(data[_PAIR.size :])]]
        messages: list[list[Buffer]] = []
        while self._large is not None:
            if not data:
                return messages
            n_bytes = min(len(data), len(self._large) - self._filled)
            self._large[self._filled : self._filled + n_bytes] = data[:n_bytes]
            messages += self.filled(n_bytes)
            data = data[n_bytes:]
        if self._rest:
            data = memoryview(self._rest + data)
        end = len(data)
        at = 0
        sizes, frames = self._sizes, self._frames
        while True:
            if not sizes:
                n_head = _head_bytes(data, at, end)
                if at + n_head > end:
                    break
                sizes += _read_sizes(data, at, n_head)
                at += n_head
            size = sizes[-1]
            if at + size > end:
                if size >= VIEWED_BYTES:
                    self._begin_large(size, data[at:])
                    at = end
                break
            if size < VIEWED_BYTES:
                frames.append(bytes(data[at : at + size]))
            else:
                frames.append(memoryview(bytearray(data[at : at + size])))
            at += size
            sizes.pop()
            if not sizes:
                messages.append(self._take_frames())
                frames = self._frames
        self._rest = bytes(data[at:])
        return messages

    def _begin_large(self, size: int, start: memoryview) -> None:
        self._large = memoryview(bytearray(size))
        self._filled = len(start)
        self._large[: self._filled] = start

    def _take_frames(self) -> list[Buffer]:
        frames, self._frames = self._frames, []
        return frames


def _head_bytes(data: memoryview, at: int, end: int) -> int:
    """Return the size of the next message's prefix, or of what must be read to know it."""
    if end - at < _WORD.size:
        return _WORD.size
    (n_frames,) = _WORD.unpack_from(data, at)
    if not 0 < n_frames <= MAX_FRAMES:
        raise RemoteProtocolError(f"a message of {n_frames} frames was announced")
    return int(_WORD.size * (1 + n_frames))


def _read_sizes(data: memoryview, at: int, n_head: int) -> list[int]:
    sizes = list(struct.unpack_from(f"={n_head // _WORD.size - 1}I", data, at + _WORD.size))
    if max(sizes) > MAX_FRAME_BYTES:
        raise RemoteProtocolError(f"a frame of {max(sizes)} bytes was announced")
    sizes.reverse()
    return sizes
