"""Where the bytes of payloads go: into the header, or into the raw frames behind it.

Rule 1: the raw frames are one stream of bytes; a piece is the next so many of them, however the
        stream is cut into frames.
Rule 2: a large piece is a view of the memory it came from, both out and in; only a piece that was
        split for the wire is joined, once, into memory of its exact size.
Rule 3: nothing is allocated for a piece before the stream is known to hold it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

from paramserver.errors import LocalProtocolError
from paramserver.protocol.limits import Limits, MalformedError, too_large
from paramserver.protocol.messages import Buffer, Payload


class Outgoing:
    """Where the pieces of one message go: into the header while the budget lasts, else to frames.

    The raw frames are one stream of bytes to the receiver, so pieces may share a frame.
    """

    __slots__ = ("budget", "frames", "gathered", "gathered_bytes", "inline_bytes", "limits")

    def __init__(self, limits: Limits, inline_bytes: int) -> None:
        self.limits = limits
        self.inline_bytes = inline_bytes
        self.budget = limits.inline_budget_bytes
        self.frames: list[Buffer] = []
        self.gathered: list[Buffer] = []
        self.gathered_bytes = 0

    def payload(self, payload: Payload) -> tuple[Any, ...]:
        """Write ``[kind, data, *buffers]``, each piece as its bytes or as its length."""
        kind, data, buffers = payload
        if type(data) is bytes and (n := len(data)) <= self.inline_bytes and n <= self.budget:
            self.budget -= n
            written: bytes | int = data
        else:
            written = self._piece(data, self.limits.gather_bytes)
        if not buffers:
            return (kind, written)
        # A buffer of its own frame keeps the alignment that arrays want, so only tiny ones gather.
        gather = min(self.inline_bytes + 1, self.limits.gather_bytes)
        self.check_items(buffers)
        return (kind, written, *[self._piece(b, gather) for b in buffers])

    def check_items(self, items: Sequence[Any]) -> None:
        if len(items) > self.limits.array_items:
            raise too_large("list of a message", len(items), self.limits.array_items, "items")

    def _piece(self, data: Buffer, gather: int) -> bytes | int:
        view = _flat(data)
        limits = self.limits
        n = len(view)
        if not n or (n <= self.inline_bytes and n <= self.budget):
            self.budget -= n
            return bytes(view)
        if n < gather:
            if self.gathered_bytes + n > min(16 * limits.gather_bytes, limits.frame_bytes):
                self._flush()
            self.gathered.append(view)
            self.gathered_bytes += n
            return n
        self._flush()
        step = limits.frame_bytes
        if n <= step:
            self.frames.append(view)
        else:
            self.frames += [view[start : start + step] for start in range(0, n, step)]
        return n

    def _flush(self) -> None:
        if self.gathered:
            one = len(self.gathered) == 1
            self.frames.append(self.gathered[0] if one else b"".join(self.gathered))
            self.gathered = []
            self.gathered_bytes = 0

    def close(self) -> list[Buffer]:
        """Return the raw frames, after a look at the limits of the message as a whole."""
        self._flush()
        limits = self.limits
        if len(self.frames) > limits.n_frames:
            raise too_large("message", len(self.frames), limits.n_frames, "frames")
        n_bytes = sum(map(len, self.frames))
        if n_bytes > limits.message_bytes:
            raise too_large("message", n_bytes, limits.message_bytes, "bytes")
        return self.frames


def _flat(data: Buffer) -> memoryview:
    try:
        view = memoryview(data)
        if view.ndim == 1 and view.format == "B" and view.contiguous:
            return view
        return view.cast("B") if view.nbytes else memoryview(b"")
    except TypeError as error:
        raise LocalProtocolError(
            f"a payload holds {type(data).__name__}, which is not one contiguous run of bytes: "
            "give bytes, or a memoryview of a C-contiguous array"
        ) from error


class Incoming:
    """The raw frames of a message as one stream of bytes, taken piece by piece."""

    __slots__ = ("frames", "index", "offset", "rest")

    def __init__(self, frames: Sequence[Buffer], limits: Limits) -> None:
        self.frames = [memoryview(frame) for frame in frames]
        self.index = 0
        self.offset = 0
        self.rest = 0
        for frame in self.frames:
            n = frame.nbytes
            if not 0 < n <= limits.frame_bytes:
                raise MalformedError(
                    f"a raw frame has {n} bytes, allowed are 1 to {limits.frame_bytes}"
                )
            self.rest += n
        if self.rest > limits.message_bytes:
            raise MalformedError(f"{self.rest} bytes of frames, allowed are {limits.message_bytes}")

    def take(self, n: int) -> Buffer:
        """Return the next `n` bytes: a view of a frame, or a join where they span several."""
        if n > self.rest:
            raise MalformedError(f"a piece of {n} bytes is announced, {self.rest} are there")
        self.rest -= n
        frame = self.frames[self.index]
        end = self.offset + n
        size = len(frame)
        if end <= size:
            piece = frame if n == size else frame[self.offset : end]
            self._advance(end, size)
            return piece
        parts = []
        missing = n
        while missing:
            frame = self.frames[self.index]
            size = len(frame)
            end = min(size, self.offset + missing)
            parts.append(frame[self.offset : end])
            missing -= end - self.offset
            self._advance(end, size)
        return bytearray().join(parts)  # one allocation, one copy, and writable

    def _advance(self, end: int, size: int) -> None:
        if end == size:
            self.index += 1
            self.offset = 0
        else:
            self.offset = end


class NoFrames:
    """Stands for the raw frames of a message that has none."""

    rest = 0

    def take(self, n: int) -> Buffer:
        raise MalformedError(f"a piece of {n} bytes is announced, but there is no raw frame")


NO_FRAMES: Final = NoFrames()
Source: TypeAlias = Incoming | NoFrames
