"""Text that is sent has a bound, and says what it lost."""

from __future__ import annotations

import re

import pytest

from paramserver.protocol.text import bounded_text


@pytest.mark.parametrize("text", ["", "short", "x" * 64, "é" * 32])
def test_text_within_the_bound_is_left_alone(text: str) -> None:
    assert bounded_text(text, 64) == text


@pytest.mark.parametrize(
    "text",
    ["x" * 65, "é" * 33, "a" * 120, "a" * 5000, "日本" * 5000, "\udc80" * 20, "\udc80" * 5000],
    ids=["65", "33 of 2 bytes", "120", "5000", "10000 of 3 bytes", "surrogates", "more of them"],
)
def test_text_above_the_bound_keeps_head_and_tail_and_counts_the_cut(text: str) -> None:
    cut = bounded_text(text, 64)

    encoded = cut.encode()
    assert len(encoded) <= 64
    found = re.fullmatch(r"(.+) \[\.\.\. (\d+) bytes cut \.\.\.\] (.+)", cut)
    assert found is not None
    head, n_cut, tail = found.groups()
    whole = text.encode("utf-8", "backslashreplace").decode()
    assert whole.startswith(head)
    assert whole.endswith(tail)
    assert int(n_cut) == len(whole.encode()) - len(head.encode()) - len(tail.encode())


def test_undecodable_bytes_come_out_as_letters() -> None:
    text = b"core \xff dumped".decode(errors="surrogateescape")

    assert bounded_text(text, 64) == "core \\udcff dumped"


def test_ten_megabytes_are_cut_to_the_bound() -> None:
    assert len(bounded_text("x" * 10_000_000, 4096).encode()) <= 4096
