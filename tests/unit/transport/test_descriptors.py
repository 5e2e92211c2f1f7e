from __future__ import annotations

import errno
import os
import resource

import pytest

from paramserver.transport import descriptors


@pytest.fixture(autouse=True)
def _limit_of_100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 4096))


def test_the_last_quarter_is_scarce() -> None:
    assert [descriptors.is_scarce(number) for number in (0, 74, 75, 99)] == [
        False,
        False,
        True,
        True,
    ]


def test_the_next_descriptor_is_told_and_given_back() -> None:
    expected = os.dup(0)
    os.close(expected)
    assert descriptors.next_descriptor(0) == expected
    assert descriptors.next_descriptor(0) == expected


def test_where_none_is_left_the_next_would_be_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "dup", none_left)
    assert descriptors.next_descriptor(0) == 100
    assert descriptors.is_scarce(descriptors.next_descriptor(0))


def test_a_closed_descriptor_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        descriptors.next_descriptor(9_999)


def test_without_a_limit_there_is_always_room(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: unlimited)
    assert not descriptors.is_scarce(1_000_000)
