from __future__ import annotations

import errno

import pytest
import zmq

from paramserver.transport.handshake import HandshakeWatch
from paramserver.transport.security import WorkerKeys

KEYS = WorkerKeys("/home/me/keys", b"s" * 40, b"p" * 40, b"m" * 40)
SUCCEEDED = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
REFUSED = int(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
BREACH = int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
CUT_SHORT = int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
DISCONNECTED = int(zmq.EVENT_DISCONNECTED)
RETRIED = int(zmq.EVENT_CONNECT_RETRIED)


@pytest.fixture(params=[KEYS, None], ids=["with keys", "without keys"])
def watch(request: pytest.FixtureRequest) -> HandshakeWatch:
    return HandshakeWatch("tcp://host:1", request.param)


@pytest.fixture
def keyed() -> HandshakeWatch:
    return HandshakeWatch("tcp://host:1", KEYS)


def test_a_connection_is_told_once(watch: HandshakeWatch) -> None:
    assert not watch.take_reconnected()
    watch.note(SUCCEEDED, 0, 0.0)
    assert watch.take_reconnected()
    assert not watch.take_reconnected()


@pytest.mark.parametrize(
    ("event", "value"),
    [(REFUSED, 400), (BREACH, int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)), (BREACH, 1)],
)
def test_a_refusal_is_told_at_once_and_only_once(
    watch: HandshakeWatch, event: int, value: int
) -> None:
    watch.note(event, value, 0.0)
    assert watch.take_failure().startswith("Cannot connect to tcp://host:1: ")
    watch.note(event, value, 1.0)
    assert watch.take_failure() == ""


def test_after_a_connection_that_worked_a_refusal_is_told_again(watch: HandshakeWatch) -> None:
    watch.note(REFUSED, 400, 0.0)
    watch.note(SUCCEEDED, 0, 1.0)
    assert watch.take_failure() == ""  # the news is overtaken
    watch.note(REFUSED, 400, 2.0)
    assert watch.take_failure() != ""


@pytest.mark.parametrize("error", [errno.EPIPE, errno.ECONNRESET])
def test_two_handshakes_ended_by_the_master_are_a_failure(
    watch: HandshakeWatch, error: int
) -> None:
    watch.note(CUT_SHORT, error, 0.0)
    assert watch.take_failure() == ""
    watch.note(CUT_SHORT, error, 0.1)
    assert watch.take_failure() != ""


def test_a_master_too_busy_to_answer_is_no_failure(watch: HandshakeWatch) -> None:
    for _ in range(100):
        watch.note(CUT_SHORT, errno.EPIPE, 0.0)
        watch.note(CUT_SHORT, errno.EAGAIN, 0.0)
    assert watch.take_failure() == ""


def test_a_master_known_to_accept_our_keys_may_go_away_in_a_handshake(
    watch: HandshakeWatch,
) -> None:
    watch.note(SUCCEEDED, 0, 0.0)
    for _ in range(10):
        watch.note(CUT_SHORT, errno.EPIPE, 0.0)
    assert watch.take_failure() == ""


def test_the_words_name_the_files_to_look_at(keyed: HandshakeWatch) -> None:
    keyed.note(REFUSED, 400, 0.0)
    assert "/home/me/keys/worker.secret" in keyed.take_failure()
    keyed.note(SUCCEEDED, 0, 0.0)
    keyed.note(BREACH, int(zmq.PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC), 0.0)
    assert "/home/me/keys/master.public" in keyed.take_failure()


def test_the_words_say_who_lacks_keys(keyed: HandshakeWatch) -> None:
    mismatch = int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
    keyed.note(BREACH, mismatch, 0.0)
    assert "the master uses no keys" in keyed.take_failure()
    bare = HandshakeWatch("tcp://host:1", None)
    bare.note(BREACH, mismatch, 0.0)
    assert "this worker has none" in bare.take_failure()
    hung_up_on = HandshakeWatch("tcp://host:1", None)
    for _ in range(2):
        hung_up_on.note(CUT_SHORT, errno.EPIPE, 0.0)
    assert "this worker has none" in hung_up_on.take_failure()


def test_no_words_hold_a_key(keyed: HandshakeWatch) -> None:
    words = repr(KEYS)
    for event, value in ((REFUSED, 400), (BREACH, 1), (CUT_SHORT, 32), (CUT_SHORT, 32)):
        fresh = HandshakeWatch("tcp://host:1", KEYS)
        fresh.note(event, value, 0.0)
        fresh.note(event, value, 0.0)
        words += fresh.take_failure()
    assert "s" * 40 not in words


def test_a_connection_that_nobody_dials_again_is_redialled(watch: HandshakeWatch) -> None:
    watch.note(SUCCEEDED, 0, 0.0)
    assert watch.redial_at_s is None
    watch.note(DISCONNECTED, 7, 10.0)
    assert watch.redial_at_s == 11.0
    watch.note_redial()
    assert watch.redial_at_s is None


@pytest.mark.parametrize("event", [RETRIED, SUCCEEDED])
def test_a_connection_that_comes_back_by_itself_is_left_alone(
    watch: HandshakeWatch, event: int
) -> None:
    watch.note(DISCONNECTED, 7, 10.0)
    watch.note(event, 0, 10.1)
    assert watch.redial_at_s is None
