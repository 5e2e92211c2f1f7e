"""Text with a bound: what a peer may be told of errors and last words.

Rule 1: whatever comes in, the result is at most the limit in UTF-8 bytes and can be encoded.
Rule 2: the head and the tail survive, and the cut says how much is missing.
"""

from __future__ import annotations


def bounded_text(text: str, limit_bytes: int) -> str:
    """Cut `text` in the middle so that it takes at most `limit_bytes` bytes of UTF-8.

    Parameters
    ----------
    text : str
        Anything; lone surrogates (from undecodable bytes) come out as ``\\udc80`` in letters.
    limit_bytes : int
        Bound in bytes of UTF-8, at least 64.

    Returns
    -------
    str

    Examples
    --------
    >>> bounded_text("short", 64)
    'short'
    >>> bounded_text("a" * 500 + "b" * 500, 64)
    'aaaaaaaaaaaaaa [... 972 bytes cut ...] bbbbbbbbbbbbbb'
    """
    # 4 bytes a character at most, 6 for a surrogate in letters: an early look saves encoding 10 MB.
    if len(text) > 2 * limit_bytes:
        kept_head, kept_tail = text[:limit_bytes], text[-limit_bytes:]
        n_between = len(_utf8(text[limit_bytes:-limit_bytes]))
    else:
        kept_head, kept_tail = text, ""
        n_between = 0
    encoded = _utf8(kept_head + kept_tail)
    if len(encoded) <= limit_bytes and not n_between:
        return encoded.decode()
    half = (limit_bytes - _ROOM_FOR_THE_NOTE) // 2
    head = encoded[:half].decode(errors="ignore")
    tail = encoded[len(encoded) - half :].decode(errors="ignore")
    n_cut = len(encoded) + n_between - len(head.encode()) - len(tail.encode())
    return f"{head} [... {n_cut} bytes cut ...] {tail}"


_ROOM_FOR_THE_NOTE = 36
"""Of `` [... N bytes cut ...] `` with N of up to 14 digits: more than a computer's memory."""


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
