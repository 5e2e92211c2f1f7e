"""A member's own side on the table: what a worker or an agent says and hears."""

from __future__ import annotations

from paramserver.core.commands import Say
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

RUN, EPOCH = "run", 3


def make_hello(token: str, epoch: int, life: int) -> Hello:
    return Hello("w1", "a", token, epoch, life, 1, "host", "", "1.0")


def make_agent_hello(token: str, epoch: int, life: int) -> AgentHello:
    return AgentHello("w1", token, epoch, life, 1, "host", 2, "1.0")


def greeting(*, given_up: int = 0, run: str = "", epoch: int = 0, ack: int = 0) -> Say:
    """The first greeting, or (`given_up`) one to start empty after that life."""
    return Say(Envelope(run, epoch, "w1", given_up, 0, ack), make_hello("launch", 0, 0))


def resuming(life: int, *, ack: int = 0, token: str = "secret") -> Say:
    return Say(Envelope(RUN, EPOCH, "w1", 0, 0, ack), make_hello(token, EPOCH, life))


def said(message: WorkerMessage, seq: int = 0, *, ack: int = 0, life: int = 5) -> Say:
    return Say(Envelope(RUN, EPOCH, "w1", life, seq, ack), message)


def acked(ack: int = 0, *, life: int = 5) -> Say:
    return said(Ack(), 0, ack=ack, life=life)


def from_master(
    message: MasterMessage,
    seq: int = 0,
    *,
    ack: int = 0,
    life: int = 5,
    run: str = RUN,
    epoch: int = EPOCH,
) -> tuple[Envelope, MasterMessage]:
    return Envelope(run, epoch, "w1", life, seq, ack), message


def welcome(
    life: int = 5,
    *,
    resumed: bool = False,
    ack: int = 0,
    run: str = RUN,
    epoch: int = EPOCH,
    token: str = "secret",
) -> tuple[Envelope, MasterMessage]:
    return from_master(Welcome(token, resumed), life=life, ack=ack, run=run, epoch=epoch)


def fenced(life: int = 0) -> tuple[Envelope, MasterMessage]:
    """An answer to a greeting (0), or to a message of that life."""
    return from_master(Fenced("unknown: say Hello"), life=life)


def refused() -> tuple[Envelope, MasterMessage]:
    return from_master(Refused("not you"), life=0)
