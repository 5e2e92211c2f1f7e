from __future__ import annotations

import os
import select
from collections.abc import Iterator

import pytest

from paramserver.transport.bell import Bell


@pytest.fixture(params=["eventfd", "socketpair"])
def bell(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bell]:
    if request.param == "socketpair":
        monkeypatch.delattr(os, "eventfd")
    bell = Bell()
    yield bell
    bell.close()


def _is_ringing(bell: Bell) -> bool:
    return bool(select.select([bell.fileno()], [], [], 0)[0])


def test_a_ring_is_heard_until_it_is_cleared(bell: Bell) -> None:
    assert not _is_ringing(bell)
    bell.ring()
    assert _is_ringing(bell)
    bell.clear()
    assert not _is_ringing(bell)
    bell.ring()
    assert _is_ringing(bell)


def test_many_rings_are_one(bell: Bell) -> None:
    for _ in range(100_000):  # more than the buffer of a socket holds
        bell.ring()
    bell.clear()
    assert not _is_ringing(bell)


def test_a_closed_bell_writes_to_nobody(bell: Bell) -> None:
    number = bell.fileno()
    bell.close()
    reused, other = os.pipe()
    try:
        assert number in (reused, other)  # else this test shows nothing
        bell.ring()
        bell.close()
        assert not select.select([reused], [], [], 0)[0]
    finally:
        os.close(reused)
        os.close(other)
