from __future__ import annotations

import errno
import os
import resource

import pytest

from paramserver.transport import descriptors


@pytest.fixture(autouse=True)
def _limit_of_100(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 4096))


def test_half_of_the_limit_is_kept_free() -> None:
    assert not descriptors.is_short(49)
    assert descriptors.is_short(50)


def test_the_next_descriptor_tells_and_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    monkeypatch.setattr(os, "close", closed.append)
    for newest, is_short in ((49, False), (50, True)):
        monkeypatch.setattr(os, "dup", lambda _, newest=newest: newest)
        assert descriptors.is_short_now(3) is is_short
    assert closed == [49, 50]


def test_no_descriptor_at_all_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(os, "dup", none_left)
    assert descriptors.is_short_now(3)


def test_a_closed_descriptor_is_a_mistake_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        descriptors.is_short_now(9_999)


def test_without_a_limit_it_is_never_short(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: unlimited)
    assert not descriptors.is_short(1_000_000)
