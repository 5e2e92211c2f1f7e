"""What the master says to its members: under which envelope, kept how long, sent again when. Pure.

Rule 1: what a member must not miss is sent by `send`, and kept by its link until it is confirmed;
        `say` is for what helps nobody later: a welcome, an acknowledgement.
Rule 2: it looks at the links only when one of them may have something, and no oftener than LINKS_S.
"""

from __future__ import annotations

from collections import Counter

from paramserver.core.commands import MasterCommand, Send
from paramserver.core.roster import Member, Roster
from paramserver.protocol.messages import Ack, Envelope, MasterMessage

LINKS_S = 0.1
"""How often the links are asked for what is due; their own waits are longer."""


class Mail:
    """The master's side of all conversations.

    Parameters
    ----------
    run : str
        Identity of the run.
    epoch : int
        Number of this master's life within the run.
    roster : Roster
    counters : Counter
    """

    def __init__(self, run: str, epoch: int, roster: Roster, counters: Counter[str]) -> None:
        self.run = run
        self.epoch = epoch
        self.due_at: float | None = None
        """When the links have to be tended; None for not before something is said."""
        self._roster = roster
        self._counters = counters

    def send(
        self, now: float, member: Member, message: MasterMessage, out: list[MasterCommand]
    ) -> None:
        """Send what must arrive: it is repeated until it has."""
        assert member.peer is not None
        seq = member.link.send(now, message)
        if self.due_at is None or now + LINKS_S < self.due_at:
            self.due_at = now + LINKS_S
        out.append(Send(member.peer, self._envelope(member, seq), message))

    def say(self, member: Member, message: MasterMessage, out: list[MasterCommand]) -> None:
        """Send something outside of the order, once."""
        assert member.peer is not None
        out.append(Send(member.peer, self._envelope(member, 0), message))

    def answer(
        self,
        peer: bytes,
        worker_id: str,
        incarnation: int,
        message: MasterMessage,
        out: list[MasterCommand],
    ) -> None:
        """Answer someone who is no member, or not the one they say."""
        envelope = Envelope(self.run, self.epoch, worker_id, incarnation, 0, 0)
        out.append(Send(peer, envelope, message))

    def tend(self, now: float, out: list[MasterCommand]) -> None:
        """Send again and acknowledge whatever is due."""
        self.due_at = None
        for member in self._roster.members():
            link = member.link
            if member.peer is None or member.suspect_until is not None:
                continue  # nobody is there to hear it
            for seq, message in link.take_due(now):
                self._counters["retransmits"] += 1
                out.append(Send(member.peer, self._envelope(member, seq), message))
            if link.must_ack(now):
                link.acknowledged_now()
                self.say(member, Ack(), out)
            end = link.next_deadline()
            if end is not None:
                self.tend_by(max(end, now + LINKS_S))

    def tend_by(self, time: float) -> None:
        """See to it that the links are looked at by then."""
        if self.due_at is None or time < self.due_at:
            self.due_at = time

    def _envelope(self, member: Member, seq: int) -> Envelope:
        ack = member.link.ack
        return Envelope(self.run, self.epoch, member.member_id, member.incarnation, seq, ack)
