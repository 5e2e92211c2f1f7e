"""Every transport against the check that is shipped for third parties."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from paramserver.errors import TransportError
from paramserver.testing import conformance, two_ends
from paramserver.testing.conformance import TRANSPORT_CHECKS, MasterMaker, WorkerMaker
from paramserver.transport.base import Sent
from paramserver.transport.inproc import InprocHub, InprocMasterTransport, InprocWorkerTransport
from paramserver.transport.security import load_master_keys, load_worker_keys, make_keys
from paramserver.transport.unix_master import UnixMasterTransport
from paramserver.transport.unix_worker import UnixWorkerTransport
from paramserver.transport.zmq_master import ZmqMasterTransport
from paramserver.transport.zmq_worker import ZmqWorkerTransport

Spoiler: TypeAlias = Callable[[Any], None] | None

pytestmark = pytest.mark.usefixtures("no_lending_thread")


@pytest.fixture(params=["inproc", "unix", "ipc", "tcp", "tcp on IPv6"])
def makers(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[MasterMaker, WorkerMaker]:
    if request.param == "inproc":
        hub = InprocHub()
        return lambda address: hub.bind(), lambda address: hub.connect()
    if request.param == "ipc":
        tmp_path.chmod(0o700)
        return (
            lambda address: ZmqMasterTransport.bind(f"ipc://{tmp_path}/s"),
            lambda address: ZmqWorkerTransport.connect(address),
        )
    if request.param == "unix":
        tmp_path.chmod(0o700)
        return (
            lambda address: UnixMasterTransport.bind(f"unix://{tmp_path}/s"),
            lambda address: UnixWorkerTransport.connect(address),
        )
    folder = make_keys(tmp_path / "keys")
    host = "[::1]" if "6" in request.param else "127.0.0.1"
    return (
        lambda address: ZmqMasterTransport.bind(
            address or f"tcp://{host}:0", load_master_keys(folder)
        ),
        lambda address: ZmqWorkerTransport.connect(address, load_worker_keys(folder)),
    )


@pytest.mark.parametrize("check", TRANSPORT_CHECKS, ids=lambda check: check.__name__)
def test_a_transport_keeps_its_promises(
    check: object, makers: tuple[MasterMaker, WorkerMaker]
) -> None:
    assert callable(check)
    check(*makers)


class _Hub(InprocHub):
    """A hub whose ends can be spoilt."""

    def __init__(self, spoil_master: Spoiler = None, spoil_worker: Spoiler = None) -> None:
        super().__init__()
        self.spoil_master = spoil_master
        self.spoil_worker = spoil_worker

    def bind(self) -> InprocMasterTransport:
        end = super().bind()
        if self.spoil_master is not None:
            self.spoil_master(end)
        return end

    def connect(self) -> InprocWorkerTransport:
        end = super().connect()
        if self.spoil_worker is not None:
            self.spoil_worker(end)
        return end


def _swap_frames(end: Any) -> None:
    send = end.send
    end.send = lambda peer, frames: send(peer, list(reversed(frames)))


def _glue_frames(end: Any) -> None:
    send = end.send
    end.send = lambda frames: send([b"".join(frames)])


def _take_an_empty_message(end: Any) -> None:
    send = end.send
    end.send = lambda frames: send(frames) if any(frames) else Sent.TAKEN


def _truncate_large_frames(end: Any) -> None:
    send = end.send
    end.send = lambda peer, frames: send(peer, [frame[:1_000_000] for frame in frames])


def _receive_the_newest_first(end: Any) -> None:
    receive = end.receive

    def spoilt() -> Any:
        end._inbox.reverse()
        return receive()

    end.receive = spoilt


def _repeat_messages(end: Any) -> None:
    send = end.send

    def spoilt(frames: Any) -> Sent:
        send(frames)
        answer: Sent = send(frames)
        return answer

    end.send = spoilt


def _have_no_bound(end: Any) -> None:
    end._hub.capacity = 10**9


def _lose_what_does_not_fit(end: Any) -> None:
    send = end.send

    def spoilt(peer: bytes, frames: Any) -> Sent:
        sent = send(peer, frames)
        if sent is Sent.FULL:
            end._workers[peer]._inbox.pop()
        answer: Sent = sent
        return answer

    end.send = spoilt


def _probe_visibly(end: Any) -> None:
    ask = end.is_connected

    def spoilt(peer: bytes) -> bool:
        end.send(peer, [b"are you there?"])
        return bool(ask(peer))

    end.is_connected = spoilt


def _always_say_connected(end: Any) -> None:
    end.is_connected = lambda peer: True


def _swallow_what_is_gone(end: Any) -> None:
    send = end.send

    def spoilt(peer: bytes, frames: Any) -> Sent:
        sent = send(peer, frames)
        return Sent.TAKEN if sent is Sent.GONE else sent

    end.send = spoilt


def _hide_disconnections(end: Any) -> None:
    end.take_disconnected = lambda: False


def _reuse_names(end: Any) -> None:
    end._names = iter([7] * 100)


def _hide_reconnections(end: Any) -> None:
    end.take_reconnected = lambda: False


def _queue_for_a_future_master(end: Any) -> None:
    send = end.send
    end.send = lambda frames: Sent.TAKEN if end.peer is None else send(frames)


def _forget_early_wakes(end: Any) -> None:
    poll = end.poll

    def spoilt(timeout_s: float | None) -> None:
        end._woken = False
        poll(timeout_s)

    end.poll = spoilt


def _poll_by_sleeping_on(end: Any) -> None:
    end._has_news = lambda: False


def _keep_a_descriptor(end: Any) -> None:
    end.kept = os.open("/dev/null", os.O_RDONLY)
    _KEPT.append(end.kept)


def _fear_a_late_wake(end: Any) -> None:
    wake = end.wake

    def spoilt() -> None:
        end._check_open()
        wake()

    end.wake = spoilt


_KEPT: list[int] = []


@pytest.mark.parametrize(
    ("spoil_master", "spoil_worker", "words"),
    [
        (_swap_frames, None, "frames changed on the way to the worker"),
        (None, _glue_frames, "frames changed on the way to the master"),
        (None, _take_an_empty_message, "must raise LocalProtocolError"),
        (_truncate_large_frames, None, "large frames changed on the way to the worker"),
        (_receive_the_newest_first, None, "the master received out of order"),
        (None, _receive_the_newest_first, "the worker received out of order"),
        (None, _repeat_messages, "frames changed on the way to the master"),
        (_have_no_bound, None, "were queued for a worker that does not read"),
        (_lose_what_does_not_fit, None, "did not reach the worker"),
        (_probe_visibly, None, "probes got in the way"),
        (_always_say_connected, None, "a name that was never given is connected"),
        (_swallow_what_is_gone, None, "must be GONE"),
        (_hide_disconnections, None, "take_disconnected never became true"),
        (_reuse_names, None, "the name of a lost connection was given again"),
        (None, _hide_reconnections, "the first connection must count"),
        (None, _queue_for_a_future_master, "must be FULL, not queued"),
        (_forget_early_wakes, None, "a wake before a poll must end it"),
        (None, _forget_early_wakes, "a wake before a poll must end it"),
        (_poll_by_sleeping_on, None, "did not end the master's poll"),
        (_keep_a_descriptor, None, "threads and descriptors grow"),
        (None, _fear_a_late_wake, "closed"),
    ],
)
def test_a_transport_that_breaks_a_promise_is_caught(
    spoil_master: Spoiler, spoil_worker: Spoiler, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(two_ends, "PATIENCE_S", 3.0)
    hub = _Hub(spoil_master, spoil_worker)
    try:
        with pytest.raises((AssertionError, TransportError), match=words):
            conformance.check_transport(lambda address: hub.bind(), lambda address: hub.connect())
    finally:
        while _KEPT:
            os.close(_KEPT.pop())
