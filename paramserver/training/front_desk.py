"""What jobs of any training ask the master: how to compute, what the plan is, rows.

Rule 1: what is a mode's own is passed on to the mode.
Rule 2: who asks what makes no sense is answered in words, and that is counted (`agreement`); any
        other error ends the training, and never the I/O thread, on which all of this happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from paramserver.core.commands import CallService
from paramserver.core.events import ServiceReplied
from paramserver.errors import ConfigError, ProtocolError
from paramserver.protocol import calls
from paramserver.protocol.messages import Payload, PayloadKind
from paramserver.runtime.internals import Internals
from paramserver.training.agreement import Agreement
from paramserver.training.far_rows import METHODS, RowsDesk
from paramserver.training.lookout import Lookout
from paramserver.training.plan import TrainingPlan
from paramserver.training.warm_up import COMPILING

NOTHING = Payload(PayloadKind.PLAIN, b"")
Answer = Callable[[CallService, float], Iterable[ServiceReplied]]


class FrontDesk:
    """Answers the calls of one training's jobs.

    Parameters
    ----------
    internals : Internals
        Of the cluster.
    plan : TrainingPlan
    agreement : Agreement
    lookout : Lookout
        Is told what the user is to know.
    answer : callable
        The mode's own; as `call`.
    fail : callable
        Ends the training with an error.

    Attributes
    ----------
    names : dict of int to str
        Of the workers, by incarnation; kept by who hears of them.

    Raises
    ------
    ConfigError
        If workers are elsewhere, and the learner cannot travel as plain data.
    """

    def __init__(
        self,
        internals: Internals,
        plan: TrainingPlan,
        agreement: Agreement,
        lookout: Lookout,
        *,
        answer: Answer,
        fail: Callable[[BaseException], None],
    ) -> None:
        self.names: dict[int, str] = {}
        self._trusted = internals.trusted
        self._plan = plan.payload(trusted=internals.trusted, ship_code=internals.ship_code)
        self._agreement = agreement
        self._lookout = lookout
        self._rows = RowsDesk(plan.rows, internals.master.post, internals.master.clock)
        self._answer = answer
        self._fail = fail

    @property
    def rows_bytes(self) -> int:
        """Of rows that were sent so far."""
        return self._rows.n_bytes

    def forget(self, incarnation: int) -> None:
        """Drop what is known of a worker whose life is over, but for its name."""
        self._agreement.trust.forget(incarnation)
        self._rows.forget(incarnation)

    def close(self) -> None:
        """Send no rows any more."""
        self._rows.close()

    def call(self, command: CallService, now: float) -> Iterable[ServiceReplied]:
        """Answer a job: now, or later by the master's `post`."""
        try:
            match command.method:
                case "agree":
                    name = self.names.get(command.incarnation, "?")
                    return (reply(command, now, self._agreement.compare(command.body, name)),)
                case "plan":
                    return (reply(command, now, self._plan),)
                case "compiles":
                    self._lookout.say(COMPILING)
                    return (reply(command, now, NOTHING),)
                case method if method in METHODS:
                    self._rows.ask(command)
                    return ()
            return self._answer(command, now)
        except (ProtocolError, ConfigError) as error:  # the fault of who called
            self._agreement.strike_caller(command.incarnation)
            return (self._refusal(command, now, error),)
        except Exception as error:  # noqa: BLE001 - it ends the training, not the master
            self._fail(error)
            return (self._refusal(command, now, error),)

    def _refusal(self, command: CallService, now: float, error: Exception) -> ServiceReplied:
        words = calls.encode_error(error, trusted=self._trusted)
        return ServiceReplied(now, command.incarnation, command.call, False, words)


def reply(command: CallService, now: float, body: Payload) -> ServiceReplied:
    """Return the answer to a job."""
    return ServiceReplied(now, command.incarnation, command.call, True, body)


def refuse(command: CallService, now: float) -> ServiceReplied:
    """Tell a job that it does not count any more."""
    nothing = Payload(PayloadKind.ERROR, b"")
    return ServiceReplied(now, command.incarnation, command.call, False, nothing)
