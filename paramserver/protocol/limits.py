"""How large a message may be, and what is said of one that is larger or malformed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from paramserver.errors import ConfigError, MessageTooLarge
from paramserver.protocol.messages import Payload

_KIB: Final = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a message and its parts may be, both out and in.

    Attributes
    ----------
    header_bytes : int
        Of the header frame, magic and version included.
    n_frames : int
        Raw frames after the header.
    frame_bytes : int
        Of one raw frame; a longer piece is split over several.
    inline_bytes : int
        A piece up to this size goes into the header, while `inline_budget_bytes` lasts.
    inline_budget_bytes : int
        Sum of all pieces in one header.
    gather_bytes : int
        Payload data below this size that is not in the header shares a raw frame with its
        neighbours, so that thousands of small payloads do not make thousands of frames; such a
        frame is at most 16 times as large, as the last of them that is kept keeps it all.
    message_bytes : int
        Of all raw frames together.
    array_items : int
        Of any list in the header: grants of a batch, inputs of a grant, buffers of a payload.
    string_bytes : int
        Of one string in the header; senders keep to it with `bounded_text`.
    """

    header_bytes: int = 64 * _KIB
    n_frames: int = 4096
    frame_bytes: int = 16 * _KIB * _KIB
    inline_bytes: int = 2048
    inline_budget_bytes: int = 48 * _KIB
    gather_bytes: int = 64 * _KIB
    message_bytes: int = 2 * _KIB * _KIB * _KIB
    array_items: int = 8192
    string_bytes: int = 32 * _KIB

    def __post_init__(self) -> None:
        if self.gather_bytes > self.frame_bytes:
            raise ConfigError(
                f"gather_bytes={self.gather_bytes} is above frame_bytes={self.frame_bytes}: "
                "what shares a frame has to fit into one",
                field="gather_bytes",
                value=self.gather_bytes,
            )


DEFAULT_LIMITS: Final = Limits()
SEALED_LIMITS: Final = replace(DEFAULT_LIMITS, frame_bytes=_KIB * _KIB)
"""For connections that encrypt. A frame is encrypted as a whole, and then decrypted as a whole: of
4 MB in one frame one side works while the other one waits. In pieces of 1 MiB both work at a time:
a vector of 4 MB goes there and back in 7 ms instead of 13, on two processors. Smaller pieces are
not faster, and larger messages would not fit into `n_frames`. Receivers need not know."""
PAYLOAD_BUFFERS: Final = 1024
"""Large pieces of one payload: so few that several payloads fit into one message."""


class MalformedError(Exception):
    """What is wrong with a message; becomes an error of the side at fault at the codec's door."""


def too_large(what: str, size: int, limit: int, unit: str) -> MessageTooLarge:
    return MessageTooLarge(
        f"a {what} would take {size} {unit}, the wire allows {limit}: nothing was sent; "
        "send less at a time, or put large data into files or shared memory and send names",
        size_bytes=size,
        limit_bytes=limit,
    )


def check_size(payload: Payload, what: str, limits: Limits = DEFAULT_LIMITS) -> None:
    """Make sure that a message can carry a payload.

    Raises
    ------
    MessageTooLarge
        If it cannot.
    """
    n_buffers = len(payload.buffers)
    if n_buffers > PAYLOAD_BUFFERS:
        raise too_large(what, n_buffers, PAYLOAD_BUFFERS, "arrays")
    if not n_buffers and len(payload.data) <= limits.frame_bytes:
        return
    n_bytes = payload.n_bytes
    if n_bytes > limits.message_bytes:
        raise too_large(what, n_bytes, limits.message_bytes, "bytes")
