"""A worker's or agent's own side of its conversation with the master. Pure.

::

    GREETING --welcome--> IN --fenced, reconnected--> GREETING (to resume)
        `----fenced while resuming----> OVER --start_anew--> GREETING (to start empty)
        `----refused----> REFUSED

Rule 1: after every new connection the first word is Hello.
Rule 2: a life is resumed as it was, or a new one starts empty; nothing is negotiated.
Rule 3: what is said while not IN is kept by the link, and goes out if the life is resumed.
Rule 4: a life that is over stays so until its owner has dropped what it held and says so; it is
        never resumed, whatever comes late.
Rule 5: numbers of lives are compared within one run only: another run is another master.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Final

from paramserver.core.commands import Say, WorkerCommand
from paramserver.core.link import Link
from paramserver.protocol.messages import (
    Ack,
    AgentHello,
    Envelope,
    Fenced,
    Hello,
    MasterMessage,
    Refused,
    Welcome,
    WorkerMessage,
)

HELLO_AGAIN_S = 1.0
HELLO_AGAIN_MAX_S = 5.0
PROBE_S = 2.0
"""A member that has said nothing for so long says an `Ack`, so that a master who has forgotten it
can tell it so. Shorter than the grace period of a suspect."""

MakeHello = Callable[[str, int, int], Hello | AgentHello]
"""(token, epoch to resume, incarnation to resume) -> the greeting."""


class SessionState(IntEnum):
    """How far the greeting is."""

    GREETING = 0
    IN = 1
    REFUSED = 2
    OVER = 3
    """The master has ended this life; `start_anew` begins the next one."""


_IN: Final = SessionState.IN
_ANSWERS: Final = frozenset((Welcome, Refused, Fenced))
"""What may be said outside of a life."""


class Session:
    """One member's conversation with the master.

    Parameters
    ----------
    name : str
        Name of the worker or agent.
    launch_token : str
        Secret that goes with the name.
    make_hello : callable
        Makes the greeting.
    """

    def __init__(self, name: str, launch_token: str, make_hello: MakeHello) -> None:
        self.name = name
        self.state = SessionState.GREETING
        self.refusal = ""
        self.run = ""
        self.epoch = 0
        self.incarnation = 0
        self.link: Link[WorkerMessage, MasterMessage] = Link()
        self._launch_token = launch_token
        self._session_token = ""
        self._make_hello = make_hello
        self._resuming = False
        self._life_is_over = False
        self._hello_at: float | None = None
        self._hello_again_s = HELLO_AGAIN_S
        self._probe_at = 0.0
        self.undelivered: tuple[WorkerMessage, ...] = ()
        """What was said in the life before this one, and may not have arrived."""

    def greet(self, now: float, *, resume: bool) -> list[WorkerCommand]:
        """Say Hello, to go on with this life or to start a new one."""
        if resume and self.state is SessionState.OVER:
            return []
        self.state = SessionState.GREETING
        self._resuming = resume and self.incarnation > 0 and not self._life_is_over
        self._hello_at = now + self._hello_again_s
        if self._resuming:
            given_up = 0
            hello = self._make_hello(self._session_token, self.epoch, self.incarnation)
        else:  # the envelope says which life, if any, this process knows to be over
            given_up = self.incarnation
            hello = self._make_hello(self._launch_token, 0, 0)
        envelope = Envelope(self.run, self.epoch, self.name, given_up, 0, self.link.ack)
        return [Say(envelope, hello)]

    def start_anew(self, now: float) -> list[WorkerCommand]:
        """Begin the next life: nothing of the one that is over is held any more."""
        return self.greet(now, resume=False)

    def say(self, now: float, message: WorkerMessage) -> list[WorkerCommand]:
        """Say something that must arrive, once and in order."""
        seq = self.link.send(now, message)
        if self.state is not _IN:
            return []
        self._probe_at = now + PROBE_S
        return [Say(self._envelope(seq), message)]

    def hear(
        self, now: float, envelope: Envelope, message: MasterMessage
    ) -> tuple[bool, list[WorkerCommand], tuple[MasterMessage, ...]]:
        """Take in a message.

        Returns
        -------
        reborn : bool
            A new life has begun: whatever the old one held is void.
        commands : list
        delivered : tuple of messages
            What can be acted upon now, in order.
        """
        if type(message) in _ANSWERS:
            return self._answered(now, envelope, message)
        if (
            envelope.run != self.run
            or envelope.epoch != self.epoch
            or envelope.incarnation != self.incarnation
        ):
            return False, [], ()
        delivered = self.link.receive(now, envelope.seq, envelope.ack, message)
        return False, [], delivered

    def _answered(
        self, now: float, envelope: Envelope, message: MasterMessage
    ) -> tuple[bool, list[WorkerCommand], tuple[MasterMessage, ...]]:
        match message:
            case Welcome(token, resumed):
                return self._welcomed(now, envelope, token, resumed=resumed)
            case Refused(reason):
                if self.state is SessionState.GREETING:
                    self.state = SessionState.REFUSED
                    self.refusal = reason
                    self._hello_at = None
                return False, [], ()
        return False, self._fenced(now, envelope), ()

    def _welcomed(
        self, now: float, envelope: Envelope, token: str, *, resumed: bool
    ) -> tuple[bool, list[WorkerCommand], tuple[MasterMessage, ...]]:
        life, known = (envelope.epoch, envelope.incarnation), (self.epoch, self.incarnation)
        if envelope.run != self.run:
            if self.state is not SessionState.GREETING or self._resuming:
                return False, [], ()  # nobody asked that master for a new life
            known = (0, 0)
        asked_for = self.state is not SessionState.IN and resumed and not self._life_is_over
        if life < known or (life == known and not asked_for):
            return False, [], ()  # an old or repeated welcome
        self.state = SessionState.IN
        self._probe_at = now + PROBE_S
        self._hello_at = None
        self._hello_again_s = HELLO_AGAIN_S
        if life == known:
            self.link.resume(now, envelope.ack)
            return False, self.tend(now), ()
        self.run = envelope.run
        self.epoch, self.incarnation = life
        self._session_token = token
        self._life_is_over = False
        self.undelivered = self.link.unacked
        self.link = Link()
        # Now the master knows that this life is real: whoever had the name before has lost it.
        return True, [Say(self._envelope(0), Ack())], ()

    def _fenced(self, now: float, envelope: Envelope) -> list[WorkerCommand]:
        if envelope.incarnation == 0:  # the answer to a Hello
            if self.state is SessionState.GREETING and self._resuming:
                self.state = SessionState.OVER
                self._life_is_over = True
                self._hello_at = None
        elif envelope.incarnation == self.incarnation and self.state is SessionState.IN:
            return self.greet(now, resume=True)
        return []

    def tend(self, now: float) -> list[WorkerCommand]:
        """Do what time demands: greet again, repeat, acknowledge."""
        if self.state is SessionState.GREETING:
            if self._hello_at is not None and now >= self._hello_at:
                self._hello_again_s = min(2 * self._hello_again_s, HELLO_AGAIN_MAX_S)
                return self.greet(now, resume=self._resuming)
            return []
        if self.state is not SessionState.IN:
            return []
        out: list[WorkerCommand] = [
            Say(self._envelope(seq), message) for seq, message in self.link.take_due(now)
        ]
        if self.link.must_ack(now) or (not out and now >= self._probe_at):
            self.link.acknowledged_now()
            out.append(Say(self._envelope(0), Ack()))
        if out:
            self._probe_at = now + PROBE_S
        return out

    def next_deadline(self) -> float | None:
        """When `tend` will have something to do."""
        if self.state is _IN:
            end = self.link.next_deadline()
            return end if end is not None and end < self._probe_at else self._probe_at
        return self._hello_at

    def _envelope(self, seq: int) -> Envelope:
        return Envelope(self.run, self.epoch, self.name, self.incarnation, seq, self.link.ack)
