"""A member's conversation with the master: greetings, lives, repeats."""

from __future__ import annotations

import pytest

from paramserver.core.link import ACK_DELAY_S, RETRANSMIT_S
from paramserver.core.session import (
    HELLO_AGAIN_MAX_S,
    HELLO_AGAIN_S,
    PROBE_S,
    Session,
    SessionState,
)
from paramserver.protocol.messages import Goodbye, Stop
from tests.unit.core.far_side import (
    acked,
    fenced,
    from_master,
    greeting,
    make_hello,
    refused,
    resuming,
    said,
    welcome,
)

WORD = Goodbye("word")
ORDER = Stop(drain=True)


@pytest.fixture
def session() -> Session:
    return Session("w1", "launch", make_hello)


@pytest.fixture
def inside(session: Session) -> Session:
    """A session that is in, in life 5, since time 0."""
    session.greet(0.0, resume=True)
    session.hear(0.0, *welcome())
    return session


def test_the_first_word_is_a_greeting_to_start_empty(session: Session) -> None:
    assert session.greet(0.0, resume=True) == [greeting()]
    assert session.state is SessionState.GREETING


def test_an_unanswered_greeting_is_said_again_with_growing_waits(session: Session) -> None:
    session.greet(0.0, resume=True)
    assert session.tend(HELLO_AGAIN_S / 2) == []
    now, waits = 0.0, []
    for _ in range(5):
        deadline = session.next_deadline()
        assert deadline is not None
        waits.append(deadline - now)
        now = deadline
        assert session.tend(now) == [greeting()]
    assert waits == [HELLO_AGAIN_S, 2.0, 4.0, HELLO_AGAIN_MAX_S, HELLO_AGAIN_MAX_S]


def test_a_welcome_begins_a_life_and_is_confirmed_at_once(session: Session) -> None:
    session.greet(0.0, resume=True)
    assert session.hear(0.0, *welcome(5)) == (True, [acked()], ())
    assert session.state is SessionState.IN
    assert (session.run, session.epoch, session.incarnation) == ("run", 3, 5)


def test_a_repeated_welcome_changes_nothing(inside: Session) -> None:
    inside.say(0.1, WORD)
    assert inside.hear(0.2, *welcome(5)) == (False, [], ())
    assert inside.link.n_unacked == 1


def test_a_welcome_of_a_former_life_changes_nothing(inside: Session) -> None:
    assert inside.hear(0.1, *welcome(4)) == (False, [], ())
    assert inside.incarnation == 5


def test_what_is_said_is_numbered(inside: Session) -> None:
    assert inside.say(0.0, WORD) == [said(WORD, 1)]
    assert inside.say(0.0, WORD) == [said(WORD, 2)]


def test_orders_are_delivered_once_and_in_order(inside: Session) -> None:
    assert inside.hear(0.0, *from_master(Stop(drain=False), 2)) == (False, [], ())
    assert inside.hear(0.0, *from_master(ORDER, 1)) == (False, [], (ORDER, Stop(drain=False)))
    assert inside.hear(0.0, *from_master(ORDER, 1)) == (False, [], ())


@pytest.mark.parametrize("wrong", [{"life": 4}, {"life": 6}, {"epoch": 2}, {"run": "another"}])
def test_orders_for_another_life_are_dropped(inside: Session, wrong: dict[str, object]) -> None:
    assert inside.hear(0.0, *from_master(ORDER, 1, **wrong)) == (False, [], ())  # type: ignore[arg-type]
    assert inside.link.ack == 0


def test_what_is_not_acknowledged_is_said_again(inside: Session) -> None:
    inside.say(0.0, WORD)
    inside.hear(0.1, *from_master(ORDER, 1))
    inside.say(0.1, WORD)
    inside.hear(0.2, *from_master(ORDER, 2, ack=1))
    due = 0.2 + RETRANSMIT_S
    assert inside.tend(0.2 + ACK_DELAY_S) == [acked(2)]
    assert inside.tend(due) == [said(WORD, 2, ack=2)]


def test_who_has_said_nothing_for_a_while_asks_whether_it_is_known(inside: Session) -> None:
    assert inside.next_deadline() == PROBE_S
    assert inside.tend(PROBE_S / 2) == []
    assert inside.tend(PROBE_S) == [acked()]
    assert inside.next_deadline() == 2 * PROBE_S
    inside.say(3.0, WORD)
    inside.hear(3.1, *from_master(ORDER, 0, ack=1))
    assert inside.next_deadline() == 3.0 + PROBE_S


def test_an_earlier_acknowledgement_is_the_deadline(inside: Session) -> None:
    inside.hear(0.5, *from_master(ORDER, 1))
    assert inside.next_deadline() == 0.5 + ACK_DELAY_S


def test_over_a_new_connection_the_life_is_resumed(inside: Session) -> None:
    inside.say(0.0, WORD)
    inside.hear(0.1, *from_master(ORDER, 1))
    assert inside.greet(1.0, resume=True) == [resuming(5, ack=1)]
    assert inside.say(1.0, WORD) == [], "kept until the life is resumed"
    assert inside.hear(1.1, *from_master(ORDER, 2)) == (False, [], (ORDER,)), "heard all the same"
    assert inside.hear(1.2, *welcome(5, resumed=True, ack=1)) == (
        False,
        [said(WORD, 2, ack=2)],
        (),
    )


def test_a_repeated_welcome_to_resume_sends_nothing_again(inside: Session) -> None:
    inside.say(0.0, WORD)
    inside.greet(1.0, resume=True)
    assert inside.hear(1.2, *welcome(5, resumed=True)) == (False, [said(WORD, 1)], ())
    assert inside.hear(1.3, *welcome(5, resumed=True)) == (False, [], ())


def test_an_unanswered_greeting_to_resume_is_said_again_as_such(inside: Session) -> None:
    inside.greet(1.0, resume=True)
    assert inside.tend(1.0 + HELLO_AGAIN_S) == [resuming(5)]


def test_resumed_with_nothing_lacking_it_says_how_far_it_is(inside: Session) -> None:
    inside.greet(1.0, resume=True)
    assert inside.hear(1.2, *welcome(5, resumed=True)) == (False, [acked()], ())


def test_fenced_while_in_it_tries_to_resume(inside: Session) -> None:
    assert inside.hear(1.0, *fenced(5)) == (False, [resuming(5)], ())
    assert inside.hear(1.0, *fenced(5)) == (False, [], ()), "once"


def test_a_fence_of_another_life_is_not_for_this_one(inside: Session) -> None:
    assert inside.hear(1.0, *fenced(4)) == (False, [], ())
    assert inside.state is SessionState.IN


def test_fenced_while_resuming_the_life_is_over_until_its_owner_says_so(inside: Session) -> None:
    inside.greet(1.0, resume=True)
    assert inside.hear(1.1, *fenced()) == (False, [], ())
    assert inside.state is SessionState.OVER
    assert inside.next_deadline() is None
    assert inside.tend(1e9) == []
    assert inside.say(1.2, WORD) == []
    assert inside.greet(1.3, resume=True) == [], "a new connection does not change that"
    assert inside.start_anew(1.4) == [greeting(given_up=5, run="run", epoch=3)]


def test_the_answer_to_a_first_greeting_is_no_end(session: Session) -> None:
    session.greet(0.0, resume=True)
    assert session.hear(0.1, *fenced()) == (False, [], ())
    assert session.state is SessionState.GREETING


def test_a_life_that_is_over_is_never_resumed(inside: Session) -> None:
    inside.greet(1.0, resume=True)
    inside.hear(1.1, *fenced())
    inside.start_anew(1.2)
    assert inside.hear(1.3, *welcome(5, resumed=True)) == (False, [], ())
    anew = greeting(given_up=5, run="run", epoch=3)
    assert inside.greet(1.4, resume=True) == [anew], "also not over another connection"
    assert inside.tend(9.0) == [anew]


def test_the_next_life_begins_empty_and_tells_what_was_not_delivered(inside: Session) -> None:
    inside.say(0.5, WORD)
    inside.greet(1.0, resume=True)
    inside.hear(1.1, *fenced())
    inside.start_anew(1.2)
    inside.say(1.2, Goodbye("said in between"))
    assert inside.hear(1.3, *welcome(6, token="next")) == (True, [acked(life=6)], ())
    assert inside.undelivered == (WORD, Goodbye("said in between"))
    assert inside.link.n_unacked == 0
    assert inside.greet(2.0, resume=True) == [resuming(6, token="next")]


def test_refused_it_stays_out(session: Session) -> None:
    session.greet(0.0, resume=True)
    assert session.hear(0.1, *refused()) == (False, [], ())
    assert session.state is SessionState.REFUSED
    assert session.refusal == "not you"
    assert session.next_deadline() is None
    assert session.tend(1e9) == []


def test_a_late_refusal_does_not_end_a_life(inside: Session) -> None:
    inside.hear(0.1, *refused())
    assert inside.state is SessionState.IN


def test_another_run_at_the_same_address_is_another_master(inside: Session) -> None:
    """It counts its lives from 1 again, and it does not know ours."""
    inside.greet(1.0, resume=True)
    assert inside.hear(1.1, *welcome(1, run="next", epoch=1)) == (False, [], ()), "not asked for"
    inside.hear(1.1, *fenced())
    inside.start_anew(1.2)
    reborn, _, _ = inside.hear(1.3, *welcome(1, run="next", epoch=1))
    assert reborn
    assert (inside.run, inside.epoch, inside.incarnation) == ("next", 1, 1)


def test_a_welcome_of_another_run_that_nobody_asked_for_is_dropped(inside: Session) -> None:
    assert inside.hear(1.0, *welcome(9, run="next")) == (False, [], ())
    assert inside.run == "run"


def test_after_a_success_greetings_are_said_soon_again(inside: Session) -> None:
    inside.greet(1.0, resume=True)
    for _ in range(4):
        inside.tend(inside.next_deadline() or 0.0)
    inside.hear(20.0, *welcome(5, resumed=True))
    inside.greet(30.0, resume=True)
    assert inside.next_deadline() == 30.0 + HELLO_AGAIN_S
