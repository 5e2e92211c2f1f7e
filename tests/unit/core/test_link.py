"""Reliable, ordered delivery over something that loses, repeats and reorders."""

from __future__ import annotations

from collections import deque

import pytest

from paramserver.core import link as link_module
from paramserver.core.link import (
    ACK_DELAY_S,
    ACK_EVERY,
    EARLY_MAX,
    RESEND_MAX,
    RETRANSMIT_MAX_S,
    RETRANSMIT_S,
    SLOW_BYTES_S,
    Link,
    size_bytes,
)
from paramserver.protocol.messages import (
    Goodbye,
    GrantInputs,
    GrantJobs,
    JobGrant,
    JobResult,
    JobsEnded,
    MasterMessage,
    Outcome,
    Payload,
    PayloadKind,
    ServiceCall,
    ServiceReply,
    Stop,
    WorkerMessage,
)


def word(text: object) -> WorkerMessage:
    return Goodbye(str(text))


@pytest.fixture
def link() -> Link[WorkerMessage, WorkerMessage]:  # type: ignore[type-var]
    return Link()


def test_messages_are_numbered_from_one_and_kept_until_acknowledged(link: Link) -> None:
    assert [link.send(0.0, word(text)) for text in "abc"] == [1, 2, 3]
    assert link.n_unacked == 3
    assert link.unacked == (word("a"), word("b"), word("c"))
    link.receive(0.1, 0, 2, word("x"))
    assert link.unacked == (word("c"),)
    link.receive(0.2, 0, 2, word("x"))
    assert link.n_unacked == 1
    link.receive(0.3, 0, 3, word("x"))
    assert link.n_unacked == 0
    link.receive(0.3, 0, 3, word("x"))


def test_what_comes_in_order_is_handed_on_at_once(link: Link) -> None:
    assert link.receive(0.0, 1, 0, word("a")) == (word("a"),)
    assert link.receive(0.0, 2, 0, word("b")) == (word("b"),)
    assert link.ack == 2


def test_what_comes_too_early_waits_for_its_turn(link: Link) -> None:
    assert link.receive(0.0, 3, 0, word("c")) == ()
    assert link.receive(0.0, 2, 0, word("b")) == ()
    assert (link.ack, link.n_early) == (0, 2)
    assert link.receive(0.0, 1, 0, word("a")) == (word("a"), word("b"), word("c"))
    assert (link.ack, link.n_early) == (3, 0)


def test_an_early_message_behind_a_gap_stays(link: Link) -> None:
    link.receive(0.0, 4, 0, word("d"))
    link.receive(0.0, 2, 0, word("b"))
    assert link.receive(0.0, 1, 0, word("a")) == (word("a"), word("b"))
    assert link.n_early == 1
    assert link.receive(0.0, 3, 0, word("c")) == (word("c"), word("d"))


@pytest.mark.parametrize("seq", [1, 3])
def test_what_came_before_is_dropped_and_counted(link: Link, seq: int) -> None:
    link.receive(0.0, 1, 0, word("a"))
    link.receive(0.0, 3, 0, word("c"))
    assert link.receive(0.0, seq, 0, word("again")) == ()
    assert link.n_repeated == 1
    assert link.receive(0.0, 2, 0, word("b")) == (word("b"), word("c"))


def test_more_early_messages_than_the_limit_are_dropped_and_counted(link: Link) -> None:
    for seq in range(2, EARLY_MAX + 5):
        link.receive(0.0, seq, 0, word(seq))
    assert link.n_early == EARLY_MAX
    assert link.n_gaps == 3
    assert len(link.receive(0.0, 1, 0, word(1))) == EARLY_MAX + 1


def data(n_bytes: int) -> WorkerMessage:
    return ServiceCall(1, 1, 1, "desk", "put", Payload(PayloadKind.PLAIN, bytes(n_bytes)))


def test_more_early_bytes_than_the_limit_are_dropped_and_counted(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "EARLY_BYTES", 100)
    assert link.receive(0.0, 2, 0, data(50)) == ()
    assert link.receive(0.0, 3, 0, data(51)) == ()
    assert (link.n_early, link.n_gaps) == (1, 1)
    assert link.receive(0.0, 4, 0, data(50)) == ()
    assert link.receive(0.0, 5, 0, word("no data")) == ()
    assert (link.n_early, link.n_gaps) == (3, 1)
    # Whoever has sent it sends it again; and what is next is handed on, whatever its size.
    assert link.receive(0.0, 1, 0, data(1000)) == (data(1000), data(50))
    assert link.receive(0.0, 3, 0, data(51)) == (data(51), data(50), word("no data"))
    assert (link.ack, link.n_early) == (5, 0)
    assert link.receive(0.0, 7, 0, data(100)) == (), "nothing of the others counts any more"
    assert (link.n_early, link.n_gaps) == (1, 1)


def test_what_is_outside_of_the_order_is_never_handed_on(link: Link) -> None:
    assert link.receive(0.0, 0, 0, word("x")) == ()
    assert (link.ack, link.next_deadline()) == (0, None)


def test_an_acknowledgement_waits_for_a_message_to_ride_on(link: Link) -> None:
    link.receive(1.0, 1, 0, word("a"))
    assert link.next_deadline() == 1.0 + ACK_DELAY_S
    assert not link.must_ack(1.0)
    assert link.must_ack(1.0 + ACK_DELAY_S)
    link.send(1.1, word("answer"))
    assert not link.must_ack(1.0 + ACK_DELAY_S)


def test_an_acknowledgement_waits_for_so_many_messages_at_most(link: Link) -> None:
    for seq in range(1, ACK_EVERY):
        link.receive(1.0, seq, 0, word(seq))
    assert not link.must_ack(1.0)
    link.receive(1.0, ACK_EVERY, 0, word("last"))
    assert link.must_ack(1.0)
    link.acknowledged_now()
    assert not link.must_ack(1e9)


def test_a_repeated_message_is_acknowledged_again(link: Link) -> None:
    link.receive(1.0, 1, 0, word("a"))
    link.acknowledged_now()
    link.receive(2.0, 1, 0, word("a"))
    assert link.must_ack(2.0 + ACK_DELAY_S)


def test_what_is_not_acknowledged_is_sent_again_with_doubling_waits(link: Link) -> None:
    link.send(0.0, word("a"))
    link.send(0.5, word("b"))
    assert link.next_deadline() == RETRANSMIT_S
    assert link.take_due(RETRANSMIT_S - 0.01) == ()
    now, waits = RETRANSMIT_S, []
    for _ in range(6):
        assert link.take_due(now) == ((1, word("a")), (2, word("b")))
        deadline = link.next_deadline()
        assert deadline is not None
        waits.append(deadline - now)
        now = deadline
    assert waits == [2.0, 4.0, 8.0, 16.0, RETRANSMIT_MAX_S, RETRANSMIT_MAX_S]
    assert link.n_retransmits == 12


def test_over_the_same_connection_only_the_first_few_are_sent_again(link: Link) -> None:
    for number in range(1, 100):
        link.send(0.0, word(number))
    again = link.take_due(RETRANSMIT_S)
    assert [seq for seq, _ in again] == list(range(1, RESEND_MAX + 1))


def test_where_some_were_missing_the_next_ones_follow_at_once(link: Link) -> None:
    for number in range(1, 31):
        link.send(0.0, word(number))
    link.take_due(2.0)
    link.send(2.0, word("later"))
    link.receive(2.1, 0, 16, word("x"))
    assert link.next_deadline() == 2.1
    assert [seq for seq, _ in link.take_due(2.1)] == list(range(17, 32))
    link.send(2.2, word("later still"))
    link.receive(2.3, 0, 31, word("x"))
    assert link.next_deadline() == 2.3 + RETRANSMIT_S


def test_over_a_new_connection_everything_is_sent_again(link: Link) -> None:
    for number in range(1, 100):
        link.send(0.0, word(number))
    link.resume(1.0, 0)
    assert len(link.take_due(1.0)) == 99
    assert len(link.take_due(3.0)) == RESEND_MAX


LARGE = Payload(PayloadKind.PLAIN, b"", (bytes(50_000_000),))


@pytest.mark.parametrize(
    "message",
    [
        ServiceCall(1, 1, 1, "weights", "push", LARGE),
        ServiceReply(1, True, LARGE),
        JobsEnded((JobResult(1, 1, Outcome.OK, 1, LARGE),)),
        GrantJobs((JobGrant(1, 1, Payload(PayloadKind.PLAIN, b""), (LARGE,)),)),
        GrantInputs(1, 1, (LARGE,)),
    ],
)
def test_much_data_is_given_the_time_that_a_slow_connection_needs(message: object) -> None:
    link: Link = Link()
    link.send(0.0, message)
    assert size_bytes(message) == 50_000_000  # type: ignore[arg-type]
    assert link.take_due(2.0) == ()
    assert link.next_deadline() == 2.0 + 50e6 / SLOW_BYTES_S
    assert link.take_due(12.0) == ((1, message),)
    assert link.take_due(14.0) == ((1, message),), "once"


def test_an_acknowledgement_renews_the_patience() -> None:
    link: Link = Link()
    for call in (1, 2):
        link.send(0.0, ServiceCall(call, 1, 1, "weights", "push", LARGE))
    assert link.take_due(2.0) == ()
    link.receive(9.0, 0, 1, word("x"))
    assert link.take_due(11.0) == ()
    assert link.next_deadline() == 11.0 + 50e6 / SLOW_BYTES_S


def test_an_acknowledgement_shortens_the_wait_again(link: Link) -> None:
    link.send(0.0, word("a"))
    link.send(0.0, word("b"))
    link.take_due(2.0)
    link.take_due(4.0)
    link.send(4.5, word("c"))
    link.receive(5.0, 0, 2, word("x"))
    assert link.next_deadline() == 5.0 + RETRANSMIT_S
    link.receive(6.0, 0, 3, word("x"))
    assert link.next_deadline() is None
    assert link.take_due(1e9) == ()


def test_sending_again_acknowledges_too(link: Link) -> None:
    link.send(0.0, word("a"))
    link.receive(1.9, 1, 0, word("in"))
    link.take_due(2.0)
    assert not link.must_ack(1e9)


def test_after_a_new_connection_all_that_lacks_is_due_at_once(link: Link) -> None:
    link.send(0.0, word("a"))
    link.send(0.0, word("b"))
    link.take_due(2.0)
    link.resume(3.0, 1)
    assert link.next_deadline() == 3.0
    assert link.must_ack(3.0)
    assert link.take_due(3.0) == ((2, word("b")),)
    assert link.next_deadline() == 3.0 + RETRANSMIT_S


def test_after_a_new_connection_with_nothing_lacking_only_the_state_is_told(link: Link) -> None:
    link.resume(3.0, 0)
    assert link.take_due(3.0) == ()
    assert link.must_ack(3.0)
    assert link.next_deadline() == 3.0


def test_the_earlier_of_repeat_and_acknowledgement_is_the_deadline(link: Link) -> None:
    link.send(0.0, word("a"))
    link.receive(1.9, 1, 0, word("in"))
    assert link.next_deadline() == RETRANSMIT_S
    other: Link[WorkerMessage, MasterMessage] = Link()
    other.receive(0.0, 1, 0, Stop(True))
    other.send(0.0, word("a"))
    other.receive(0.1, 2, 0, Stop(True))
    assert other.next_deadline() == 0.1 + ACK_DELAY_S


def test_what_was_left_out_when_first_sent_is_left_out_again(link: Link) -> None:
    link.send(0.0, word("a"))
    link.send(0.0, word("b"))
    link.amend(lambda message: word(message.reason.upper()))
    assert link.take_due(2.0) == ((1, word("A")), (2, word("B")))


def test_two_links_deliver_everything_once_whatever_the_network_does() -> None:
    """Every third message is lost, every fifth doubled, and each pair swapped."""
    here: Link[WorkerMessage, WorkerMessage] = Link()  # type: ignore[type-var]
    there: Link[WorkerMessage, WorkerMessage] = Link()  # type: ignore[type-var]
    sent = [word(number) for number in range(50)]
    wire = deque((here.send(0.0, message), message) for message in sent)
    got: list[WorkerMessage] = []
    now, n_carried = 0.0, 0
    while len(got) < len(sent):
        carried = list(wire)
        wire.clear()
        for index in range(0, len(carried) - 1, 2):
            carried[index], carried[index + 1] = carried[index + 1], carried[index]
        for seq, message in carried:
            n_carried += 1
            for _ in range(0 if n_carried % 3 == 0 else 2 if n_carried % 5 == 0 else 1):
                got += there.receive(now, seq, 0, message)
        now += 40.0
        here.receive(now, 0, there.ack, word("ack"))
        wire.extend(here.take_due(now + 40.0))
    assert got == sent
    assert there.n_repeated > 0
