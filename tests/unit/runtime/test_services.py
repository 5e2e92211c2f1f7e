"""Services by name: each gets its own calls, all hear who is gone."""

from __future__ import annotations

from collections.abc import Iterable

from paramserver.core.commands import CallService
from paramserver.core.events import ServiceReplied
from paramserver.protocol.messages import Payload, PayloadKind
from paramserver.runtime.services import Services


class Echo:
    """Answers each call with its body, and the loss of a worker with a call it had held."""

    def __init__(self, held: int) -> None:
        self.held = held

    def call(self, command: CallService, now: float) -> Iterable[ServiceReplied]:
        yield ServiceReplied(now, command.incarnation, command.call, True, command.body)

    def worker_gone(self, incarnation: int, now: float) -> Iterable[ServiceReplied]:
        yield ServiceReplied(now, incarnation + 1, self.held, False, NOTHING)


NOTHING = Payload(PayloadKind.ERROR, b"")
BODY = Payload(PayloadKind.PLAIN, b"body")


def call(service: str) -> CallService:
    return CallService(3, 7, 1, 1, service, "ask", BODY)


def test_a_call_goes_to_the_service_of_its_name() -> None:
    services = Services()
    services["echo"] = Echo(1)
    assert list(services.answer(call("echo"), 5.0)) == [ServiceReplied(5.0, 3, 7, True, BODY)]


def test_a_call_of_a_service_that_is_gone_is_answered_without_words() -> None:
    services = Services()
    assert list(services.answer(call("echo"), 5.0)) == [ServiceReplied(5.0, 3, 7, False, NOTHING)]


def test_all_services_hear_of_a_worker_that_is_gone() -> None:
    services = Services()
    services["a"], services["b"] = Echo(1), Echo(2)
    assert list(services.worker_gone(8, 5.0)) == [
        ServiceReplied(5.0, 9, 1, False, NOTHING),
        ServiceReplied(5.0, 9, 2, False, NOTHING),
    ]
